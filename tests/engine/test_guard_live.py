"""The engine live: peers that fall silent, budgets that run out, a gateway that asks."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop
from live_cases import live_tree, wait_until

from engine.budget_ladder import BudgetReading
from engine.composition import resolve
from engine.config import Config
from engine.core.errors import ConfigError
from engine.daemon import Engine
from engine.exit_status import ExitStatus
from engine.risk.rules import RiskState
from feeds.gateway import Gateway

Scene = Callable[[Engine, Gateway], Awaitable[None]]
S = 1_000_000_000
LINK = {"peer_timeout": "300ms", "ping_interval": "50ms"}
PATIENT = {**LINK, "peer_timeout": "5s"}
"""What ends sooner was said, not found out."""


def live(tmp_path: Path, scene: Scene, *, link: Mapping[str, Any] = LINK, **changes: Any) -> Config:
    """Run a gateway and an engine on one loop, and a scene in between."""
    gateway_keys = {"events": tmp_path / "gateway.jsonl", "peer_timeout": "300ms"}
    tree = live_tree(tmp_path, link=link, **changes)
    tree["gateway"] |= gateway_keys
    config = Config.model_validate(tree)

    async def main() -> None:
        gateway = Gateway(config.gateway)
        running = asyncio.create_task(gateway.run())
        try:
            async with Engine(resolve(config)) as engine:
                await wait_until(lambda: engine.ingest.pipeline.ticks > 0)
                await wait_until(lambda: engine.guard.status()["gateway_heard"])
                await scene(engine, gateway)
        finally:
            gateway.stop()
            await running

    uvloop.run(main())
    return config


def events(config: Config, kind: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(config.journal.path)) as journal:
        rows = journal.execute("SELECT fields FROM events WHERE kind = ? ORDER BY rowid", (kind,))
        return [orjson.loads(fields) for (fields,) in rows]


def told_by_gateway(tmp_path: Path) -> list[dict[str, Any]]:
    file = tmp_path / "gateway.jsonl"
    return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def test_a_gateway_that_says_goodbye_is_lost_by_decision(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        gateway.stop()
        await wait_until(lambda: engine.guard.status()["gateway_losses"] == 1)
        assert engine.guard.wrong() == "", "that is no reason to doubt ourselves"

    (lost,) = events(live(tmp_path, scene, link=PATIENT), "peer_lost")
    assert (lost["peer"], lost["said_goodbye"]) == ("gateway", True)


def test_an_engine_that_parts_is_not_missed(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        await engine.link.control.leave(returns=False)
        await wait_until(lambda: gateway.status()["guard"]["peers"] == {})

    live(tmp_path, scene)
    kinds = [one["kind"] for one in told_by_gateway(tmp_path)]
    assert kinds == ["peer_parted"]


def test_an_engine_that_means_to_be_back_is_missed(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        await engine.link.control.leave(returns=True)
        assert engine.board.control is not None
        await engine.board.control.__aexit__(None, None, None)
        await wait_until(lambda: gateway.status()["guard"]["losses"] == 1)
        assert gateway.status()["guard"]["problems"] == ["engine engine is not heard"]

    live(tmp_path, scene)
    assert [one["kind"] for one in told_by_gateway(tmp_path)] == ["peer_lost"]


def test_an_engine_that_is_asked_to_begin_anew_ends_with_that_status(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        assert gateway._ask_restart() == 1
        async with asyncio.timeout(10):
            assert await engine.guard.ended is ExitStatus.RESTART
        assert engine.guard.why == "asked to begin anew: the gateway found it silent"

    (asked,) = events(live(tmp_path, scene), "restart_asked")
    assert asked["by"] == "gateway"


def test_what_an_operator_does_during_a_restart_is_journaled_too(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        judge, sink = engine.ingest.pipeline.judge, engine.restart.sink
        live, judge.sink, sink.replaying = judge.sink, sink, True
        with pytest.raises(ConfigError):
            await engine.desk.reloader.reload("night-desk")
        judge.sink = live

    (refused,) = events(live(tmp_path, scene), "reload_refused")
    assert refused["by"] == "night-desk"


def readings(level: float) -> list[BudgetReading]:
    return [BudgetReading("memory_frac", level, (0.6, 0.7, 0.8))]


def test_budgets_leave_out_the_least_important_and_take_them_back(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        budgets, pipeline = engine.guard.budgets, engine.ingest.pipeline
        least = pipeline.symbols[0]
        budgets.config = budgets.config.model_copy(update={"least_important": (least,)})
        enabled = pipeline.kernel.enabled
        assert enabled[0, :5].tolist() == [1, 1, 1, 1, 1]
        base = 10**15
        for at in range(5):
            budgets.look(base + at * S, readings(0.75))
        assert budgets.status()["level"] == "fewer_instruments"
        assert enabled[0, :5].tolist() == [0, 1, 1, 1, 1]
        assert engine.board.health().facts["problems"] == ["budget: fewer instruments"]
        assert engine.board.status()["guard"]["budgets"]["left_out"] == 1
        for at in range(5, 80):
            budgets.look(base + at * S, readings(0.1))
        assert budgets.status()["level"] == "normal"
        assert enabled[0, :5].tolist() == [1, 1, 1, 1, 1]

    config = live(tmp_path, scene, budgets={"check_interval": "1h"})
    steps = [(one["from"], one["to"]) for one in events(config, "budget")]
    assert steps == [
        ("normal", "fewer_instruments"),
        ("fewer_instruments", "smaller_batches"),
        ("smaller_batches", "normal"),
    ]
    (out,) = events(config, "instruments_left_out")
    (back,) = events(config, "instruments_taken_back")
    assert out == back
    assert out["count"] == 1


def test_a_spent_budget_halts_and_ends_the_engine_by_decision(tmp_path: Path) -> None:
    async def scene(engine: Engine, gateway: Gateway) -> None:
        async with asyncio.timeout(20):
            assert await engine.guard.ended is ExitStatus.BUDGET
        assert engine.ingest.pipeline.gate.state is RiskState.HALTED
        assert "memory_frac" in engine.guard.why

    budgets = {"memory_frac": [1e-9, 2e-9, 3e-9], "hold": "100ms", "check_interval": "50ms"}
    config = live(tmp_path, scene, budgets=budgets)
    assert events(config, "budget")[-1]["to"] == "halt"
    assert "budget used up: memory_frac" in events(config, "halted")[0]["reason"]


def test_a_halt_by_a_fault_stays_until_an_operator_ends_it(tmp_path: Path) -> None:
    async def fail(engine: Engine, gateway: Gateway) -> None:
        engine.desk.halt("a test of faults")

    async def resume(engine: Engine, gateway: Gateway) -> None:
        assert engine.ingest.pipeline.gate.state is RiskState.HALTED
        engine.desk.set_state(RiskState.ACTIVE, "night-desk")

    async def look(engine: Engine, gateway: Gateway) -> None:
        assert engine.ingest.pipeline.gate.state is RiskState.ACTIVE

    live(tmp_path, fail)
    config = live(tmp_path, resume)
    (told,) = events(config, "state_restored")
    assert told == {"state": "halted", "by": "a fault", "reason": "a test of faults"}
    config = live(tmp_path, look)
    assert len(events(config, "state_restored")) == 1
    assert [one["to"] for one in events(config, "operator_state")] == ["halted", "active"]


@pytest.mark.parametrize("limits", [[0.8, 0.7, 0.6], [0.1, 0.2], "much"])
def test_limits_that_are_no_ladder_are_refused(limits: object) -> None:
    with pytest.raises(ValueError, match="memory_frac"):
        Config.model_validate({"budgets": {"memory_frac": limits}})
