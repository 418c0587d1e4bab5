"""Tick to WebSocket client, against the same sockets with an empty engine.

Injector, engine and client are three processes. The time runs from the moment a tick should have
been sent to its signal's arrival in the client; both read the machine's one wall clock. The
engine runs configs/demo.toml, all of it, and beside it a rule that answers marked trades.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import uvloop
from bench.live_config import demo_tree
from bench.market import market_instruments
from bench.measuring import Figure, Outcome, report, say
from bench.processes import ROOT, Child, free_endpoint, write_config
from bench.tick_injector import MARK

from engine.config import Config
from feeds.codec import encode_instruments
from feeds.control_desk import ControlDesk, StreamFacts
from feeds.control_server import ControlServer

RATES: Final = (1_000, 20_000, 100_000)
PAIRS: Final = 5
SECONDS: Final = 8.0
WARM_UP_NS: Final = 1_000_000_000
SIGNALS_PER_S: Final = 40
INSTRUMENTS: Final = 40
LATE_NS: Final = 1_000_000
TRIES: Final = 3


class Run(NamedTuple):
    """One run of one engine, microseconds."""

    p50: float
    p99: float
    late_p99: float
    signals: int
    expected: int


def engine_config(directory: Path, data: str, control: str) -> Config:
    """Return the demo's configuration with the marked rule beside its own."""
    tree = demo_tree(directory)
    marked = {"name": "marked", "rule": "marked_trade", "on": "trade", "params": {"mark": MARK}}
    tree["plugins"] = [*tree.get("plugins", []), str(ROOT / "tests/bench/marked_trade.py")]
    tree["strategies"] = [*tree["strategies"], marked]
    tree["link"] = {"data": data, "control": control}
    tree["risk"]["limits"]["cool_down"] = "1s"
    return Config.model_validate(tree)


@contextmanager
def real_engine(data: str, control: str) -> Iterator[int]:
    """Run ``heqis engine``; yield its stream's port."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = write_config(engine_config(directory, data, control), directory / "engine.toml")
        with Child("-m", "engine.cli", "engine", "-c", str(path)) as child:
            yield int(child.wait_for(r"ready in .* port (\d+)")[1])


@contextmanager
def empty_engine(data: str, control: str) -> Iterator[int]:
    """Run the empty engine; yield its stream's port."""
    with Child("-m", "bench.empty_engine", data) as child:
        yield int(child.wait_for(r"port (\d+)")[1])


def run_once(engine: Any, control: str, rate: int, seconds: float) -> Run:
    """Start engine, client and injector, in this order; return what the client saw."""
    data = free_endpoint()
    options = {"rate": rate, "signals": SIGNALS_PER_S, "instruments": INSTRUMENTS}
    words = [f"--{name}={value}" for name, value in {**options, "epoch": 1}.items()]
    with engine(data, control) as port:
        client = Child("-m", "bench.signal_listener", f"ws://127.0.0.1:{port}", "marked")
        with client:
            client.wait_for("listening")
            arguments = [data, *words, f"--seconds={seconds}"]
            with Child("-m", "bench.tick_injector", *arguments) as injector:
                told = json.loads(injector.wait_for(r'^\{"start_ns".*')[0])
            time.sleep(0.3)
            client.end_input()
            signals = json.loads(client.wait_for(r'^\{"signals".*')[0])["signals"]
    begin = told["start_ns"] + WARM_UP_NS
    taken = [latency / 1e3 for due, latency in signals if due >= begin]
    expected = round((seconds - WARM_UP_NS / 1e9) * SIGNALS_PER_S)
    p50, p99 = np.percentile(taken, [50, 99]).tolist() if taken else (np.nan, np.nan)
    return Run(p50, p99, told["p99_ns"] / 1e3, len(taken), expected)


def run_on_time(engine: Any, control: str, rate: int, seconds: float) -> Run:
    """Run again, a few times at most, while the injector itself was late."""
    for _ in range(TRIES):
        run = run_once(engine, control, rate, seconds)
        if run.late_p99 * 1e3 <= LATE_NS:
            break
    return run


def compare(rate: int, control: str, pairs: int, seconds: float, outcome: Outcome) -> None:
    """Add the figures of one rate: runs of both in turn."""
    ours, empty = [], []
    for turn in range(pairs):
        empty.append(run_on_time(empty_engine, control, rate, seconds))
        ours.append(run_on_time(real_engine, control, rate, seconds))
        told = " and ".join(f"{r.p50:.0f}/{r.p99:.0f}" for r in (empty[-1], ours[-1]))
        say(f"{rate:,} ticks/s, pair {turn + 1}: p50/p99 {told} us")
    for name, at_most in (("p50", 1.25), ("p99", 1.5)):
        theirs = [getattr(run, name) for run in empty]
        own = [getattr(run, name) for run in ours]
        ratios = [a / b for a, b in zip(own, theirs, strict=True)]
        ratio = statistics.median(own) / statistics.median(theirs)
        case = f"{rate:,} ticks/s, {name}"
        outcome.figures += [
            Figure.of(f"{case}: empty engine", theirs, "µs"),
            Figure.of(f"{case}: HEQIS", own, "µs"),
            Figure(f"{case}: ratio", ratio, "x", min(ratios), max(ratios), at_most),
        ]
    late = max(run.late_p99 for run in [*ours, *empty])
    missing = sum(run.expected - run.signals for run in ours)
    outcome.notes.append(
        f"{rate:,} ticks/s: {ours[0].signals} signals a run; of all marked trades "
        f"{max(0, missing)} gave none, refused by the risk gate, whose limits all strategies "
        "share. The injector's own lateness, which is in all figures, had a p99 of at most "
        f"{late:,.0f} µs."
    )


def make_desk() -> ControlDesk:
    """Answer the engine as the injector's gateway would."""
    instruments = encode_instruments(
        market_instruments(INSTRUMENTS), gateway=1, epoch=1, next_seq=1, ts_send=time.time_ns()
    )
    facts = StreamFacts(1, 1, 1, 100_000_000, b"".join(instruments))
    return ControlDesk(lambda: facts, dict, 8)


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure every rate."""
    outcome = Outcome("Tick to WebSocket client against an empty engine")
    pairs, seconds = (2, 4.0) if arguments.quick else (PAIRS, SECONDS)

    async def serve_control() -> None:
        async with ControlServer("tcp://127.0.0.1:*", make_desk()) as control:
            for rate in arguments.rates or RATES:
                await asyncio.to_thread(compare, rate, control.endpoint, pairs, seconds, outcome)

    uvloop.run(serve_control())
    outcome.notes += [
        f"Ratios are of the medians of {pairs} runs' percentiles, runs of {seconds:.0f} s in turn, "
        "the first second left out; their range is that of the pairs.",
        f"{SIGNALS_PER_S} marked trades a second over {INSTRUMENTS} instruments. Ticks due "
        "within 0.5 ms share a frame, as the gateway sends them. The injector sleeps, then spins, "
        "and never waits for an answer; a run in which its lateness had a p99 above 1 ms is "
        "repeated.",
    ]
    return outcome


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rates", type=int, nargs="*", help="ticks a second")


if __name__ == "__main__":
    report(measure, __doc__, _add_arguments)
