"""Recording what a gateway publishes."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
import zmq

from engine.core.errors import LogError
from feeds.config import GatewayConfig, LinkConfig, SimulatorConfig, SpoolConfig
from feeds.gateway import Gateway
from feeds.log_reader import LogReader
from feeds.log_verify import verify
from feeds.recording import RecordLimits, record
from feeds.simulator.to_log import write_simulated_log


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await main()

    uvloop.run(bounded())


def endpoints(tmp_path: Path) -> dict[str, str]:
    return {"data": f"ipc://{tmp_path}/data", "control": f"ipc://{tmp_path}/control"}


def make_gateway(tmp_path: Path, **source: Any) -> Gateway:
    ends = endpoints(tmp_path)
    return Gateway(
        GatewayConfig(
            outputs=(ends["data"],),
            control=ends["control"],
            await_output=True,
            source=SimulatorConfig(**{"rate": 20_000, **source}),
            spool=SpoolConfig(directory=tmp_path / "spool"),
        )
    )


def frames_of(log: Path) -> list[bytes]:
    return [
        segment.wire[at : at + size].tobytes()
        for segment in LogReader(log).segments()
        for at, size in zip(segment.offsets, segment.lengths, strict=True)
    ]


def test_a_recording_holds_exactly_what_was_sent_until_the_limit(tmp_path: Path) -> None:
    log = tmp_path / "out.hql"
    link = LinkConfig(**endpoints(tmp_path))

    async def main() -> None:
        gateway = make_gateway(tmp_path)
        task = asyncio.create_task(gateway.run())
        summary = await record(link, log, RecordLimits(ticks=3000))
        gateway.stop()
        await task
        assert 3000 <= summary["ticks"] < 3300
        assert (summary["gaps"], summary["instruments"]) == (0, 20)

    run(main)
    recorded = frames_of(log)
    (spool,) = (tmp_path / "spool").iterdir()
    assert set(recorded) <= {*frames_of(spool), recorded[0]}
    assert verify(log).ok


def test_a_recording_waits_for_its_gateway_and_ends_in_time(tmp_path: Path) -> None:
    log = tmp_path / "out.hql"
    link = LinkConfig(**endpoints(tmp_path))

    async def main() -> None:
        recording = asyncio.create_task(record(link, log, RecordLimits(seconds=0.3)))
        gateway = make_gateway(tmp_path)
        task = asyncio.create_task(gateway.run())
        summary = await recording
        assert summary["ticks"] > 100
        gateway.stop()
        await task

    run(main)


def test_rotation_makes_segments_that_read_as_one(tmp_path: Path) -> None:
    log = tmp_path / "out.hql"
    link = LinkConfig(**endpoints(tmp_path))

    async def main() -> None:
        gateway = make_gateway(tmp_path)
        task = asyncio.create_task(gateway.run())
        await record(link, log, RecordLimits(ticks=5000, rotate_bytes=100_000))
        gateway.stop()
        await task

    run(main)
    assert len(list(log.iterdir())) > 2
    assert verify(log).ok


def test_garbage_on_the_link_is_counted_and_left_out(tmp_path: Path) -> None:
    log = tmp_path / "out.hql"
    link = LinkConfig(**endpoints(tmp_path))

    async def main() -> None:
        with zmq.Context() as context, context.socket(zmq.PUSH) as stranger:
            stranger.linger = 0
            stranger.immediate = True  # sent is what a connection took
            stranger.connect(link.data)
            recording = asyncio.create_task(record(link, log, RecordLimits(ticks=2000)))
            sent = 0
            while sent < 5:
                try:
                    stranger.send(b"\x00" * 200, zmq.NOBLOCK)
                    sent += 1
                except zmq.Again:
                    await asyncio.sleep(0.001)
            gateway = make_gateway(tmp_path)
            task = asyncio.create_task(gateway.run())
            summary = await recording
        gateway.stop()
        await task
        assert summary["left_out"].get("frame_bad_magic", 0) >= 1

    run(main)
    assert verify(log).ok


def test_an_existing_log_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "out.hql").write_bytes(b"precious")

    async def main() -> None:
        with pytest.raises(LogError, match="exists already"):
            await record(LinkConfig(**endpoints(tmp_path)), tmp_path / "out.hql", RecordLimits())

    run(main)


def test_simulated_logs_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    config = SimulatorConfig(universe="a-share", limit_ticks=200_000)
    made = [write_simulated_log(config, tmp_path / name) for name in ("a.hql", "b.hql")]
    assert made[0]["ticks"] == made[0]["ticks_in"] == 200_000
    assert (tmp_path / "a.hql").read_bytes() == (tmp_path / "b.hql").read_bytes()
    reader = LogReader(tmp_path / "a.hql")
    ticks = sum(len(batch.ticks) for batch in reader.batches())
    assert ticks == 200_000
    assert np.isfinite(reader.instruments["limit_up"]).all()
