"""Whatever bytes come from outside, a parser answers with a declared error or not at all."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, seeds
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from process_rig import FULL

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 150
MANY = 50_000 if FULL else 10_000
MANY_INPUTS = {"log": MANY // 5, "config": MANY // 10}
"""Inputs of a target in the long form, where they are fewer: these cost a file each."""
GUIDED_INPUTS = {"log": 20_000, "config": 3_000}
"""Likewise for the fuzzer that is guided by coverage, where they are not 200,000."""
WORDS = [b"null", b"-1", b"1e999", b"\xff\xfe", b"\x00" * 8, b"\xff" * 8, b'"', b"[" * 200, b"="]


@st.composite
def mutated(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """Take a good input and flip, cut, repeat or replace a few pieces of it."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["flip", "cut", "repeat", "insert", "truncate"]))
        size = draw(st.integers(1, 16))
        if how == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del data[at : at + size]
        elif how == "repeat":
            data[at:at] = data[at : at + size]
        elif how == "insert":
            data[at:at] = draw(st.sampled_from(WORDS) | st.binary(max_size=size))
        else:
            del data[at:]
    return bytes(data)


def fuzz(name: str, inputs: int) -> None:
    target, good = TARGETS[name], seeds(name)

    @settings(
        max_examples=inputs,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(max_size=400) | mutated(good))
    def check(data: bytes) -> None:
        target(data)

    for seed in good:
        target(seed)
    check()


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_answers_anything_with_a_declared_error(name: str) -> None:
    fuzz(name, INPUTS if name != "config" else INPUTS // 5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_answers_many_more_inputs_with_a_declared_error(name: str) -> None:
    fuzz(name, MANY_INPUTS.get(name, MANY))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="Atheris is not installed")
@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"burst"}))
def test_a_parser_stands_a_fuzzer_that_is_guided_by_coverage(name: str, tmp_path: Path) -> None:
    runs = GUIDED_INPUTS.get(name, 200_000)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "fuzz_guided.py"), name, f"-runs={runs}", "-seed=1",
         "-max_len=2000", "-rss_limit_mb=2048", f"-artifact_prefix={tmp_path}/"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4_000:]
    assert f"Done {runs} runs" in done.stderr
