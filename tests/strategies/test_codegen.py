"""The generated source, and that compiled and interpreted kernels give the same bytes."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import kernel_plans
import pytest

from strategies.codegen import bindings_of, generate
from strategies.plan import RuleRequest, make_plan
from strategies.registry import Registry, load_registry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def source_of(registry: Registry, *rules: RuleRequest) -> str:
    return generate(make_plan(registry, kernel_plans.BARS, rules))


def test_other_parameters_are_other_data_never_other_code(registry: Registry) -> None:
    one = source_of(registry, RuleRequest("a", "macd_cross", "1s"))
    other = source_of(registry, RuleRequest("b", "macd_cross", "1s", {"fast": 3, "slow": 9}))
    assert one == other


def test_unused_clock_costs_nothing(registry: Registry) -> None:
    source = source_of(registry, RuleRequest("a", "macd_cross", "trade"))
    assert "run_trade(" in source
    assert "run_tick(" not in source
    assert "run_quote(" not in source


def test_every_name_in_the_source_is_bound() -> None:
    plan = kernel_plans.shared_plan()
    code = compile(generate(plan), "kernel", "exec")
    wanted = {name for one in code.co_consts if hasattr(one, "co_names") for name in one.co_names}
    own = {"njit", "np", "CACHE", "isnan", "nan", "shape", "range", *code.co_names}
    assert wanted <= own | set(bindings_of(plan))


def digest_with(env: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "tests/kernel_plans.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **env},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_interpreted_kernel_gives_the_same_bytes() -> None:
    assert digest_with({"NUMBA_DISABLE_JIT": "1"}) == kernel_plans.digest()


@pytest.mark.slow
def test_kernel_with_bounds_checks_gives_the_same_bytes() -> None:
    assert digest_with({"NUMBA_BOUNDSCHECK": "1"}) == kernel_plans.digest()
