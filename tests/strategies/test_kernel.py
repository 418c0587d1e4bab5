"""The kernel as a whole: bursts, full buffers, gaps, switches and order."""

import os
import subprocess
import sys
from pathlib import Path

import kernel_plans
import kernel_runs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_plans import BARS, INSTRUMENTS, RULES, shared_kernel, two_closes
from kernel_runs import Outputs, Records, as_bytes, gap, heartbeat, quote, tick, trade

from engine.core.errors import PluginError
from engine.core.records import TickFlag, TickKind, instrument_row
from strategies import kernel as kernel_module
from strategies.bar_spec import BarKind, BarSpec
from strategies.kernel import Kernel
from strategies.model_spec import FeatureColumn, ModelWindow
from strategies.plan import RuleRequest, Watch, make_plan
from strategies.registry import Registry, load_registry
from strategies.spec import Use

COUNT = 1500
NAMES = [rule.name for rule in RULES]


@pytest.fixture(scope="module")
def ticks() -> Records:
    return kernel_runs.random_ticks(COUNT, INSTRUMENTS)


@pytest.fixture(scope="module")
def compiled() -> Kernel:
    return shared_kernel()


@pytest.fixture(scope="module")
def whole(compiled: Kernel, ticks: Records) -> Outputs:
    kernel_runs.reset(compiled)
    return kernel_runs.run(compiled, ticks)


@pytest.fixture
def kernel(compiled: Kernel) -> Kernel:
    kernel_runs.reset(compiled)
    return compiled


def by(out: Outputs, name: str) -> Records:
    found: Records = out.candidates[out.candidates["strategy"] == NAMES.index(name)]
    return found


def test_ticks_try_every_rule(whole: Outputs) -> None:
    assert {len(by(whole, name)) > 3 for name in NAMES} == {True}
    assert np.isfinite(whole.values).any(axis=0).all()


def test_bursts_of_one_give_the_same_bytes(kernel: Kernel, ticks: Records, whole: Outputs) -> None:
    assert kernel_runs.run(kernel, ticks, range(1, COUNT)).digest() == whole.digest()


@settings(max_examples=30)
@given(cuts=st.sets(st.integers(1, COUNT - 1), max_size=60))
def test_any_bursts_give_the_same_bytes(
    compiled: Kernel, ticks: Records, whole: Outputs, cuts: set[int]
) -> None:
    kernel_runs.reset(compiled)
    assert kernel_runs.run(compiled, ticks, cuts).digest() == whole.digest()


def test_pausing_at_candidates_gives_the_same_bytes(ticks: Records, whole: Outputs) -> None:
    kernel = shared_kernel(pause=True)
    assert kernel_runs.run(kernel, ticks).digest() == whole.digest()
    kernel_runs.reset(kernel)
    stop = kernel.run_ticks(ticks, 0, COUNT)
    assert (kernel.n_candidates, kernel.n_bars) != (0, 0)
    assert stop < COUNT


def test_full_buffers_lose_nothing(
    ticks: Records, whole: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_module, "OUTPUT_ROWS", 0)
    kernel = shared_kernel(frozenset())
    assert len(kernel.candidates) == INSTRUMENTS * len(RULES)
    at, parts = 0, []
    while at < COUNT:
        at = kernel.run_ticks(ticks, at, COUNT)
        assert kernel.n_candidates <= len(kernel.candidates)
        parts.append(kernel.candidates[: kernel.n_candidates].copy())
    assert len(parts) > 3 + kernel.outputs()[2]
    assert as_bytes(np.concatenate(parts)) == as_bytes(whole.candidates)


def test_recorded_bars_that_close_two_bars_each_stay_within_full_buffers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel_module, "OUTPUT_ROWS", 0)
    model = ModelWindow("m", "1s", (FeatureColumn("close", Use("sma", {"length": 1})),), 1)
    plan = make_plan(load_registry(), BARS, [RuleRequest("r", "", "", model="m")], models=[model])
    bars = two_closes(11)
    for instruments in (1, 3):
        kernel = Kernel(plan, instruments)
        at, made = 0, 0
        while at < len(bars):
            at = kernel.run_bars(bars, at, len(bars))
            assert kernel.n_candidates <= len(kernel.candidates)
            made += kernel.n_candidates
        assert made == 10


def test_bars_that_nobody_wants_do_not_leave(ticks: Records, whole: Outputs) -> None:
    kernel = shared_kernel(frozenset(["3t"]))
    out = kernel_runs.run(kernel, ticks)
    assert set(out.bars["spec"].tolist()) == {1}
    assert as_bytes(out.candidates) == as_bytes(whole.candidates)
    closed = kernel.bars_closed()
    assert closed["3t"] == len(out.bars)
    assert closed["1s"] == np.count_nonzero(whole.bars["spec"] == 0)


def test_gap_makes_every_instrument_as_new(kernel: Kernel) -> None:
    many = kernel_runs.random_ticks(300, INSTRUMENTS, seed=3)
    many = many[many["kind"] != TickKind.GAP]
    kernel_runs.run(kernel, np.concatenate([many, gap(2 * 10**18)]))
    for row in kernel.state[:-1]:
        assert row.tobytes() == kernel.state[-1].tobytes()
    assert not kernel.ring.any()
    assert kernel.outputs()[2] == 1


def test_after_a_gap_everything_comes_as_from_the_start(kernel: Kernel, whole: Outputs) -> None:
    before = kernel_runs.random_ticks(100, INSTRUMENTS, seed=4)
    again = kernel_runs.random_ticks(COUNT, INSTRUMENTS)
    out = kernel_runs.run(kernel, np.concatenate([before, gap(1), again]), [101])
    fresh = out.candidates[out.candidates["row"] > 100]
    fresh["row"] -= 101
    assert as_bytes(fresh) == as_bytes(whole.candidates)


def test_nothing_compiles_after_warm_up(kernel: Kernel, ticks: Records) -> None:
    assert kernel.signatures == 1
    kernel.run_ticks(ticks, 0, COUNT)
    kernel.run_ticks(ticks[:7], 0, 7)
    assert kernel.signatures == 1


def test_rules_that_share_an_indicator_see_the_same(kernel: Kernel, whole: Outputs) -> None:
    one, other = (by(whole, name).copy() for name in ("slow macd", "twin of slow macd"))
    other["strategy"] = one["strategy"]
    assert as_bytes(one) == as_bytes(other)
    inputs = [rule.inputs for rule in kernel.plan.rules if "slow" in rule.name]
    assert inputs[0] == inputs[1]


def test_disabled_instrument_gives_nothing_and_changes_nothing_else(
    kernel: Kernel, ticks: Records, whole: Outputs
) -> None:
    number = NAMES.index("macd")
    kernel.enabled[number, 1] = 0
    off = (whole.candidates["strategy"] == number) & (whole.candidates["instrument"] == 1)
    assert off.any()
    out = kernel_runs.run(kernel, ticks)
    assert as_bytes(out.candidates) == as_bytes(whole.candidates[~off])
    assert as_bytes(out.bars) == as_bytes(whole.bars)


def test_one_heartbeat_goes_through_the_instruments_in_order(whole: Outputs) -> None:
    for rows, ids in (
        (whole.rows, whole.bars["instrument"]),
        (whole.candidates["row"], whole.candidates["instrument"]),
    ):
        same_row = rows[1:] == rows[:-1]
        assert (ids[1:][same_row] >= ids[:-1][same_row]).all()
        assert (ids[1:][same_row] > ids[:-1][same_row]).any()
        assert (np.diff(rows) >= 0).all()


@pytest.mark.parametrize("instrument", [INSTRUMENTS, INSTRUMENTS + 1, 2**32 - 1])
def test_instrument_beyond_the_capacity_is_skipped_and_counted(
    kernel: Kernel, instrument: int
) -> None:
    before = kernel.state.tobytes()
    assert kernel.run_ticks(trade(1, 10.0, instrument=instrument), 0, 1) == 1
    assert kernel.unknown == 1
    assert kernel.state.tobytes() == before


def test_definition_beyond_the_capacity_is_refused_whole(kernel: Kernel) -> None:
    with pytest.raises(IndexError):
        kernel.define(instrument_row("A.X", id=INSTRUMENTS))
    assert kernel.run_ticks(trade(1, 10.0, instrument=INSTRUMENTS), 0, 1) == 1
    assert kernel.unknown == 1


def test_rule_that_sets_only_the_side_hands_on_nothing_stale(whole: Outputs) -> None:
    made = by(whole, "across")
    assert (made["strength"] == 0).all()
    assert (made["confidence"] == 0).all()
    assert np.isnan(made["edge_bps"]).all()


def test_rule_sees_another_clocks_indicator_as_the_tick_before_left_it(kernel: Kernel) -> None:
    prices = [100.0, 101, 99, 100, 102, 98, 103, 97, 97, 104, 96, 105]
    out = kernel_runs.run(kernel, np.concatenate([trade(i, p) for i, p in enumerate(prices)]))
    closes = [prices[at] for at in range(2, len(prices), 3)]
    sides = {}
    for at in range(6, len(prices)):
        done = at // 3
        mean = (closes[done - 1] + closes[done - 2]) / 2
        sides[at] = 1 if prices[at] > mean else -1
    expected = [(at, side) for at, side in sides.items() if sides.get(at - 1, side) != side]
    made = by(out, "across")
    assert [(int(c["row"]), int(c["side"])) for c in made] == expected
    assert expected


def test_candidate_carries_what_the_gate_judges_by(kernel: Kernel) -> None:
    book = quote(5, 99.0, 101.0, (3.0, 4.0), instrument=2)
    moves = [trade(10 + i, 200.0 - i * i / 100, 2.0, 2) for i in range(30)]
    last = tick(TickKind.TRADE, 60, 2, price=250.0, size=2.0, flags=TickFlag.ODD_CONDITION)
    out = kernel_runs.run(kernel, np.concatenate([book, *moves, last]))
    made = by(out, "macd")[-1]
    assert made["row"] == 31
    assert made["instrument"] == 2
    assert (made["ts_event"], made["ts_recv"], made["ts_quote"]) == (60, 65, 5)
    assert (made["price"], made["bid"], made["ask"]) == (250.0, 99.0, 101.0)
    assert (made["bid_size"], made["ask_size"], made["pre_close"]) == (3.0, 4.0, 99.0)
    assert made["flags"] == TickFlag.ODD_CONDITION
    assert made["session_turnover"] == sum(2 * m["price"][0] for m in [*moves, last])


def test_values_of_an_indicator_that_is_not_ready_are_nan(kernel: Kernel) -> None:
    parts = [trade(i, 100.0 + i) for i in range(9)]
    out = kernel_runs.run(kernel, np.concatenate(parts))
    assert out.values[:, 0].tolist()[1:] == [103.5, 106.5]
    assert np.isnan(out.values[0, 0])
    assert np.isnan(out.values[:, 1:]).all()


def test_heartbeat_alone_does_nothing(kernel: Kernel) -> None:
    out = kernel_runs.run(kernel, np.concatenate([heartbeat(10**18), heartbeat(2 * 10**18)]))
    assert len(out.candidates) == len(out.bars) == 0


BROKEN = """
from numba import njit
from strategies.spec import IndicatorSpec

@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    s["value"] = x["no such field"]

SPEC = IndicatorSpec(
    name="broken", title="Broken", params={}, outputs=("value",), update=update_nb,
    warm_up=lambda p: 1, formula="none", reference="none",
)
"""


def test_indicator_that_does_not_compile_is_told_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN)
    bars = [BarSpec("1s", BarKind.TIME, interval_ns=10**9)]
    plan = make_plan(load_registry([path]), bars, [], [Watch("1s", "b", Use("broken"))])
    with pytest.raises(PluginError, match="it does not compile") as caught:
        Kernel(plan, 1).warm_up()
    assert caught.value.file == str(path)


SMALL = """
import resource, signal
from strategies.kernel import Kernel
from strategies.plan import make_plan
from strategies.registry import Registry
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
kernel = Kernel(make_plan(Registry({}, {}, {}), [], []), 1)
kernel.warm_up()
print(kernel.signatures, kernel._module.CACHE)
"""


def test_full_disk_under_the_cache_stops_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL],
        cwd=Path(kernel_plans.__file__).parents[1],
        env={**os.environ, "HEQIS_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.split() == ["1", "True"], done.stderr


def test_wish_for_nothing_is_a_kernel_too() -> None:
    kernel = Kernel(make_plan(Registry({}, {}, {}), [], []), 1)
    assert kernel.run_ticks(trade(1, 10.0), 0, 1) == 1
    assert kernel.bars_closed() == {}
