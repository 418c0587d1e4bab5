"""A sweep of 200 trials against 200 separate backtests: the same parameters, the same results.

Daily bars of 511 shares. Both sides are commands as a user gives them, timed from the start of a
process to its end; kernels are compiled before. The separate runs go one after the other, and two
at a time as the sweep's workers do. ``--separate`` runs fewer and extrapolates; a note says so.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from bench.backtest_markets import SHARES_FILE, import_log, missing
from bench.measuring import Figure, Outcome, report, say

ROOT: Final = Path(__file__).resolve().parents[2]
TRIALS: Final = 200
JOBS: Final = 2
FAST, SLOW = "strategies.macd.params.fast", "strategies.macd.params.slow"
GRID: Final = (f"{FAST}=3:22", f"{SLOW}=25:70:5")
QUICK_GRID: Final = (f"{FAST}=3:6", f"{SLOW}=25:70:5")
CONFIG: Final = """
bars = []

[[strategies]]
name = "macd"
rule = "macd_cross"
on = "tick"
params = {{ fast = {fast}, slow = {slow} }}
valid_for = "5d"

[risk.limits]
max_position = 0
max_gross = 0
cool_down = 0
"""


class Bench:
    """The commands over one log, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        say("importing ...")
        self.log = import_log("tushare-daily", (SHARES_FILE,), directory / "shares.hql").log
        self.sweeps = 0

    def config(self, fast: Any = 12, slow: Any = 26) -> Path:
        """Write a configuration with the parameters."""
        path = self.directory / f"{fast}_{slow}.toml"
        path.write_text(CONFIG.format(fast=fast, slow=slow), encoding="utf-8")
        return path

    def sweep(self, grid: Sequence[str], *more: str) -> tuple[float, dict[str, Any]]:
        """Run a sweep; return seconds and what it told."""
        self.sweeps += 1
        storage = self.directory / f"{self.sweeps}.journal"
        params = [word for param in grid for word in ("-p", param)]
        return self._run(
            "sweep", self.log, "-c", self.config(), *params, "--sampler", "grid",
            "--storage", storage, *more,
        )  # fmt: skip

    def separate(self, params: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """Run one backtest with a trial's parameters."""
        return self._run("backtest", self.log, "-c", self.config(params[FAST], params[SLOW]))

    def _run(self, *words: object) -> tuple[float, dict[str, Any]]:
        command = [sys.executable, "-m", "engine.cli", *map(str, words), "--json"]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
        return time.perf_counter() - began, json.loads(done.stdout)


def check_same(trials: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> None:
    """Make sure that a trial came to what its separate run did."""
    for trial, alone in zip(trials, runs, strict=True):
        for name in ("final_equity", "num_trades", "sharpe", "cost"):
            if trial["metrics"][name] != alone[name]:
                raise AssertionError(f"trial {trial['number']}: {name} differs from its own run")


def measure(arguments: argparse.Namespace) -> Outcome:
    """Run both sides."""
    outcome = Outcome(f"A sweep of {TRIALS} trials against as many separate backtests")
    outcome.skipped = missing((SHARES_FILE,))
    if not outcome.skipped:
        with tempfile.TemporaryDirectory() as directory:
            compare(Bench(Path(directory)), arguments, outcome)
    return outcome


def compare(bench: Bench, arguments: argparse.Namespace, outcome: Outcome) -> None:
    """Add the figures of one log."""
    grid = QUICK_GRID if arguments.quick else GRID
    bench.sweep(grid, "--jobs", str(JOBS), "--trials", "2")
    bench.separate({FAST: 12, SLOW: 26})
    say("sweep ...")
    swept = [bench.sweep(grid, "--jobs", str(JOBS)) for _ in range(1 if arguments.quick else 3)]
    sweep_s = [seconds for seconds, _ in swept]
    trials = swept[0][1]["all"]
    count = min(arguments.separate or len(trials), len(trials))
    say(f"{count} separate runs, one after the other ...")
    began = time.perf_counter()
    runs = [bench.separate(trial["params"])[1] for trial in trials[:count]]
    alone_s = (time.perf_counter() - began) * len(trials) / count
    check_same(trials[:count], runs)
    say(f"{count} separate runs, {JOBS} at a time ...")
    began = time.perf_counter()
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(bench.separate, [trial["params"] for trial in trials[:count]]))
    paired_s = (time.perf_counter() - began) * len(trials) / count
    outcome.figures += [
        Figure.of(f"sweep of {len(trials)} trials, {JOBS} workers", sweep_s, "s"),
        Figure(f"{len(trials)} runs, one after the other", alone_s, "s"),
        Figure(f"{len(trials)} runs, {JOBS} at a time", paired_s, "s"),
        Figure.of("one after the other / sweep", [alone_s / one for one in sweep_s], "x",
                  at_least=5.0),
        Figure.of(f"{JOBS} at a time / sweep", [paired_s / one for one in sweep_s], "x",
                  at_least=5.0),
    ]  # fmt: skip
    worker_s = sum(trial["wall_s"] for trial in trials) / len(trials)
    outcome.notes += [
        f"A trial takes its worker {1e3 * worker_s:.0f} ms; functions compiled during the sweep: "
        f"{swept[0][1]['compiled']}.",
        f"{count} trials equal their separate runs in equity, trades, costs and Sharpe ratio.",
    ]
    if count < len(trials):
        outcome.notes.append(
            f"The separate runs' times are those of {count}, times {len(trials) / count:g}."
        )
    if arguments.ray:
        add_ray(bench, grid, trials, outcome)


def add_ray(
    bench: Bench, grid: Sequence[str], trials: list[dict[str, Any]], outcome: Outcome
) -> None:
    """Run the sweep on a Ray cluster of this machine; the trials have to be the same."""
    say("the same on Ray ...")
    seconds, told = bench.sweep(grid, "--jobs", str(JOBS), "--ray", "local")
    same = [(one["params"], one["digest"]) for one in told["all"]]
    if same != [(one["params"], one["digest"]) for one in trials]:
        raise AssertionError("trials on Ray differ from those of processes")
    outcome.figures.append(
        Figure("the same sweep on a local Ray, its start included", seconds, "s")
    )
    outcome.notes.append("All trials on Ray have the parameters and the fills of the others.")


def extend(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.add_argument("--separate", type=int, help="separate runs; all of them if not given")
    parser.add_argument("--ray", action="store_true", help="also on a local Ray")


if __name__ == "__main__":
    report(measure, __doc__, extend)
