"""Live sessions on real sockets that leave a recording and a journal, and a comparison of them."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import uvloop
from live_cases import wait_until
from live_feed import HandFeed, feed_tree
from websockets.asyncio.client import connect

from engine.composition import Blueprint, resolve
from engine.config import Config
from engine.daemon import Engine
from engine.own_recording import sessions_in
from replay.analysis.diff import diff
from replay.analysis.diff_result import DiffReport

TICKS = 1_200

Scene = Callable[["Live"], Awaitable[None]]


class Live:
    """A live engine and the gateway by hand that feeds it."""

    def __init__(self, engine: Engine, feed: HandFeed) -> None:
        self.engine = engine
        self.feed = feed

    async def until_taken(self, count: int) -> None:
        """Wait until the pipeline has taken so many records."""
        await wait_until(lambda: self.engine.ingest.pipeline.ticks >= count)

    async def fault(self, kind: str) -> None:
        """Break the processor as a device of models."""
        async with connect(f"ws://127.0.0.1:{self.engine.stream.port}") as operator:
            message = {"command": "device_fault", "model": "cpu", "value": kind}
            await operator.send(orjson.dumps({"type": "operate", **message}))
            while orjson.loads(await operator.recv())["type"] != "operated":
                pass

    async def send(self, count: int = TICKS) -> None:
        """Send good ticks and wait until all were taken, and the gap before a new stream."""
        before = self.engine.ingest.pipeline.ticks
        await self.feed.send_good(count)
        await self.until_taken(before + count)


def live_session(tree: dict[str, Any], scene: Scene | None = None) -> HandFeed:
    """Run a live engine through a scene, and end it in order; return what it was fed."""
    blueprint = resolve(Config.model_validate(tree))
    feed = HandFeed(blueprint.config.link)

    async def main() -> None:
        async with feed, Engine(blueprint) as engine, asyncio.timeout(60):
            live = Live(engine, feed)
            await (scene(live) if scene is not None else live.send())

    uvloop.run(main())
    return feed


async def settled(live: Live) -> None:
    """Send ticks, frame after frame, and wait until no candidate waits for a score."""
    for _ in range(TICKS // 40):
        await live.send(40)
        desk = live.engine.ingest.pipeline.desk
        assert desk is not None
        await wait_until(lambda desk=desk: desk.waiting == 0)  # type: ignore[misc] # bound now


def rule_tree(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Return a configuration of rules only, which signals every few trades."""
    tree = feed_tree(tmp_path, **changes)
    tree["link"] = {name: f"ipc://{tmp_path}/{name}" for name in ("data", "control")}
    tree["risk"]["cost"] = {"check_edge": False}
    return tree


def blueprint_of(tree: dict[str, Any]) -> Blueprint:
    return resolve(Config.model_validate(tree))


def compare(tmp_path: Path, tree: dict[str, Any]) -> DiffReport:
    """Compare what a session in a directory left, by a configuration."""
    return diff(tmp_path / "recordings", tmp_path / "journal.db", blueprint_of(tree))


def segment(tmp_path: Path) -> Path:
    """Return the first segment file of the newest session."""
    return sorted(sessions_in(tmp_path / "recordings")[-1].path.iterdir())[0]
