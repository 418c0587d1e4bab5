"""The same requests for whoever answers them: on a schedule, or as many as are taken.

Runs under this project's Python and under the peers', so it needs NumPy and nothing else of ours.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TICKER = Path(__file__).resolve().parents[1] / "arrival_ticker.py"
LEAD_NS = 300_000_000
END_S = 30.0
Begin = Callable[[int, Callable[[], None]], None]
"""Begins request k and calls back when it is answered."""


def run_loop(work: Awaitable[Any]) -> Any:
    """Run on uvloop where it is installed, as all of these servers do."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.run(work)  # type: ignore[arg-type] # a coroutine
    return asyncio.run(work)  # type: ignore[arg-type] # a coroutine


def windows() -> npt.NDArray[np.float32]:
    """Return what is asked for, float32 (N, 16, 6)."""
    return np.random.default_rng(7).standard_normal((256, 16, 6)).astype(np.float32)


def as_begin(score: Callable[[int], Awaitable[Any]]) -> Begin:
    """Make requests that are awaited into ones that call back."""
    tasks: set[asyncio.Future[Any]] = set()

    def begin(place: int, done: Callable[[], None]) -> None:
        task = asyncio.ensure_future(score(place))
        tasks.add(task)

        def finish(finished: asyncio.Future[Any]) -> None:
            tasks.discard(finished)
            finished.result()
            done()

        task.add_done_callback(finish)

    return begin


async def on_schedule(begin: Begin, rate: float, seconds: float, seed: int) -> list[float]:
    """Ask at Poisson times; return milliseconds from each intended time to its answer."""
    loop = asyncio.get_running_loop()
    random = np.random.default_rng(seed)
    gaps = random.exponential(1e9 / rate, int(rate * seconds))
    times_ns = np.cumsum(gaps).astype(np.int64) + time.monotonic_ns() + LEAD_NS
    due, taken_ms = times_ns.tolist(), []
    ended = loop.create_future()
    begun = 0

    def finish(due_ns: int) -> None:
        taken_ms.append((time.monotonic_ns() - due_ns) / 1e6)
        if len(taken_ms) == len(due) and not ended.done():
            ended.set_result(None)

    def wake(descriptor: int) -> None:
        nonlocal begun
        os.read(descriptor, 1 << 16)
        now_ns = time.monotonic_ns()
        while begun < len(due) and due[begun] <= now_ns:
            due_ns, begun = due[begun], begun + 1
            begin(begun, partial(finish, due_ns))

    ticker = start_ticker(times_ns)
    try:
        assert ticker.stdout is not None
        descriptor = ticker.stdout.fileno()
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, wake, descriptor)
        await asyncio.wait_for(ended, seconds + END_S)
        loop.remove_reader(descriptor)
    finally:
        ticker.kill()
        ticker.wait()
    return taken_ms


def start_ticker(times_ns: npt.NDArray[np.int64]) -> "subprocess.Popen[bytes]":
    """Start what wakes the loop at these times."""
    ticker = subprocess.Popen(
        [sys.executable, str(TICKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert ticker.stdin is not None
    ticker.stdin.write(times_ns.tobytes())
    ticker.stdin.close()
    return ticker


async def as_fast_as_taken(begin: Begin, outstanding: int, seconds: float) -> float:
    """Keep so many requests unanswered; return answers a second."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    counts = {"open": 0, "answered": 0, "place": 0}
    began_s = time.perf_counter()

    def more() -> None:
        while counts["open"] < outstanding and time.perf_counter() - began_s < seconds:
            counts["open"] += 1
            counts["place"] += 1
            begin(counts["place"], finish)
        if not counts["open"] and not ended.done():
            ended.set_result(None)

    def finish() -> None:
        counts["open"] -= 1
        counts["answered"] += 1
        if time.perf_counter() - began_s < seconds:
            if counts["open"] == outstanding - 1:
                loop.call_soon(more)
        elif not counts["open"] and not ended.done():
            ended.set_result(None)

    more()
    await asyncio.wait_for(ended, seconds + END_S)
    return counts["answered"] / (time.perf_counter() - began_s)


async def measure(begin: Begin, options: dict[str, Any]) -> dict[str, list[Any]]:
    """Warm up, then take every round; return p50 and p99 in ms and answers a second."""
    found: dict[str, list[Any]] = {"p50_ms": [], "p99_ms": [], "per_s": []}
    await as_fast_as_taken(begin, options["outstanding"], options["warm_s"])
    for seed in range(options["rounds"]):
        taken_ms = await on_schedule(begin, options["rate"], options["seconds"], seed)
        p50, p99 = np.percentile(taken_ms, (50, 99))
        found["p50_ms"].append(float(p50))
        found["p99_ms"].append(float(p99))
        found["per_s"].append(
            await as_fast_as_taken(begin, options["outstanding"], options["seconds"] / 2)
        )
    return found
