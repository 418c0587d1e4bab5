"""The training table is what the kernel pushes, row for row."""

import kernel_runs
import model_plans
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_plans import BARS, INSTRUMENTS, random_bars
from kernel_runs import Records, gap, trade
from model_plans import FAST, SLOW, columns, gather

from engine.core.errors import ConfigError
from engine.core.records import TickKind, instrument_row
from strategies.batch import run_indicators
from strategies.feature_matrix import FeatureMatrix, feature_matrix, stack_windows
from strategies.model_spec import ModelWindow
from strategies.plan import RuleRequest, make_plan
from strategies.registry import load_registry
from strategies.spec import Use

REGISTRY = load_registry()
UNIVERSE = np.concatenate(
    [
        instrument_row("A.X", id=at, day_offset_s=3600 * at, pre_close=99.0)
        for at in range(INSTRUMENTS)
    ]
)


def matrix_of(model: ModelWindow, *bursts: Records) -> FeatureMatrix:
    return feature_matrix(bursts, model, BARS, REGISTRY, UNIVERSE)


@pytest.fixture(scope="module")
def ticks() -> Records:
    return kernel_runs.random_ticks(3000, INSTRUMENTS, seed=21)


@pytest.fixture(scope="module")
def table(ticks: Records) -> FeatureMatrix:
    return matrix_of(FAST, ticks)


def test_bursts_change_nothing(ticks: Records, table: FeatureMatrix) -> None:
    cut = matrix_of(FAST, *np.array_split(ticks, 37))
    for name in FeatureMatrix._fields:
        assert getattr(cut, name).tobytes() == getattr(table, name).tobytes(), name


def test_whole_windows_are_those_the_live_kernel_asks_about(
    ticks: Records, table: FeatureMatrix
) -> None:
    rules = [RuleRequest("r", "", "", model="fast")]
    kernel = model_plans.model_kernel(make_plan(REGISTRY, BARS, rules, models=[FAST]))
    places, inputs = stack_windows(table, FAST.window)
    at, seen = 0, 0
    while at < len(ticks):
        at = kernel.run_ticks(ticks, at, len(ticks))
        made = kernel.candidates[: kernel.n_candidates]
        out, ok, _ = gather(kernel, 0, made["instrument"], made["window"])
        assert ok.all()
        mine = slice(seen, seen + len(made))
        assert inputs[mine].tobytes() == out[: len(made)].tobytes()
        assert table.ts_event[places[mine]].tolist() == made["ts_event"].tolist()
        assert table.instrument[places[mine]].tolist() == made["instrument"].tolist()
        assert table.price[places[mine]].tolist() == made["price"].tolist()
        seen += len(made)
    assert seen == len(places) > 2000


def test_rows_are_what_the_indicators_give_over_the_closed_bars() -> None:
    bars = random_bars(400)
    bars["instrument"] = 0
    model = ModelWindow("m", "tick", columns(), 1)
    made = matrix_of(model, bars)
    macd = {"fast": 2, "slow": 4, "signal": 2}
    values = run_indicators(bars, [Use("roc", {"length": 1}), Use("macd", macd)], REGISTRY)
    roc, histogram = values["roc(length=1)"], values["macd(fast=2,slow=4,signal=2).histogram"]
    assert len(made.rows) == 0  # no book, no order flow
    plain = matrix_of(ModelWindow("m", "tick", columns(*model_plans.TEXTS[:2]), 1), bars)
    ready = ~np.isnan(histogram)
    expected = np.stack([roc[ready], histogram[ready]], axis=1).astype(np.float32)
    assert plain.rows.tobytes() == expected.tobytes()
    assert plain.price.tolist() == bars["close"][ready].tolist()
    assert plain.ts_event.tolist() == bars["ts_event"][ready].tolist()
    assert np.isnan(plain.mid).all()


def test_run_counts_rows_without_a_break() -> None:
    parts = [trade(at, 100.0 + at) for at in range(4)]
    more = [trade(20 + at, 100.0 + at) for at in range(3)]
    made = matrix_of(
        ModelWindow("m", "tick", columns(("r", "roc(length=1)", "")), 9),
        np.concatenate([*parts, gap(10), *more]),
    )
    assert made.run.tolist() == [1, 2, 3, 1, 2]
    places, windows = stack_windows(made, 2)
    assert places.tolist() == [1, 2, 4]
    assert windows[:, :, 0].tolist() == [
        made.rows[pair, 0].tolist() for pair in ([0, 1], [1, 2], [3, 4])
    ]


@given(
    who=st.lists(st.integers(0, 2), max_size=40),
    window=st.integers(1, 5),
    breaks=st.sets(st.integers(0, 39)),
)
def test_stacked_windows_are_the_last_rows_of_their_instrument(
    who: list[int], window: int, breaks: set[int]
) -> None:
    runs: list[int] = []
    history: dict[int, list[int]] = {}
    expected = {}
    for at, one in enumerate(who):
        past = history.setdefault(one, [])
        if at in breaks:
            past.clear()
        past.append(at)
        runs.append(len(past))
        if len(past) >= window:
            expected[at] = [[float(place)] for place in past[-window:]]
    count = len(who)
    matrix = FeatureMatrix(
        ts_event=np.arange(count),
        instrument=np.array(who, np.uint32),
        rows=np.arange(count, dtype=np.float32).reshape(count, 1),
        price=np.zeros(count),
        mid=np.zeros(count),
        run=np.array(runs, np.int64),
        session=np.zeros(count, np.int32),
    )
    places, inputs = stack_windows(matrix, window)
    assert places.tolist() == list(expected)
    assert inputs.tolist() == list(expected.values())


def test_bars_are_timed_at_their_end_and_priced_at_their_close(ticks: Records) -> None:
    made = matrix_of(SLOW, ticks)
    assert len(made.rows) > 100
    ends = made.ts_event[made.instrument == 0]
    assert (ends % 10**8 == 0).mean() > 0.9
    assert (made.price > 90).all()
    known = ~np.isnan(made.mid)
    assert np.abs(made.mid[known] - made.price[known]).max() < 1.0


def test_definitions_between_records_count_from_there_on(ticks: Records) -> None:
    later = UNIVERSE.copy()
    later["day_offset_s"] += 86_400
    made = matrix_of(FAST, ticks[:1500], later, ticks[1500:])
    plain = matrix_of(FAST, ticks)
    days = made.session - plain.session
    assert made.rows.tobytes() == plain.rows.tobytes()
    assert set(days[made.ts_event < ticks["ts_event"][1400]].tolist()) == {0}
    from_the_start = matrix_of(FAST, later, ticks)
    assert set((from_the_start.session - plain.session).tolist()) == {1}


def test_no_records_give_an_empty_table() -> None:
    made = matrix_of(SLOW)
    assert made.rows.shape == (0, 2)
    assert made.rows.dtype == np.float32
    assert stack_windows(made, 3)[1].shape == (0, 3, 2)
    heartbeats = kernel_runs.random_ticks(50, INSTRUMENTS)
    heartbeats = heartbeats[heartbeats["kind"] == TickKind.HEARTBEAT]
    assert len(matrix_of(SLOW, heartbeats).run) == 0


def test_unknown_clock_is_told() -> None:
    with pytest.raises(ConfigError, match="clocks are: tick, trade, quote, 1s, 3t"):
        matrix_of(ModelWindow("m", "7s", columns(), 3))
