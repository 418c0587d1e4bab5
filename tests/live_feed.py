"""A gateway by hand: real sockets, and frames that a test may damage before it sends them."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from live_cases import DEADLINE_S, live_tree, wait_until
from pipeline_cases import market_instruments, market_ticks

from engine.clock import TickClock
from engine.composition import Blueprint, build_pipeline
from engine.core.records import Instruments, Schema, Ticks
from engine.core.signals import Signal
from engine.daemon import Engine
from engine.risk.rules import RiskState
from feeds.burst import ORIGIN
from feeds.codec import encode_frame, encode_instruments
from feeds.config import LinkConfig
from feeds.control_desk import ControlDesk, StreamFacts
from feeds.control_server import ControlServer
from feeds.link import TickSender
from latency.histogram import StageHistograms
from replay.digest import Collector

GATEWAY = 1
HEARTBEAT_NS = 100_000_000
FRAME_TICKS = 40
STEP_NS = 1_000_000
MARKET_TICKS = 60_000


def feed_tree(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Return a configuration that makes a signal every few trades of a ``HandFeed``."""
    off = dict.fromkeys(
        ("max_signals_per_instrument", "max_signals_per_strategy", "max_signals"), 0
    )
    tree = live_tree(
        tmp_path,
        risk={"limits": {"max_position": 0, "cool_down": 0, **off}, "data": {"gap_hold": 0}},
        **changes,
    )
    del tree["gateway"]
    tree["strategies"][0]["on"] = "trade"
    return tree


class HandFeed:
    """A gateway whose every frame a test makes; an asynchronous context.

    Attributes:
        epoch: Of its stream.
        next_seq: Sequence number of the next tick.
        sent: Good ticks sent so far, with their numbers.
    """

    def __init__(self, link: LinkConfig, instruments: int = 2) -> None:
        self.link = link
        self.epoch = time.time_ns()
        self.next_seq = 1
        self.instruments = market_instruments(instruments)
        self.sent: list[tuple[Ticks, int]] = []
        self._market = market_ticks(MARKET_TICKS, instruments)
        times = self.epoch + np.arange(MARKET_TICKS) * STEP_NS
        self._market["ts_event"], self._market["ts_recv"] = times, times + 1_000
        self._taken = 0
        self._control = ControlServer(link.control, ControlDesk(self._facts, dict, 8))

    async def __aenter__(self) -> Self:
        await self._control.__aenter__()
        self._sender = TickSender(self.link.data)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._sender.close(linger_ms=0)
        await self._control.close()

    def _facts(self) -> StreamFacts:
        frames = encode_instruments(
            self.instruments, gateway=GATEWAY, epoch=self.epoch, next_seq=self.next_seq,
            ts_send=time.time_ns(),
        )  # fmt: skip
        return StreamFacts(GATEWAY, self.epoch, self.next_seq, HEARTBEAT_NS, b"".join(frames))

    def take(self, count: int = FRAME_TICKS) -> Ticks:
        """Return the market's next good ticks."""
        ticks = self._market[self._taken : self._taken + count].copy()
        assert len(ticks) == count, "the market is exhausted"
        self._taken += count
        return ticks

    def frame(
        self, records: npt.NDArray[Any] | bytes, schema: Schema = Schema.TICK, **how: int
    ) -> bytes:
        """Encode a frame that comes next in the stream."""
        fields = {"gateway": GATEWAY, "epoch": self.epoch, "first_seq": self.next_seq}
        return encode_frame(schema, records, **{**fields, "ts_send": time.time_ns(), **how})

    def definitions(self, rows: Instruments) -> bytes:
        """Encode a frame of definitions."""
        return self.frame(rows, Schema.INSTRUMENTS)

    async def send(self, *frames: bytes) -> None:
        """Send messages as they are, waiting where the link is full or not there yet."""
        ends = time.monotonic() + DEADLINE_S
        for frame in frames:
            while not self._sender.send(frame):
                assert time.monotonic() < ends, "the engine takes nothing"
                await asyncio.sleep(0.001)

    async def send_ticks(self, ticks: Ticks, good: npt.NDArray[np.bool_] | None = None) -> bytes:
        """Send one frame of ticks and count its numbers; ``good`` tells which will be taken."""
        frame = self.frame(ticks)
        await self.send(frame)
        self.note(ticks, good)
        return frame

    def note(self, ticks: Ticks, good: npt.NDArray[np.bool_] | None = None) -> None:
        """Count ticks as sent."""
        for row in range(len(ticks)):
            if good is None or good[row]:
                self.sent.append((ticks[row : row + 1], self.next_seq + row))
        self.next_seq += len(ticks)

    async def send_good(self, count: int) -> None:
        """Send good ticks in frames of FRAME_TICKS."""
        for at in range(0, count, FRAME_TICKS):
            await self.send_ticks(self.take(min(FRAME_TICKS, count - at)))

    def expected_ids(self, blueprint: Blueprint) -> list[str]:
        """Return the ids of the signals that the good ticks alone give, in their order."""
        kept: list[Signal] = []
        pipeline = build_pipeline(
            blueprint,
            capacity=blueprint.config.engine.max_instruments,
            sink=Collector(kept.append),
            clock=TickClock(),
            histograms=StageHistograms(),
        )
        pipeline.define(self.instruments)
        ticks = np.concatenate([tick for tick, _ in self.sent])
        origins = np.zeros(len(ticks), ORIGIN)
        origins["epoch"], origins["seq"] = self.epoch, [seq for _, seq in self.sent]
        pipeline.run_ticks(ticks, origins, 0, len(ticks))
        return [signal.id for signal in kept]


def journaled_ids(journal: Path) -> list[str]:
    """Return the ids of the signals in a journal, in their order."""
    with sqlite3.connect(journal) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM signals ORDER BY seq")]


async def takes(engine: Engine, count: int, send: Callable[[], Any]) -> None:
    """Send, and wait until the pipeline has taken so many records of it."""
    before = engine.ingest.pipeline.ticks
    await send()
    await wait_until(lambda: engine.ingest.pipeline.ticks >= before + count)
    assert engine.ingest.pipeline.ticks == before + count


async def assert_unharmed(engine: Engine, feed: HandFeed, count: int = 600) -> None:
    """Good ticks still become signals, nothing of ours failed, and the engine is healthy."""
    pipeline = engine.ingest.pipeline
    signals = pipeline.signals
    await takes(engine, count, lambda: feed.send_good(count))
    assert pipeline.signals > signals + 5
    assert engine.ingest.faults == 0
    assert pipeline.gate.state is RiskState.ACTIVE
    await wait_until(lambda: engine.board.health().good)
