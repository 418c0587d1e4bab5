"""What comes before an engine's first backtest: its process, its imports, its kernel, its data."""

import json
import os
import subprocess
import sys
import time

from bench import peers_backtesting, peers_backtrader, peers_nautilus, peers_pandas
from bench.backtest_markets import Imported
from bench.measuring import Figure, Outcome

_ROUNDS = 3
_PEERS = (
    ("pandas", peers_pandas.IMPORTS),
    ("backtesting.py", peers_backtesting.IMPORTS),
    ("backtrader", peers_backtrader.IMPORTS),
    ("NautilusTrader", peers_nautilus.IMPORTS),
)


def add_start(outcome: Outcome, case: str, imported: Imported, load_s: float) -> None:
    """Add what processes take to start, and what HEQIS's data takes."""
    outcome.figures.append(Figure.of("preparation: HEQIS, log read and checked", [load_s], "s"))
    for name, module in _PEERS:
        taken = [_process_s(["-c", f"import {module}"])[0] for _ in range(_ROUNDS)]
        outcome.figures.append(Figure.of(f"process start and imports: {name}", taken, "s"))
    ours = [_first_run(case, imported) for _ in range(_ROUNDS)]
    for what, seconds in zip(
        ("and imports", "to the end of the first backtest"), (0, 1), strict=True
    ):
        runs = [one[seconds] for one in ours]
        outcome.figures.append(Figure.of(f"process start {what}: HEQIS", runs, "s"))
    outcome.notes.append(
        f"Importing the recorded files into a log took {imported.seconds:.1f} s, once. HEQIS's "
        "kernels are compiled already, as after the first run of a configuration; the first "
        "backtest of a process loads them."
    )


def _first_run(case: str, imported: Imported) -> tuple[float, float]:
    """Return a process's seconds to its imports, and to the end of its first backtest."""
    whole, told = _process_s(["-m", "bench.ours_backtest", str(imported.log), case])
    facts = json.loads(told)
    return whole - facts["worked_s"], whole - facts["worked_s"] + facts["load_s"] + facts["first_s"]


def _process_s(arguments: list[str]) -> tuple[float, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    return time.perf_counter() - began, done.stdout
