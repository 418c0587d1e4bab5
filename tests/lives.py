"""Lives of an engine without sockets: what the daemon wires, fed by hand, killed and born again."""

import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_feed import GATEWAY
from pipeline_cases import RULES, market_instruments, market_ticks

from engine.clock import WallClock
from engine.composition import build_pipeline, resolve
from engine.config import Config
from engine.core.records import Instruments, Schema, Ticks
from engine.ingest import Ingest
from engine.journal import Journal
from engine.own_recording import next_session, sessions_in
from engine.recorder import Recorder
from engine.restart import RECORDING, Restart
from engine.restart_walk import OnProgress
from engine.sinks import LiveSink
from engine.snapshot_file import SnapshotFiles
from engine.snapshot_keeper import SnapshotKeeper
from engine.stream import Health, SignalStream
from feeds.burst import BurstDecoder
from feeds.codec import encode_frame
from latency.histogram import StageHistograms

EPOCH = 77
COUNT = 12_000
FRAME = 37
STALE_NS = 100_000_000_000


def limits(**others: Any) -> dict[str, Any]:
    return {"max_position": 3, "max_gross": 9, "cool_down": "500ms", **others}


TREE: dict[str, Any] = {
    **RULES,
    "risk": {"limits": limits(), "cost": {"check_edge": False}},
}


class Market:
    """What a gateway would send, frame by frame; a frame may be asked for again."""

    def __init__(self, instruments: Instruments, ticks: Ticks) -> None:
        self.instruments = instruments
        self.ticks = ticks
        self.sent_ns = np.zeros(len(ticks), np.int64)

    def frame(self, start: int, stop: int, late_ns: int = 0) -> bytes:
        """Return the ticks [start, stop); they left when they were first asked for."""
        if not self.sent_ns[start]:
            self.sent_ns[start:stop] = time.time_ns() - late_ns
        return encode_frame(
            Schema.TICK, self.ticks[start:stop], gateway=GATEWAY, epoch=EPOCH,
            first_seq=start + 1, ts_send=int(self.sent_ns[start]),
        )  # fmt: skip


class Life:
    """An engine without sockets: what the daemon wires, fed by hand."""

    def __init__(
        self,
        directory: Path,
        market: Market,
        tree: dict[str, Any] = TREE,
        *,
        on_progress: OnProgress = str,
    ) -> None:
        self.on_progress = on_progress
        self.directory = directory
        self.market = market
        self.config = Config.model_validate(
            {
                **tree,
                "journal": {"path": directory / "journal.db", "commit_interval": "1ms"},
                "engine": {"record": directory / "recordings", **tree.get("engine", {})},
                "stream": {"port": 0},
            }
        )
        self.blueprint = resolve(self.config)

    async def open(self) -> None:
        """Do what the daemon does until the link is open."""
        config = self.config
        self.journal = await Journal(config.journal.path, config.journal).open()
        self.stream = SignalStream(
            config.stream, epoch=self.journal.epoch, next_seq=self.journal.next_seq,
            store=self.journal, health=lambda: Health(True, {}),
        )  # fmt: skip
        sink, clock, histograms = (
            LiveSink(self.journal, self.stream),
            WallClock(),
            StageHistograms(),
        )
        self.pipeline = build_pipeline(
            self.blueprint, capacity=8, sink=sink, clock=clock, histograms=histograms,
            stream=(self.journal.epoch, self.journal.next_seq),
        )  # fmt: skip
        decoder = BurstDecoder(0, config.engine.burst)
        recordings = config.engine.record
        session = next_session(recordings or self.directory / "none", time.time_ns())
        self.recorder = None
        if recordings is not None:
            self.recorder = Recorder(
                session.path, decoder, epoch=session.epoch, rotate_bytes=1 << 18
            )
            self.journal.append_event(RECORDING, {"session": session.epoch}, time.time_ns())
            await self.journal.flush()
        self.ingest = Ingest(
            pipeline=self.pipeline, decoder=decoder, clock=clock, histograms=histograms,
            on_fault=pytest.fail, recorder=self.recorder,
        )  # fmt: skip
        files = SnapshotFiles(self.directory / "snapshots")
        self.restart = Restart(
            self.blueprint, self.ingest, self.journal, sink, files=files, recordings=recordings,
            session=session.epoch, on_progress=self.on_progress,
        )  # fmt: skip
        self.keeper = SnapshotKeeper(
            self.ingest, self.journal, files, session=session.epoch, interval_ns=10**9,
            identity=self.restart.identity,
        )  # fmt: skip
        self.pipeline.host.start()
        await self.restart.regenerate()
        self.restart.meet(self.market.instruments)

    @property
    def next_row(self) -> int:
        """The first tick it has not got."""
        places = self.ingest.decoder.expected()
        return places[GATEWAY][1] - 1 if places else 0

    def feed(self, stop: int, late_ns: int = 0) -> None:
        """Take the ticks up to ``stop``, in frames."""
        for start in range(self.next_row, stop, FRAME):
            frame = self.market.frame(start, min(stop, start + FRAME), late_ns)
            wire = np.frombuffer(frame + bytes(-len(frame) % 8), np.uint8)
            places = np.zeros(1, np.int64), np.array([len(frame)], np.int64)
            assert self.ingest.take(wire, *places, 0, 1, time.perf_counter_ns()) == 1

    async def die(self, heir: Path) -> None:
        """Leave to another directory what ``kill -9`` leaves on disk; then end."""
        shutil.copytree(self.directory, heir, ignore=shutil.ignore_patterns("*.lock", "*-shm"))
        await self.stop()

    async def stop(self) -> None:
        """End cleanly."""
        if self.recorder is not None:
            self.recorder.close()
        await self.journal.close()


def make_market(count: int = COUNT) -> Market:
    return Market(market_instruments(4), market_ticks(count, 4, seed=9))


async def undisturbed(directory: Path, market: Market, tree: dict[str, Any] = TREE) -> list[str]:
    life = Life(directory, market, tree)
    await life.open()
    life.restart.go_live(None)
    life.feed(len(market.ticks))
    await life.stop()
    return await told(life)


async def told(life: Life) -> list[str]:
    """Return the ids of all signals of a journal, in the order of their ticks."""
    journal = await Journal(life.config.journal.path, life.config.journal).open()
    signals, expired = await journal.read_decisions(0, 0, 1_000_000)
    await journal.close()
    return [one.id for one in sorted([*signals, *expired], key=lambda one: one.tick_seq)]


def lose(recording: Path, random_: random.Random) -> None:
    """Cut the newest segment somewhere in its last part, as an unflushed buffer would be."""
    newest = max(sessions_in(recording)).path
    segment = sorted(newest.iterdir())[-1]
    size = segment.stat().st_size
    with segment.open("r+b") as file:
        file.truncate(size - random_.randint(0, min(size, 40_000)))


async def lived(home: Path, market: Market, stop: int, tree: dict[str, Any] = TREE) -> Life:
    """Begin a life, go live and take the ticks up to a place."""
    life = Life(home, market, tree)
    await life.open()
    life.restart.go_live(market.instruments)
    life.feed(stop)
    return life
