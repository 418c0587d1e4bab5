"""Runs the benchmarks one after the other and writes what they found into a page.

Each runs in a process of its own. ``run.py --only burst,ingest`` runs some; ``--quick`` takes
fewer and shorter runs; ``--write docs/benchmarks.md`` puts every result in its place in that page,
between the markers that name it, and leaves the rest of the page alone.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bench.measuring import Figure, Outcome

ROOT: Final = Path(__file__).resolve().parents[2]
PYTHON: Final = ".venv-bench/bin/python"
BENCHMARKS: Final = {
    "indicators": "bench_indicators",
    "burst": "bench_burst",
    "nautilus": "bench_nautilus",
    "backtest-daily": "bench_backtest_daily",
    "backtest-ticks": "bench_backtest_ticks",
    "sweep": "bench_sweep",
    "latency-lab": "bench_latency_lab",
    "ingest": "bench_ingest",
    "client": "bench_tick_to_client",
    "start": "bench_start",
    "memory": "bench_memory",
    "models-idle": "bench_models_idle",
    "models-saturated": "bench_models_saturated",
    "models-slo": "bench_models_slo",
    "models-serving": "bench_models_serving",
    "models-share": "bench_models_share",
}
PACKAGES: Final = (
    "numba", "numpy", "pyzmq", "uvloop", "websockets", "onnxruntime", "TA-Lib", "nautilus_trader",
    "backtesting", "backtrader", "pandas",
)  # fmt: skip


def machine_line() -> str:
    """Return what the figures were taken on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text("utf-8"), re.MULTILINE)
        model = found[1] if found else model
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} absent")
    return (
        f"Machine: {model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; "
        f"Python {platform.python_version()}, {', '.join(versions)}."
    )


def run_benchmark(name: str, options: Iterable[str]) -> dict[str, Any] | None:
    """Run one in a process of its own; return what it printed, None if it failed."""
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{BENCHMARKS[name]}", "--json", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row_of(figure: "Figure") -> str:
    """Return a figure as a row of a table."""
    from bench.measuring import number, spread_of, target_of, verdict_of

    value = f"{number(figure.value)} {figure.unit}"
    cells = [figure.case, value, spread_of(figure), target_of(figure), verdict_of(figure)]
    return f"| {' | '.join(cells)} |"


def section_of(name: str, outcome: "Outcome") -> str:
    """Return one benchmark's part of the page."""
    lines = [f"## {outcome.title}", "", f"`{PYTHON} tests/bench/run.py --only {name}`", ""]
    if outcome.skipped:
        lines += [f"Not measured: {outcome.skipped}.", ""]
    else:
        lines += ["| case | median | least to greatest | target | |", "|---|--:|--:|--:|---|"]
        lines += [*(row_of(figure) for figure in outcome.figures), ""]
    return "\n".join([*lines, *(f"- {note}" for note in outcome.notes)])


def put(page: str, name: str, text: str) -> str:
    """Return the page with a part replaced between its markers, or added at the end."""
    begin, end = f"<!-- {name}: measured, do not edit -->", f"<!-- {name}: end -->"
    part = f"{begin}\n{text.strip()}\n{end}"
    if begin in page and end in page:
        before, _, rest = page.partition(begin)
        return before + part + rest.partition(end)[2]
    return f"{page.rstrip()}\n\n{part}\n"


def write_page(path: Path, parts: dict[str, str]) -> None:
    """Put the machine line and every part into the page."""
    page = path.read_text("utf-8") if path.exists() else "# Benchmarks\n"
    for name, text in {"machine": machine_line(), **parts}.items():
        page = put(page, name, text)
    path.write_text(page, "utf-8")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's wishes; unknown names end the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(BENCHMARKS), help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--write", type=Path, help="page to put the results into")
    arguments = parser.parse_args()
    unknown = set(arguments.only.split(",")) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {sorted(unknown)}; there are: {', '.join(BENCHMARKS)}")
    return arguments


def main() -> int:
    """Run, print, write; 1 if a benchmark failed to run."""
    sys.path.insert(0, str(ROOT / "tests"))
    from bench.measuring import Outcome, as_text, say

    arguments = parse_arguments()
    options = ["--quick"] if arguments.quick else []
    found: dict[str, dict[str, Any]] = {}
    failed: list[str] = []
    for name in arguments.only.split(","):
        began = time.perf_counter()
        say(f"{name} ...")
        tree = run_benchmark(name, options)
        say(f"{name}: {time.perf_counter() - began:.0f} s")
        if tree is None:
            failed.append(name)
            continue
        found[name] = tree
        if not arguments.json:
            sys.stdout.write(as_text(Outcome.from_dict(tree)) + "\n\n")
            sys.stdout.flush()
    if arguments.json:
        sys.stdout.write(json.dumps({"machine": machine_line(), **found}) + "\n")
    if arguments.write:
        outcomes = {name: Outcome.from_dict(tree) for name, tree in found.items()}
        write_page(arguments.write, {n: section_of(n, one) for n, one in outcomes.items()})
    if failed:
        say(f"failed to run: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
