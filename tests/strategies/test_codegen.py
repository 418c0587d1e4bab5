"""The generated source, and that compiled and interpreted kernels give the same bytes."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import kernel_plans
import kernel_runs
import model_plans
import pytest

from strategies.codegen import bindings_of, generate
from strategies.codegen_models import MODEL_BINDINGS
from strategies.plan import KernelPlan, RuleRequest, make_plan
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


def test_plan_without_models_gets_nothing_of_them(registry: Registry) -> None:
    plan = make_plan(registry, kernel_plans.BARS, [RuleRequest("a", "macd_cross", "1s")])
    assert not MODEL_BINDINGS.keys() & bindings_of(plan).keys()
    assert not any(name in generate(plan) for name in ("window", "pushed", *MODEL_BINDINGS))


def test_window_length_and_how_often_to_ask_are_data_never_code(registry: Registry) -> None:
    def source(window: int, every: int) -> str:
        model = replace(model_plans.FAST, window=window)
        rules = [RuleRequest("a", "", "", {"every": every}, model="fast")]
        return generate(make_plan(registry, kernel_plans.BARS, rules, models=[model]))

    assert source(5, 1) == source(64, 10)


@pytest.mark.slow
def test_rules_answer_the_same_with_models_beside_them(registry: Registry) -> None:
    rules = kernel_plans.RULES[:-1]
    ticks = kernel_runs.random_ticks(1500, kernel_plans.INSTRUMENTS)
    plans = [
        make_plan(registry, kernel_plans.BARS, rules, models=models)
        for models in ((), model_plans.MODELS)
    ]
    outs = [kernel_runs.run(model_plans.model_kernel(plan), ticks) for plan in plans]
    assert len(outs[0].candidates) > 100
    assert outs[0].digest() == outs[1].digest()


@pytest.mark.parametrize("plan", [kernel_plans.shared_plan(), model_plans.model_plan()])
def test_every_name_in_the_source_is_bound(plan: KernelPlan) -> None:
    code = compile(generate(plan), "kernel", "exec")
    wanted = {name for one in code.co_consts if hasattr(one, "co_names") for name in one.co_names}
    numpys = {"njit", "np", "isnan", "nan", "isfinite", "float32"}
    own = {*numpys, "CACHE", "shape", "range", "min", *code.co_names}
    assert wanted <= own | set(bindings_of(plan))


def digest_with(env: Mapping[str, str], program: str = "kernel_plans") -> str:
    done = subprocess.run(
        [sys.executable, f"tests/{program}.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **env},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_interpreted_kernel_gives_the_same_bytes() -> None:
    assert digest_with({"NUMBA_DISABLE_JIT": "1"}) == kernel_plans.digest()


@pytest.mark.slow
def test_interpreted_kernel_with_models_gives_the_same_windows() -> None:
    assert digest_with({"NUMBA_DISABLE_JIT": "1"}, "model_plans") == model_plans.digest()


@pytest.mark.slow
def test_kernel_with_models_and_bounds_checks_gives_the_same_windows(tmp_path: Path) -> None:
    env = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert digest_with(env, "model_plans") == model_plans.digest()


@pytest.mark.slow
def test_kernel_with_bounds_checks_gives_the_same_bytes() -> None:
    assert digest_with({"NUMBA_BOUNDSCHECK": "1"}) == kernel_plans.digest()
