"""Throughput through the batcher with more requests than it can serve, against static batches.

The static batch is a bare loop over the backend's ``run`` with the batch size that gives the most
rows a second: no requests, no windows copied, no answers read.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import uvloop
from bench.measuring import Figure, Outcome, report, say
from bench.model_parts import (
    FAR_NS,
    WIDE,
    Windows,
    demo_bundle,
    load_direct,
    make_inference,
    scratch,
    wide_bundle,
)
from bench.model_saturation import Saturation

from engine.core.models import Floats
from runtime.bundle import Bundle
from runtime.prepared import PreparedModel

ROUNDS: Final = 9
RUN_S: Final = 1.0
BARE_S: Final = 0.3
MAX_BATCH: Final = 64
TARGET: Final = 0.95


class Round(NamedTuple):
    """Rows a second."""

    bare: float
    same: float
    ours: float


class Measured(NamedTuple):
    """What one model gave: rounds, and the best static batch size of each."""

    rounds: list[Round]
    buckets: list[int]


def bare_rate(loaded: PreparedModel, bucket: int, seconds: float) -> float:
    """Return rows a second of nothing but runs of one batch size."""
    run, rows = loaded.run, 0
    began_s = time.perf_counter()
    while (taken_s := time.perf_counter() - began_s) < seconds:
        run(bucket)
        rows += bucket
    return rows / taken_s


def best_bucket(loaded: PreparedModel, seconds: float) -> tuple[int, float]:
    """Return the batch size with the most rows a second, and these."""
    rates = {bucket: bare_rate(loaded, bucket, seconds / 8) for bucket in loaded.buckets}
    best = max(rates, key=lambda bucket: rates[bucket])
    return best, bare_rate(loaded, best, seconds)


def served_rate(
    loaded: PreparedModel, windows: Windows, contexts: Sequence[object], bucket: int, seconds: float
) -> float:
    """Return rows a second of static batches that copy windows in and read answers out."""
    rows, staging = 0, loaded.staging(bucket)
    chosen = contexts[:bucket]
    began_s = time.perf_counter()
    while (taken_s := time.perf_counter() - began_s) < seconds:
        windows.gather(0, chosen, staging)
        _read(loaded.run(bucket))
        rows += bucket
    return rows / taken_s


def _read(rows: Floats) -> list[list[float]]:
    found: list[list[float]] = rows.tolist()
    return found


async def measure_model(bundle: Bundle, *, inline: bool, rounds: int) -> Measured:
    """Let bare loops and the batcher take turns."""
    windows = Windows(256)
    loaded = load_direct(bundle, MAX_BATCH)
    saturation = Saturation(windows.contexts, 4 * MAX_BATCH)
    inference = make_inference(
        bundle, windows.gather, saturation.on_answer, max_batch=MAX_BATCH, inline=inline
    )
    saturation.inference = inference
    await inference.start()
    measured = Measured([], [])
    try:
        await saturation.run(RUN_S / 2, FAR_NS)
        for _ in range(rounds):
            bucket, bare = best_bucket(loaded, BARE_S)
            same = served_rate(loaded, windows, windows.contexts, bucket, BARE_S)
            ours = await saturation.run(RUN_S, FAR_NS)
            measured.rounds.append(Round(bare, same, ours))
            measured.buckets.append(bucket)
            say(f"{bundle.manifest.name}: {bare:,.0f} bare, {same:,.0f}, {ours:,.0f} ours")
        return measured
    finally:
        await inference.stop()


def figures_of(name: str, rounds: list[Round]) -> list[Figure]:
    """Return the rows of one model's table."""
    return [
        Figure.of(f"{name}: best static batch, runs alone", [r.bare for r in rounds], "rows/s"),
        Figure.of(f"{name}: batcher", [r.ours for r in rounds], "rows/s"),
        Figure.of(f"{name}: ratio", [r.ours / r.bare for r in rounds], "x", at_least=TARGET),
    ]


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure a model that keeps its device busy, and the demo model."""
    rounds = 3 if arguments.quick else ROUNDS
    demo = uvloop.run(measure_model(demo_bundle(), inline=True, rounds=rounds))
    with scratch() as directory:
        wide = uvloop.run(measure_model(wide_bundle(Path(directory)), inline=False, rounds=rounds))
    row_us = [1e6 / one.bare for one in demo.rounds]
    return Outcome(
        "Models, saturated: throughput against the best static batch",
        [
            *figures_of("wide model, on its thread", wide.rounds),
            *figures_of("demo model, on the loop", demo.rounds),
            Figure.of(
                "demo model: static batches, windows copied, answers read",
                [one.same for one in demo.rounds],
                "rows/s",
            ),
            Figure.of("demo model: a row in a static batch", row_us, "µs"),
            Figure.of(
                "demo model: a request in the batcher", [1e6 / one.ours for one in demo.rounds],
                "µs",
            ),
        ],
        [
            f"{rounds} rounds; the best static batch of each, a bare loop over the backend's "
            f"`run`, was {_told(wide.buckets)} for the wide model and {_told(demo.buckets)} for "
            f"the demo model. At most {MAX_BATCH} a batch; {4 * MAX_BATCH} requests are always "
            "waiting.",
            "The wide model is a dense network of the demo model's shape with two hidden layers "
            f"of {WIDE[0]:,}: it runs on its device's thread while the loop answers and forms the "
            "next batch, so the batcher costs nothing while it takes less time than the device.",
            "A row of the demo model in a full batch takes less than the Python objects of one "
            "request, so the loop and not the model is what saturates: the ratio is the price of "
            "a request with a deadline and a score that says where it comes from, against rows of "
            "a matrix.",
        ],
    )  # fmt: skip


def _told(buckets: list[int]) -> str:
    least, most = min(buckets), max(buckets)
    return str(least) if least == most else f"{least} to {most}"


if __name__ == "__main__":
    report(measure, __doc__)
