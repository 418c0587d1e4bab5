"""Start to ready of ``heqis engine``: from the process's start to its ready line.

Cold: the kernel's cache, numba's cache and Python's byte code are all empty, as on a new machine;
the operating system's file cache is warm. Warm: the next starts after that.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.live_config import demo_tree
from bench.measuring import Figure, Outcome, report, say
from bench.processes import Child, write_config

from engine.config import Config

COLD_RUNS: Final = 3
WARM_RUNS: Final = 5


def start_s(directory: Path, caches: Path) -> float:
    """Start an engine and stop it; return seconds to its ready line."""
    config = Config.model_validate(demo_tree(directory))
    path = write_config(config, directory / "engine.toml")
    environment = {
        "HEQIS_CACHE_DIR": str(caches / "kernels"),
        "NUMBA_CACHE_DIR": str(caches / "numba"),
        "PYTHONPYCACHEPREFIX": str(caches / "bytecode"),
    }
    with Child("-m", "engine.cli", "engine", "-c", str(path), environment=environment) as child:
        child.wait_for("ready in", timeout_s=300)
        return time.perf_counter() - child.began_s


def measure(arguments: argparse.Namespace) -> Outcome:
    """Start cold a few times, then warm."""
    cold: list[float] = []
    warm: list[float] = []
    for turn in range(1 if arguments.quick else COLD_RUNS):
        with tempfile.TemporaryDirectory() as name:
            caches = Path(name) / "caches"
            cold.append(start_s(Path(name), caches))
            say(f"cold start {turn + 1}: {cold[-1]:.2f} s")
            if not warm:
                warm = [start_s(Path(name), caches) for _ in range(WARM_RUNS)]
    return Outcome(
        "Start to ready",
        [
            Figure.of("cold: nothing compiled, no byte code", cold, "s"),
            Figure.of("warm", warm, "s"),
        ],
        ["configs/demo.toml; an engine is ready when it takes ticks and clients."],
    )


if __name__ == "__main__":
    report(measure, __doc__)
