"""Fuzzes a target with Atheris, guided by coverage: ``fuzz_guided.py NAME [libFuzzer options]``."""

import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris

import feeds.burst_kernel
import feeds.burst_layout
import feeds.frame_check
import feeds.log_counts
import feeds.tick_check

COMPILED: Final = (
    feeds.burst_kernel,
    feeds.burst_layout,
    feeds.frame_check,
    feeds.log_counts,
    feeds.tick_check,
)
"""Imported before, and so not instrumented: kernels are compiled from what is written."""


def main(arguments: list[str]) -> None:
    """Fuzz a target from its seeds."""
    with atheris.instrument_imports(include=["engine", "feeds", "tomllib"]):
        from fuzz_targets import TARGETS, seeds

    name, *options = arguments
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(name)):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, *options], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
