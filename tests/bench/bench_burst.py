"""A burst of one tick through the default pipeline: frame checks, kernel, histograms.

What is timed is the engine's own duty cycle, ``Ingest.on_burst``, from the call that the receiver
makes to its return, journal and stream left out.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bench.market import START_NS, market_instruments, market_ticks
from bench.measuring import Figure, Outcome, report

from engine.clock import WallClock
from engine.composition import build_pipeline, resolve
from engine.config import CONFIGS, load_config
from engine.core.records import Schema, Ticks
from engine.ingest import Ingest
from feeds.burst import BurstDecoder
from feeds.codec import encode_frame
from latency.histogram import StageHistograms
from replay.digest import Collector

INSTRUMENTS: Final = 20
BLOCK: Final = 1000
BLOCKS: Final = 200
TARGET_US: Final = 4.0
SLOT: Final = 192


def single_frames(ticks: Ticks) -> npt.NDArray[np.uint8]:
    """Return one frame a tick, each in a slot of SLOT bytes, shape (N * SLOT,)."""
    wire = np.zeros(len(ticks) * SLOT, np.uint8)
    for number in range(len(ticks)):
        frame = encode_frame(
            Schema.TICK,
            ticks[number : number + 1],
            gateway=1,
            epoch=1,
            first_seq=number + 1,
            ts_send=int(ticks["ts_recv"][number]),
        )
        wire[number * SLOT : number * SLOT + len(frame)] = np.frombuffer(frame, np.uint8)
    wire.flags.writeable = False
    return wire


def make_ingest(config: Path) -> Ingest:
    """Build the duty cycle of a configuration, warm."""
    histograms, clock = StageHistograms(), WallClock()
    pipeline = build_pipeline(
        resolve(load_config([config])),
        capacity=INSTRUMENTS,
        sink=Collector(),
        clock=clock,
        histograms=histograms,
    )
    ingest = Ingest(
        pipeline=pipeline,
        decoder=BurstDecoder(0),
        clock=clock,
        histograms=histograms,
        on_fault=_fail,
    )
    ingest.define(market_instruments(INSTRUMENTS))
    pipeline.host.start()
    return ingest


def _fail(reason: str) -> None:
    raise SystemExit(reason)


def time_blocks(take: Any, wire: npt.NDArray[np.uint8], blocks: int) -> list[float]:
    """Hand over one frame a call; return microseconds a call of every block."""
    offset, length = np.zeros(1, np.int64), np.full(1, 144, np.int64)
    made, clock = [], time.perf_counter_ns
    for block in range(blocks):
        places = range(block * BLOCK * SLOT, (block + 1) * BLOCK * SLOT, SLOT)
        began = clock()
        for place in places:
            offset[0] = place
            take(wire, offset, length, 1, clock())
        made.append((clock() - began) / BLOCK / 1e3)
    return made


def _nothing(*_: object) -> None:
    pass


def measure(arguments: argparse.Namespace) -> Outcome:
    """Time the duty cycle of every configuration that is there."""
    outcome = Outcome("A burst of one tick through the default pipeline")
    blocks = BLOCKS // 4 if arguments.quick else BLOCKS
    ticks = market_ticks(blocks * BLOCK, INSTRUMENTS)
    for name in ("ts_event", "ts_recv"):
        ticks[name] += time.time_ns() - START_NS
    wire = single_frames(ticks)
    overhead = statistics.median(time_blocks(_nothing, wire, blocks))
    for name in ("replay.toml", "demo.toml"):
        if not (CONFIGS / name).exists():
            continue
        ingest = make_ingest(CONFIGS / name)
        taken = [one - overhead for one in time_blocks(ingest.on_burst, wire, blocks)]
        plan = ingest.pipeline.kernel.plan
        parts = f"{len(plan.bars)} bars, {len(plan.indicators)} indicators, {len(plan.rules)} rules"
        at_most = TARGET_US if name == "replay.toml" else None
        outcome.figures.append(
            Figure.of(f"configs/{name}: {parts}", taken[blocks // 10 :], "µs", at_most=at_most)
        )
        told = ingest.pipeline.signals + ingest.pipeline.judge.refused
        outcome.notes.append(
            f"configs/{name}: {blocks * BLOCK:,} bursts, {told:,} proposals among them."
        )
    outcome.notes.append(
        f"Median over blocks of {BLOCK:,} bursts, {INSTRUMENTS} instruments; the {overhead:.2f} µs "
        "that the measuring loop itself takes are subtracted."
    )
    return outcome


if __name__ == "__main__":
    report(measure, __doc__)
