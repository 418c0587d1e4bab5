"""Live engines with a model, on real sockets and real bundles, and what must hold of each.

``run_session`` plays a scene against a live engine, then checks what no model may ever break: every
tick was taken, no tick was lost, the loop did not stall, and the rules' signals are those of an
engine without models.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import orjson
import uvloop
from bundle_cases import make_bundle, make_draft
from live_cases import wait_until
from live_feed import FRAME_TICKS, HandFeed, feed_tree, takes
from tiny_models import MLP_SHAPE, random_windows
from websockets.asyncio.client import ClientConnection, connect

from engine.composition import Blueprint, resolve
from engine.config import Config
from engine.core.signals import Signal
from engine.daemon import Engine
from runtime.bundle import Bundle
from runtime.bundle_writer import write_bundle
from runtime.manifest import Clock

MS: Final = 10**6
STALL_BUDGET_NS: Final = 100 * MS
"""Well below the shortest fault, ``late`` with 200 ms, and above what a busy machine does alone."""
EVERY_TRADE: Final = Clock(kind="every_trade")
BY_MODEL: Final = ("scored", "asks")
MACD: Final = {"rule": "macd_cross", "on": "trade", "params": {"fast": 2, "slow": 3, "signal": 2}}
THREADED: Final = {"inline_below": 0}
INLINE: Final = {"inline_below": "1s"}


def trade_bundle(path: Path, **changes: Any) -> Bundle:
    """Write the bundle of a small MLP that scores windows of trades."""
    return make_bundle(path, clock=EVERY_TRADE, **changes)


def model_tree(tmp_path: Path, bundle: Path, **changes: Any) -> dict[str, Any]:
    """Return a configuration with a rule, a rule that a model confirms, and the model's own.

    Args:
        tmp_path: For journal and recording.
        bundle: The model's bundle.
        changes: Keys of the model; a dictionary named ``inference``, ``risk`` or ``engine`` is
            that section's.
    """
    sections = {name: changes.pop(name, {}) for name in ("inference", "engine")}
    tree = feed_tree(tmp_path, engine={"stall_budget": STALL_BUDGET_NS, **sections["engine"]})
    tree["link"] = {name: f"ipc://{tmp_path}/{name}" for name in ("data", "control")}
    tree["risk"]["cost"] = {"check_edge": False}
    tree["strategies"] = [
        {"name": "rule", **MACD},
        {"name": "scored", "model": "tiny", "params": {"min_probability": 0.0}},
        {"name": "asks", **MACD, "confirm": "tiny", "confirm_min": 0.3},
    ]
    shown = {"deadline": "2s", "check_share": 0.0, **changes}
    tree["models"] = [{"name": "tiny", "bundle": bundle, "on": "trade", **shown}]
    tree["inference"] = {
        "probe_interval": "50ms", "timeout": "400ms", "allow_faults": True, **sections["inference"],
    }  # fmt: skip
    return tree


def without_models(tree: dict[str, Any]) -> Blueprint:
    """Return the same engine without models."""
    rules = [one for one in tree["strategies"] if not {"model", "confirm"} & one.keys()]
    bare = {**tree, "strategies": rules}
    del bare["models"], bare["inference"]
    return resolve(Config.model_validate(bare))


class Session:
    """A live engine with a model, the gateway by hand that feeds it, and an operator.

    Attributes:
        engine: Live.
        feed: Sends it ticks.
        operator: A connection to its stream.
    """

    def __init__(self, engine: Engine, feed: HandFeed, operator: ClientConnection) -> None:
        self.engine = engine
        self.feed = feed
        self.operator = operator

    async def send(self, count: int) -> None:
        """Send good ticks and wait until all were taken."""
        await takes(self.engine, count, partial(self.feed.send_good, count))

    async def send_until(self, true: Callable[[], bool], most: int = 40_000) -> None:
        """Send frame after frame, each taken before the next, until something is true."""
        for _ in range(most // FRAME_TICKS):
            if true():
                return
            await self.send(FRAME_TICKS)
            await asyncio.sleep(0.002)
        raise AssertionError("it did not come true")

    async def operate(self, command: str, model: str, value: str = "") -> dict[str, Any]:
        """Give an operator's command over the stream and return the answer."""
        await self.command(command, model, value)
        return await self.operated()

    async def command(self, command: str, model: str, value: str = "") -> None:
        """Give an operator's command over the stream."""
        message = {"type": "operate", "command": command, "model": model, "value": value}
        await self.operator.send(orjson.dumps(message))

    async def operated(self) -> dict[str, Any]:
        """Return the next answer to a command."""
        while True:
            answer: dict[str, Any] = orjson.loads(await self.operator.recv())
            assert answer["type"] != "error", answer
            if answer["type"] == "operated":
                return answer

    async def fault(self, device: str, kind: str = "") -> None:
        """Turn a device's fault switch."""
        answer = await self.operate("device_fault", device, kind)
        assert answer["problem"] == ""

    async def settled(self) -> None:
        """Wait until no candidate waits for a score."""
        await wait_until(lambda: self.told["waiting"] == 0)

    @property
    def told(self) -> dict[str, Any]:
        """What the status says of models."""
        found: dict[str, Any] = self.engine.board.status()["models"]
        return found

    @property
    def model(self) -> dict[str, Any]:
        """What the status says of the one model."""
        found: dict[str, Any] = self.told["serving"]["models"]["tiny"]
        return found

    @property
    def serves(self) -> str:
        """The backend and device that serve, ``@`` if none does."""
        return f"{self.model['backend']}@{self.model['device']}"

    @property
    def failures(self) -> dict[str, int]:
        """Requests without a score, by reason."""
        found: dict[str, int] = self.told["failures"]
        return found


Scene = Callable[[Session], Awaitable[None]]


@asynccontextmanager
async def session(blueprint: Blueprint, feed: HandFeed) -> AsyncIterator[Session]:
    """Run a live engine, a gateway by hand and an operator."""
    async with (
        feed,
        Engine(blueprint) as engine,
        connect(f"ws://127.0.0.1:{engine.stream.port}") as operator,
    ):
        yield Session(engine, feed, operator)


def run_session(tree: dict[str, Any], scene: Scene, *, crowded: bool = False) -> HandFeed:
    """Play a scene against a live engine, and check what no model may break; return the feed.

    Args:
        tree: The configuration.
        scene: What is done.
        crowded: It starts processes, which take the processors from the loop: stalls say nothing.
    """
    blueprint = resolve(Config.model_validate(tree))
    feed = HandFeed(blueprint.config.link)

    async def main() -> None:
        async with session(blueprint, feed) as live, asyncio.timeout(60):
            await live.send(200)
            await scene(live)
            await live.send(200)
            _assert_nothing_lost(live)
            assert crowded or live.engine.board.status()["loop"]["stalls"] == 0

    uvloop.run(main())
    expected = feed.expected_ids(without_models(tree))
    assert len(expected) > 50
    made = signals(tree["journal"]["path"])
    assert [one.id for one in made if one.strategy == "rule"] == expected
    return feed


def _assert_nothing_lost(live: Session) -> None:
    status = live.engine.board.status()
    assert live.engine.ingest.pipeline.ticks == len(live.feed.sent)
    assert "gaps" not in status["input"]
    assert live.engine.ingest.faults == 0


def signals(journal: Path) -> list[Signal]:
    """Return the signals in a journal, in their order."""
    with sqlite3.connect(journal) as connection:
        rows = connection.execute("SELECT body FROM signals ORDER BY seq").fetchall()
    return [msgspec.json.decode(body, type=Signal) for (body,) in rows]


def scored_signals(journal: Path) -> list[Signal]:
    """Return the signals that a model had a part in, in their order."""
    return [one for one in signals(journal) if one.model is not None]


def events(journal: Path, kind: str) -> list[dict[str, Any]]:
    """Return the fields of a journal's events of a kind, in their order."""
    with sqlite3.connect(journal) as connection:
        query = "SELECT fields FROM events WHERE kind = ? ORDER BY row"
        return [orjson.loads(row[0]) for row in connection.execute(query, (kind,))]


def sure_bundle(path: Path, model: Path, **changes: Any) -> Bundle:
    """Write the bundle of a model that answers the same unless it does harm."""
    answer = np.linspace(0.2, 0.4666667, MLP_SHAPE.outputs, dtype=np.float32)
    inputs = random_windows(MLP_SHAPE, 8)
    draft = make_draft(MLP_SHAPE, clock=EVERY_TRADE, name="sure", **changes)
    outputs = np.tile(answer / answer.sum(), (len(inputs), 1))
    return write_bundle(path, draft, {"model.onnx": model}, inputs, outputs)
