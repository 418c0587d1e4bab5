"""An operator's command holds at once and is answered when a killed engine would remember it."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop
from live_cases import live_tree, wait_until

from engine.composition import resolve
from engine.config import Config
from engine.core.errors import StreamError
from engine.daemon import Engine
from engine.operating import operate, set_state
from engine.reload import Sources
from engine.risk.rules import RiskState
from engine.stream_messages import Operate, SetState

Scene = Callable[[Engine, Path], Awaitable[None]]
FILE = "[link]\n"


def run(tmp_path: Path, scene: Scene, **journal: Any) -> None:
    """Play a scene against an engine that no gateway speaks to."""
    path = tmp_path / "journal.db"
    file = tmp_path / "heqis.toml"
    file.write_text(FILE, encoding="utf-8")
    tree = live_tree(tmp_path, journal={"path": path, "busy_timeout": "1ms", **journal})
    config = Config.model_validate(tree)

    async def main() -> None:
        async with asyncio.timeout(60), Engine(resolve(config), Sources((file,))) as engine:
            await scene(engine, path)

    uvloop.run(main())


def url_of(engine: Engine) -> str:
    return f"ws://127.0.0.1:{engine.stream.port}"


def committed(path: Path, kind: str) -> list[dict[str, Any]]:
    """Return the fields of the events that another process finds on the disk now."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT fields FROM events WHERE kind = ?", (kind,))
        return [orjson.loads(fields) for (fields,) in rows]


def test_a_halt_holds_at_once_and_is_answered_when_it_is_committed(tmp_path: Path) -> None:
    async def scene(engine: Engine, path: Path) -> None:
        await engine.journal.flush()
        asking = asyncio.create_task(set_state(url_of(engine), SetState("halted")))
        await wait_until(lambda: engine.ingest.pipeline.gate.state is RiskState.HALTED)
        assert not asking.done()
        assert committed(path, "operator_state") == []
        answer = await asking
        assert committed(path, "operator_state") == [
            {"from": "active", "to": "halted", "by": "stream"}
        ]
        assert (answer.previous, answer.problem) == ("active", "")

    run(tmp_path, scene, commit_interval="300ms")


def test_a_journal_that_cannot_be_written_is_told_in_the_answer(tmp_path: Path) -> None:
    async def scene(engine: Engine, path: Path) -> None:
        await engine.journal.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            answer = await set_state(url_of(engine), SetState("halted"))
            assert engine.ingest.pipeline.gate.state is RiskState.HALTED
            assert "not journaled" in answer.problem
            assert "locked" in answer.problem
            with pytest.raises(StreamError, match=r"carried out, but .* not journaled"):
                await operate(url_of(engine), Operate("reload"))
            intruder.execute("ROLLBACK")
        answer = await set_state(url_of(engine), SetState("halted"))
        assert answer.problem == ""

    run(tmp_path, scene)


def test_a_journal_without_room_is_told_in_the_answer(tmp_path: Path) -> None:
    async def scene(engine: Engine, path: Path) -> None:
        await engine.journal.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            while engine.journal.accepting:
                engine.journal.append_event("operator_command", {}, 1)
            answer = await set_state(url_of(engine), SetState("halted"))
            intruder.execute("ROLLBACK")
        assert engine.ingest.pipeline.gate.state is RiskState.HALTED
        assert answer.problem.endswith("the journal has no room")

    run(tmp_path, scene, max_queued=8)


def test_a_reload_is_answered_when_it_is_committed(tmp_path: Path) -> None:
    async def scene(engine: Engine, path: Path) -> None:
        await operate(url_of(engine), Operate("reload"))
        (told,) = committed(path, "reload")
        assert told["by"] == "stream"

    run(tmp_path, scene, commit_interval="300ms")
