"""The gateway over real sockets: nothing lost, everything counted, bounded, in time."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import uvloop

from engine.core.errors import LinkError
from engine.core.records import INSTRUMENT, Schema, TickKind, Ticks
from feeds.codec import Frame, decode_frame
from feeds.config import (
    FaultsConfig,
    GatewayConfig,
    LinkConfig,
    LogSourceConfig,
    SimulatorConfig,
    SpoolConfig,
)
from feeds.control_client import ControlClient
from feeds.gateway import Gateway
from feeds.link import TickReceiver
from feeds.log_reader import LogReader
from feeds.log_writer import LogWriter
from feeds.simulator.source import Simulator

DEADLINE_S = 30.0


class Engine:
    """A receiver that keeps every message."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*") -> None:
        self.receiver = TickReceiver(endpoint)
        self.messages: list[bytes] = []
        self.receiver.attach(asyncio.get_running_loop(), self._on_burst)

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.receiver.close()

    def _on_burst(
        self,
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        count: int,
        _: int,
    ) -> None:
        for at, size in zip(offsets[:count].tolist(), lengths[:count].tolist(), strict=True):
            self.messages.append(wire[at : at + size].tobytes())

    @property
    def frames(self) -> list[Frame]:
        return [decode_frame(message) for message in self.messages]

    @property
    def ticks(self) -> Ticks:
        return np.concatenate([f.records for f in self.frames if f.schema is Schema.TICK])


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await main()

    uvloop.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - bounded by run's deadline
        await asyncio.sleep(0.002)


def config(engine: Engine | None, **keys: Any) -> GatewayConfig:
    outputs = (engine.receiver.endpoint,) if engine else ()
    return GatewayConfig(
        **{
            "outputs": outputs,
            "control": "tcp://127.0.0.1:*",
            "await_output": engine is not None,
            "heartbeat_interval": "20ms",
            "stop_timeout": "5s",
            **keys,
        }
    )


def simulator(**keys: Any) -> SimulatorConfig:
    return SimulatorConfig(**{"rate": 20_000, "limit_ticks": 5000, **keys})


def check_contiguous(frames: list[Frame]) -> int:
    expected = 1
    for frame in frames:
        assert frame.first_seq == expected
        expected += len(frame.records) if frame.schema is Schema.TICK else 0
    return expected - 1


def test_every_tick_arrives_once_in_order_after_its_definitions() -> None:
    async def main() -> None:
        with Engine() as engine:
            gateway = Gateway(config(engine, source=simulator()))
            await gateway.run()
            status = gateway.status()
            await until(lambda: len(engine.messages) == status["frames"])
            frames = engine.frames
            assert frames[0].schema is Schema.INSTRUMENTS
            assert check_contiguous(frames) == status["next_seq"] - 1
            kinds = engine.ticks["kind"]
            assert (kinds != TickKind.HEARTBEAT).sum() == status["ticks"] == 5000
            assert (kinds == TickKind.HEARTBEAT).sum() == status["heartbeats"] > 5
            assert {f.epoch for f in frames} == {gateway.epoch}
            assert (np.diff(engine.ticks["ts_recv"]) >= 0).all()
            assert status["outputs"][0]["dropped_frames"] == 0

    run(main)


def test_frames_say_when_they_should_have_left_and_leave_soon_after() -> None:
    async def main() -> None:
        with Engine() as engine:
            source = simulator(rate=500, limit_ticks=300)
            gateway = Gateway(config(engine, source=source))
            await gateway.run()
            late = gateway.status()["lateness"]
            assert late["count"] == 300
            assert late["p50"] < 10_000_000
            await until(lambda: len(engine.ticks) > 300)
            assert all(f.ts_intended <= f.ts_send for f in engine.frames)
            assert any(f.ts_intended < f.ts_send for f in engine.frames)

    run(main)


def test_refused_ticks_are_counted_and_take_no_number() -> None:
    async def main() -> None:
        faults = FaultsConfig(nan=0.05, unknown_instrument=0.05)
        with Engine() as engine:
            gateway = Gateway(config(engine, source=simulator(faults=faults)))
            await gateway.run()
            status = gateway.status()
            await until(lambda: len(engine.messages) == status["frames"])
            check_contiguous(engine.frames)
            assert set(status["refused"]) == {"NAN", "NO_SIDE", "UNKNOWN_INSTRUMENT"}
            assert status["ticks"] + sum(status["refused"].values()) == 5000

    run(main)


def test_what_an_absent_engine_misses_is_dropped_oldest_first_and_counted_exactly() -> None:
    async def main() -> None:
        with Engine() as engine:
            endpoint = engine.receiver.endpoint
        keys = {"outputs": (endpoint,), "await_output": False, "ring_frames": 32}
        gateway = Gateway(config(None, source=simulator(limit_ticks=None), **keys))
        task = asyncio.create_task(gateway.run())
        await until(lambda: gateway.status()["frames"] > 100)
        with Engine(endpoint) as engine:
            await until(lambda: len(engine.messages) > 50)
            gateway.stop()
            await task
            status = gateway.status()["outputs"][0]
            await until(lambda: len(engine.messages) == status["sent_frames"])
            frames = [f for f in engine.frames if f.schema is Schema.TICK]
            assert frames[0].first_seq == status["dropped_ticks"] + 1 > 60
            for before, after in pairwise(frames):
                assert after.first_seq == before.first_seq + len(before.records)

    run(main)


def test_each_output_gets_every_frame() -> None:
    async def main() -> None:
        with Engine() as one, Engine() as two:
            outputs = (one.receiver.endpoint, two.receiver.endpoint)
            gateway = Gateway(config(one, outputs=outputs, source=simulator(limit_ticks=500)))
            await gateway.run()
            await until(lambda: len(one.messages) == len(two.messages) > 0)
            assert one.messages == two.messages

    run(main)


def test_spool_holds_the_bytes_that_were_sent(tmp_path: Path) -> None:
    async def main() -> None:
        with Engine() as engine:
            spool = SpoolConfig(directory=tmp_path)
            gateway = Gateway(config(engine, source=simulator(), spool=spool))
            await gateway.run()
            await until(lambda: len(engine.messages) == gateway.status()["frames"])
            log = gateway.status()["spool"]["path"]
            kept = [
                segment.wire[at : at + size].tobytes()
                for segment in LogReader(log).segments()
                for at, size in zip(segment.offsets, segment.lengths, strict=True)
            ]
            sent = [m for m in engine.messages if decode_frame(m).schema is Schema.TICK]
            assert [m for m in kept if decode_frame(m).schema is Schema.TICK] == sent

    run(main)


def test_spool_stays_within_its_bound_over_runs(tmp_path: Path) -> None:
    spool = SpoolConfig(directory=tmp_path, rotate_bytes=1 << 16, max_bytes=1 << 20)
    source = simulator(rate=1_000_000, limit_ticks=20_000)

    for _ in range(2):
        gateway = Gateway(config(None, source=source, spool=spool))
        run(gateway.run)
        sizes = [path.stat().st_size for path in tmp_path.glob("*/*.hql")]
        assert sum(sizes) <= spool.max_bytes
        assert gateway.status()["spool"]["pruned_bytes"] > 0


def test_control_tells_the_stream_and_the_counters() -> None:
    async def main() -> None:
        with Engine() as engine:
            source = simulator(limit_ticks=None, rate=1000)
            gateway = Gateway(config(engine, source=source, id=9))
            task = asyncio.create_task(gateway.run())
            await until(lambda: len(engine.messages) > 3)
            heard: list[int] = []
            async with ControlClient(
                LinkConfig(control=gateway.control_endpoint),
                on_instruments=lambda table, _: heard.append(len(table)),
            ) as client:
                welcome = await client.hello()
                assert (welcome.gateway, welcome.epoch) == (9, gateway.epoch)
                assert heard == [20]
                status = await client.status()
                assert (status["gateway"], status["peers"]) == (9, 1)
                gateway.stop()
                await until(lambda: not client.peer_alive)
            await task

    run(main)


def test_new_trading_day_is_defined_before_its_ticks() -> None:
    async def main() -> None:
        source = SimulatorConfig(
            universe="a-share", rate=200_000, start="2024-03-04T06:59:00Z", limit_ticks=20_000,
            longest_gap="50ms",
        )  # fmt: skip
        with Engine() as engine:
            gateway = Gateway(config(engine, source=source))
            await gateway.run()
            await until(lambda: len(engine.messages) == gateway.status()["frames"])
            defined: npt.NDArray[np.void] = np.zeros(0, INSTRUMENT)
            tables = 0
            for frame in engine.frames:
                if frame.schema is Schema.INSTRUMENTS:
                    defined, tables = frame.records, tables + 1
                    continue
                market = frame.records[frame.records["kind"] == TickKind.SNAPSHOT]
                limits = defined["limit_up"][market["instrument"]]
                assert not (market["bid"] > limits).any()
            assert tables >= 2
            times = engine.ticks["ts_recv"]
            assert (np.diff(times) >= 0).all()
            assert times[0] < 1_710_000_000 * 10**9

    run(main)


def write_log(path: Path, count: int) -> list[Ticks]:
    source = Simulator(SimulatorConfig(limit_ticks=count, batch=512))
    with LogWriter(path, source.instruments, gateway=3, epoch=77) as writer:
        batches = [batch.copy() for batch in source.batches()]
        for batch in batches:
            writer.write_ticks(batch)
    return batches


def test_a_log_is_played_again_under_new_numbers(tmp_path: Path) -> None:
    written = np.concatenate(write_log(tmp_path / "a.hql", 2000))

    async def main() -> None:
        source = LogSourceConfig(path=tmp_path / "a.hql", speed=20.0)
        with Engine() as engine:
            gateway = Gateway(config(engine, source=source))
            await gateway.run()
            await until(lambda: len(engine.messages) == gateway.status()["frames"])
            assert {f.epoch for f in engine.frames} == {gateway.epoch} != {77}
            market = engine.ticks[engine.ticks["kind"] != TickKind.HEARTBEAT]
            assert market["price"].tobytes() == written["price"].tobytes()
            assert market["ts_event"].tobytes() == written["ts_event"].tobytes()

    run(main)


def test_a_preserved_log_arrives_byte_for_byte(tmp_path: Path) -> None:
    write_log(tmp_path / "a.hql", 2000)

    async def main() -> None:
        source = LogSourceConfig(path=tmp_path / "a.hql", speed=20.0, preserve=True)
        with Engine() as engine:
            gateway = Gateway(config(engine, source=source))
            await gateway.run()
            await until(lambda: len(engine.messages) == gateway.status()["frames"])
            assert b"".join(engine.messages) == (tmp_path / "a.hql").read_bytes()
            assert gateway.epoch == 77

    run(main)


def test_a_taken_control_port_is_a_link_error() -> None:
    async def main() -> None:
        first = Gateway(config(None, source=simulator(limit_ticks=None)))
        task = asyncio.create_task(first.run())
        await until(lambda: first.status()["frames"] > 0)
        with pytest.raises(LinkError, match="cannot bind"):
            await Gateway(config(None, control=first.control_endpoint)).run()
        first.stop()
        await task

    run(main)
