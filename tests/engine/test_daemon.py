"""The engine live: a real gateway, real sockets, a real client, a real journal."""

import asyncio
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop
import zmq
from live_cases import free_endpoints, live_tree, read_health, wait_until
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from engine.composition import resolve
from engine.config import Config
from engine.core.errors import LinkError
from engine.core.reasons import Reason
from engine.daemon import Engine
from engine.risk.rules import RiskState
from feeds.gateway import Gateway
from latency.hlog_reader import read_hlog
from replay.player import Options, play

Scene = Callable[[Engine, Gateway], Awaitable[None]]


def live(tmp_path: Path, scene: Scene, **changes: Any) -> Config:
    """Run a gateway and an engine on one loop, and a scene in between."""
    config = Config.model_validate(live_tree(tmp_path, **changes))

    async def main() -> None:
        async with running_gateway(config) as gateway, Engine(resolve(config)) as engine:
            await wait_until(lambda: engine.ingest.pipeline.ticks > 0)
            await scene(engine, gateway)

    uvloop.run(main())
    return config


@asynccontextmanager
async def running_gateway(config: Config) -> AsyncIterator[Gateway]:
    gateway = Gateway(config.gateway)
    task = asyncio.create_task(gateway.run())
    try:
        yield gateway
    finally:
        gateway.stop()
        await task


def test_ticks_become_signals_in_client_and_journal(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    async def scene(engine: Engine, gateway: Gateway) -> None:
        async with connect(f"ws://127.0.0.1:{engine.stream.port}") as client:
            await client.send(orjson.dumps({"type": "subscribe", "from_seq": 1}))
            async with asyncio.timeout(30):
                while len(seen) < 5:
                    message = orjson.loads(await client.recv())
                    if message["type"] == "signal":
                        seen.append(message["signal"])

    config = live(tmp_path, scene)
    rows = sqlite3.connect(config.journal.path).execute("SELECT seq, id FROM signals ORDER BY seq")
    journaled = dict(rows.fetchall())
    assert [message["seq"] for message in seen] == [1, 2, 3, 4, 5]
    assert all(journaled[m["seq"]] == m["id"] for m in seen)


def test_what_was_live_replays_to_the_same_signals(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        await wait_until(lambda: engine.ingest.pipeline.signals >= 20)

    config = live(tmp_path, scene)
    rows = sqlite3.connect(config.journal.path).execute("SELECT id FROM signals ORDER BY seq")
    ids = [identity for (identity,) in rows]
    logs = list((tmp_path / "recordings").iterdir())
    replayed: list[str] = []
    play(logs, resolve(config), Options(keep=lambda signal: replayed.append(signal.id)))
    assert len(ids) >= 20
    assert replayed == ids


def test_health_follows_the_gateway(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        status, facts = await read_health(engine.stream.port)
        assert (status, facts["problems"]) == (200, [])
        gateway.stop()
        await wait_until(lambda: not engine.board.health().good)
        status, facts = await read_health(engine.stream.port)
        assert status == 503
        assert "the gateway is not heard" in facts["problems"]

    live(tmp_path, scene, link={"peer_timeout": "300ms", "ping_interval": "50ms"})


def test_an_operator_halts_over_the_stream_and_it_is_journaled(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        url = f"ws://127.0.0.1:{engine.stream.port}"
        command = [sys.executable, "-m", "engine.cli", "state", "halted", url]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        told, _ = await process.communicate()
        assert (process.returncode, told) == (0, b"the risk gate is halted; it was active\n")
        assert engine.ingest.pipeline.gate.state is RiskState.HALTED

    config = live(tmp_path, scene)
    rows = sqlite3.connect(config.journal.path).execute(
        "SELECT fields FROM events WHERE kind = 'operator_state'"
    )
    (fields,) = next(rows)
    assert orjson.loads(fields) == {"from": "active", "to": "halted", "by": "stream"}


def test_the_kill_switch_outlives_the_engine(tmp_path: Path) -> None:
    async def halt(engine: Engine, gateway: Gateway) -> None:
        engine.desk.set_state(RiskState.HALTED, "test")

    async def look(engine: Engine, gateway: Gateway) -> None:
        assert engine.ingest.pipeline.gate.state is RiskState.HALTED
        engine.desk.set_state(RiskState.ACTIVE, "test")

    async def look_again(engine: Engine, gateway: Gateway) -> None:
        assert engine.ingest.pipeline.gate.state is RiskState.ACTIVE

    for scene in (halt, look, look_again):
        live(tmp_path, scene)


def test_a_web_page_is_refused_unless_it_is_listed(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        url = f"ws://127.0.0.1:{engine.stream.port}"
        with pytest.raises(InvalidStatus):
            await connect(url, origin=Origin("http://evil.example"))
        async with connect(url, origin=Origin("http://desk.example")) as client:
            assert orjson.loads(await client.recv())["type"] == "welcome"

    live(tmp_path, scene, stream={"allowed_origins": ["http://desk.example"]})


def test_a_halted_engine_lets_nothing_through_and_says_so(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        engine.desk.set_state(RiskState.HALTED, "test")
        before = engine.ingest.pipeline.signals
        refusals = engine.ingest.pipeline.gate.refusals
        await wait_until(lambda: sum(refusals.values()) > 5)
        assert engine.ingest.pipeline.signals == before
        assert not engine.board.health().good

    config = live(tmp_path, scene)
    rows = sqlite3.connect(config.journal.path).execute("SELECT kind FROM events")
    assert ("operator_state",) in list(rows)


def test_a_clean_stop_is_journaled_with_its_reason_and_what_was_done(tmp_path: Path) -> None:
    seen: list[int] = []

    async def scene(engine: Engine, gateway: Gateway) -> None:
        await wait_until(lambda: engine.ingest.pipeline.signals >= 5)
        seen.append(engine.ingest.pipeline.ticks)

    config = live(tmp_path, scene)
    connection = sqlite3.connect(config.journal.path)
    rows = list(connection.execute("SELECT kind, fields FROM events ORDER BY row"))
    assert [kind for kind, _ in rows].count("engine_stopped") == 1
    facts = orjson.loads(dict(rows)["engine_stopped"])
    assert facts["reason"] == "asked to stop"
    assert facts["uptime_s"] > 0
    assert facts["ticks"] >= seen[0]
    (signals,) = connection.execute("SELECT count(*) FROM signals").fetchone()
    assert facts["signals"] == signals >= 5


def test_an_error_of_ours_halts_the_engine_and_leaves_it_up(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        pipeline = engine.ingest.pipeline
        original, pipeline.gate.check = pipeline.gate.check, None  # type: ignore[method-assign,assignment]
        await wait_until(lambda: engine.ingest.faults > 0)
        pipeline.gate.check = original  # type: ignore[method-assign]
        assert pipeline.gate.state is RiskState.HALTED
        ticks = pipeline.ticks
        await wait_until(lambda: pipeline.ticks > ticks)

    live(tmp_path, scene)


def test_garbage_on_the_data_port_is_counted_and_costs_no_tick(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        context = zmq.Context()
        stranger = context.socket(zmq.PUSH)
        stranger.setsockopt(zmq.LINGER, 0)
        assert engine.link.receiver.endpoint
        stranger.connect(engine.link.receiver.endpoint)
        for message in (b"", b"x", b"HEQ1" + bytes(60), bytes(range(256)) * 8):
            await asyncio.to_thread(stranger.send, message)
        counted = engine.ingest.decoder.count_by_name
        await wait_until(lambda: sum(v for k, v in counted().items() if k[:6] == "frame_") == 4)
        stranger.close()
        context.term()
        ticks = engine.ingest.pipeline.ticks
        await wait_until(lambda: engine.ingest.pipeline.ticks > ticks + 100)
        assert counted().get("gaps", 0) == 0

    live(tmp_path, scene)


def test_stages_are_logged_to_an_hlog(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        await wait_until(lambda: engine.ingest.pipeline.signals > 0)

    config = live(tmp_path, scene, engine={"hlog_interval": "50ms"})
    assert config.engine.hlog is not None
    totals = read_hlog(config.engine.hlog).totals()
    assert {"wire", "ingest", "compute", "gate", "publish", "total", "loop"} <= set(totals)
    assert totals["wire"].total > 100


def test_ticks_played_with_their_recorded_times_are_not_late(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        await wait_until(lambda: engine.ingest.pipeline.signals >= 5)
        refusals = engine.ingest.pipeline.gate.refusals
        assert refusals[Reason.DATA_LATE] == refusals[Reason.DATA_EXPIRED] == 0

    source = {"kind": "simulator", "rate": 2_000, "instruments": 5, "times": "market"}
    live(tmp_path, scene, gateway={"source": source})


def test_a_second_engine_on_the_same_port_is_refused(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        tree = live_tree(tmp_path / "other")
        tree["link"] = engine.config.link.model_dump()
        second = Engine(resolve(Config.model_validate(tree)))
        with pytest.raises(LinkError, match="cannot listen"):
            await second.__aenter__()

    live(tmp_path, scene)


def test_endpoints_for_tests_are_free() -> None:
    assert len(set(free_endpoints(3))) == 3
