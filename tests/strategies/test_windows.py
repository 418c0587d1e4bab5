"""Feature windows in the kernel: against a twin that keeps every row, and rule by rule."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import kernel_runs
import model_plans
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_plans import BARS, INSTRUMENTS, two_closes
from kernel_runs import Records, gap, heartbeat, quote, trade
from model_plans import by, gather
from reference.bar_twin import BarTwin, MarketTwin
from reference.window_twin import Row, WindowTwin

from engine.core.records import ALL_INSTRUMENTS, TICK, TickKind
from strategies.kernel import Kernel
from strategies.model_spec import ModelWindow
from strategies.plan import RuleRequest, make_plan
from strategies.registry import load_registry
from strategies.windows import RUN_RECORDS, SLACK, gather_nb

PLAIN = model_plans.columns(("close", "sma(length=1)", ""), ("change", "roc(length=1)", ""))
WINDOWS = {"tick": 4, "1s": 2, "3t": 3}
FAST, SLOW = 0, 1


class Asked(NamedTuple):
    """One request for a score: the record, the instrument, the model, the number."""

    row: int
    instrument: int
    model: int
    window: int


def plain_kernel() -> Kernel:
    models = [ModelWindow(clock, clock, PLAIN, window) for clock, window in WINDOWS.items()]
    rules = [RuleRequest(clock, "", "", model=clock) for clock in WINDOWS]
    return model_plans.model_kernel(make_plan(load_registry(), BARS, rules, models=models))


@pytest.fixture(scope="module")
def plain() -> Kernel:
    return plain_kernel()


@pytest.fixture(scope="module")
def compiled() -> Kernel:
    return model_plans.model_kernel()


@pytest.fixture
def kernel(compiled: Kernel) -> Kernel:
    kernel_runs.reset(compiled)
    compiled.set_normalisation(FAST, None, None)
    return compiled


class Twin:
    """What a kernel of ``plain_kernel`` asks for, made one record after another."""

    def __init__(self) -> None:
        self.rows = [[WindowTwin(size) for size in WINDOWS.values()] for _ in range(INSTRUMENTS)]
        self.asked: list[Asked] = []
        self.forget()

    def forget(self) -> None:
        self.markets = [MarketTwin(offset_ns=at * 3600 * 10**9) for at in range(INSTRUMENTS)]
        self.bars = [
            [BarTwin("time", 1e8, market), BarTwin("tick", 3, market)] for market in self.markets
        ]
        self.last: list[list[float]] = [[math.nan] * len(WINDOWS) for _ in range(INSTRUMENTS)]

    def take(self, at: int, tick: dict[str, Any]) -> None:
        if tick["kind"] == TickKind.GAP:
            self.forget()
            for rings in self.rows:
                for ring in rings:
                    ring.take(None)
            return
        everyone = tick["kind"] == TickKind.HEARTBEAT
        for id_ in range(INSTRUMENTS) if everyone else [tick["instrument"]]:
            time_bar, tick_bar = self.bars[id_]
            time_bar.time_is(tick["ts_event"], tick["ts_recv"])
            self.closed(at, id_, 1, time_bar)
            sample = None if everyone else self.markets[id_].take(tick)
            if sample is None:
                continue
            self.push(at, id_, 0, sample["price"])
            for model, bar in ((1, time_bar), (2, tick_bar)):
                bar.add(sample)
                self.closed(at, id_, model, bar)

    def closed(self, at: int, id_: int, model: int, bar: BarTwin) -> None:
        for done in bar.done:
            self.push(at, id_, model, done["close"])
        bar.done.clear()

    def push(self, at: int, id_: int, model: int, close: float) -> None:
        before, self.last[id_][model] = self.last[id_][model], close
        row = None if math.isnan(before) else (close, 100.0 * (close / before - 1.0))
        number = self.rows[id_][model].take(row)
        if number:
            self.asked.append(Asked(at, id_, model, number))

    def window(self, asked: Asked) -> list[Row]:
        found = self.rows[asked.instrument][asked.model].window(asked.window)
        assert found is not None
        return found


def asked_of(candidates: Records) -> list[Asked]:
    assert (candidates["side"] == 0).all()
    return [Asked(*(int(c[name]) for name in Asked._fields)) for c in candidates]


def run_gathering(kernel: Kernel, ticks: Records, cuts: set[int]) -> tuple[list[Asked], list[Any]]:
    """Run bursts that end at the cuts, gathering after every run what it asked for."""
    asked: list[Asked] = []
    windows: list[Any] = []
    at = 0
    for stop in [*sorted(cut for cut in cuts if cut < len(ticks)), len(ticks)]:
        while at < stop:
            at = kernel.run_ticks(ticks, at, stop)
            made = kernel.candidates[: kernel.n_candidates]
            for model in range(len(kernel.plan.models)):
                mine = made[made["model"] == model]
                out, ok, found = gather(kernel, model, mine["instrument"], mine["window"])
                whole = mine["window"] > 0
                assert (ok.astype(bool) == whole).all()
                assert found == whole.sum()
                windows += list(zip(map(tuple, asked_keys(mine)), out[: len(mine)], strict=True))
            asked += [Asked(*key) for key in asked_keys(made)]
    return asked, sorted(windows, key=lambda pair: pair[0])


def asked_keys(made: Records) -> list[tuple[int, ...]]:
    return [tuple(int(c[name]) for name in Asked._fields) for c in made]


moves = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 1, 1, 2, 2, 3, 3, 4]),
        st.integers(0, INSTRUMENTS - 1),
        st.sampled_from([-(10**7), 0, 10**6, 10**7, 3 * 10**7, 10**8]),
        st.integers(90, 110),
        st.sampled_from([math.nan, 0.5, 1.0]),
    ),
    max_size=120,
)


def ticks_of(made: Sequence[tuple[int, int, int, int, float]]) -> Records:
    ticks = np.zeros(len(made), TICK)
    now = 10**18
    for tick, (kind, instrument, step, price, half) in zip(ticks, made, strict=True):
        now += step
        tick["kind"], tick["instrument"], tick["ts_event"] = kind, instrument, now
        tick["ts_recv"] = now + 5
        tick["price"] = price if kind != TickKind.SNAPSHOT or price % 3 else math.nan
        tick["bid"], tick["ask"] = price - half, price + 1.0
        tick["bid_size"] = tick["ask_size"] = tick["size"] = 1.0
    ticks["instrument"][np.isin(ticks["kind"], (0, 4))] = ALL_INSTRUMENTS
    return ticks


def records_as_dicts(ticks: Records) -> list[dict[str, Any]]:
    return [{name: tick[name].item() for name in TICK.names or ()} for tick in ticks]


@settings(max_examples=60, deadline=None)
@given(made=moves, cuts=st.sets(st.integers(1, 120), max_size=10))
def test_windows_are_those_of_a_twin_that_keeps_every_row(
    plain: Kernel, made: list[tuple[int, int, int, int, float]], cuts: set[int]
) -> None:
    check_against_twin(plain, ticks_of(made), cuts)


def check_against_twin(kernel: Kernel, ticks: Records, cuts: set[int]) -> Twin:
    kernel_runs.reset(kernel)
    twin = Twin()
    for at, tick in enumerate(records_as_dicts(ticks)):
        twin.take(at, tick)
    asked, windows = run_gathering(kernel, ticks, cuts)
    assert asked == twin.asked
    for key, window in windows:
        expected = np.array(twin.window(Asked(*key)), np.float32)
        assert window.tobytes() == expected.tobytes()
    for id_ in range(INSTRUMENTS):
        for model in range(len(WINDOWS)):
            assert kernel.pushed(model, id_) == twin.rows[id_][model].number
    return twin


def test_long_stream_wraps_every_ring_and_still_equals_the_twin(plain: Kernel) -> None:
    ticks = kernel_runs.random_ticks(4000, INSTRUMENTS, seed=11)
    twin = check_against_twin(plain, ticks, set(range(0, 4000, 177)))
    assert min(plain.pushed(0, id_) for id_ in range(INSTRUMENTS)) > 2 * (SLACK + WINDOWS["tick"])
    assert {one.model for one in twin.asked} == {0, 1, 2}


@settings(max_examples=15, deadline=None)
@given(cuts=st.sets(st.integers(1, 1499), max_size=40))
def test_any_bursts_ask_for_the_same_windows(compiled: Kernel, cuts: set[int]) -> None:
    ticks = kernel_runs.random_ticks(1500, INSTRUMENTS, seed=12)
    kernel_runs.reset(compiled)
    whole = run_gathering(compiled, ticks, set())
    kernel_runs.reset(compiled)
    cut = run_gathering(compiled, ticks, cuts)
    assert cut[0] == whole[0]
    assert [key for key, _ in cut[1]] == [key for key, _ in whole[1]]
    assert all((a == b).all() for (_, a), (_, b) in zip(cut[1], whole[1], strict=True))


def prices(count: int, start: int = 0, instrument: int = 0) -> Records:
    """Trades that are all different, so that no two windows are equal."""
    return np.concatenate(
        [trade(start + at, 100.0 + start + at, 1.0, instrument) for at in range(count)]
    )


def push(kernel: Kernel, count: int, start: int) -> int:
    ticks, at = prices(count, start), 0
    while at < count:
        at = kernel.run_ticks(ticks, at, count)
    return kernel.pushed(0, 0)


def test_window_outlives_as_many_rows_as_there_is_slack_and_no_more(plain: Kernel) -> None:
    kernel_runs.reset(plain)
    asked = push(plain, 41, 0)
    before, _, _ = gather(plain, 0, 0, asked)
    push(plain, SLACK, 41)
    out, ok, found = gather(plain, 0, [0, 0, 0], [asked, asked - 1, asked + SLACK])
    assert (ok.tolist(), found) == ([1, 0, 1], 2)
    assert (out[0] == before[0]).all()
    assert not out[1].any()
    push(plain, 1, 41 + SLACK)
    out, ok, found = gather(plain, 0, 0, asked)
    assert (ok.tolist(), found) == ([0], 0)
    assert not out[0].any()


def test_rows_of_the_bucket_beyond_the_requests_are_left_alone(plain: Kernel) -> None:
    kernel_runs.reset(plain)
    asked = push(plain, 41, 0)
    out, _, _ = gather(plain, 0, [0], [asked])
    assert (out[1] == 7.0).all()
    assert (out[0] != 7.0).all()


@pytest.mark.parametrize(
    ("instrument", "window"), [(0, 0), (0, 3), (0, 41), (-1, 40), (3, 40), (1, 40), (0, -5)]
)
def test_window_that_never_was_is_not_gathered(plain: Kernel, instrument: int, window: int) -> None:
    kernel_runs.reset(plain)
    assert push(plain, 41, 0) == 40
    out, ok, found = gather(plain, 0, instrument, window)
    assert (ok.tolist(), found) == ([0], 0)
    assert not out[0].any()


def test_what_was_asked_before_a_gap_is_still_there_after_it(plain: Kernel) -> None:
    kernel_runs.reset(plain)
    ticks = np.concatenate([prices(10), gap(50), prices(3, 60)])
    out = kernel_runs.run(plain, ticks)
    made = by_model(out.candidates, 0)
    assert made["row"].tolist() == [4, 5, 6, 7, 8, 9]
    windows, ok, _ = gather(plain, 0, made["instrument"], made["window"])
    assert ok.all()
    assert windows[5, :, 0].tolist() == [106.0, 107.0, 108.0, 109.0]


def by_model(candidates: Records, model: int) -> Records:
    found: Records = candidates[candidates["model"] == model]
    return found


def test_gap_begins_every_window_anew_and_takes_a_number(plain: Kernel) -> None:
    kernel_runs.reset(plain)
    ticks = np.concatenate([prices(10), gap(50), prices(7, 60)])
    made = by_model(kernel_runs.run(plain, ticks).candidates, 0)
    after = made[made["row"] > 10]
    assert after["row"].tolist() == [15, 16, 17]
    assert after["window"].tolist() == [14, 15, 16]
    windows, _, _ = gather(plain, 0, after["instrument"], after["window"])
    assert windows[0, :, 0].tolist() == [161.0, 162.0, 163.0, 164.0]


def test_second_gap_in_a_row_takes_no_number(plain: Kernel) -> None:
    kernel_runs.reset(plain)
    kernel_runs.run(plain, np.concatenate([prices(10), gap(50), gap(51), gap(52)]))
    assert plain.pushed(0, 0) == 10


def test_feature_that_is_not_finite_begins_the_window_anew_and_is_counted(plain: Kernel) -> None:
    kernel_runs.reset(plain)
    odd = trade(20, 1e300)
    made = by_model(
        kernel_runs.run(plain, np.concatenate([prices(10), odd, prices(9, 30)])).candidates, 0
    )
    assert plain.broken_rows() == {"tick": 1, "1s": 0, "3t": 0}
    assert made["row"].tolist() == [4, 5, 6, 7, 8, 9, 14, 15, 16, 17, 18, 19]
    windows, ok, _ = gather(plain, 0, made["instrument"], made["window"])
    assert ok.all()
    assert np.isfinite(windows).all()
    assert windows[6, :, 0].tolist() == [130.0, 131.0, 132.0, 133.0]


def test_feature_that_is_ready_no_more_begins_the_window_anew() -> None:
    day = 86_400 * 10**9
    model = ModelWindow("m", "tick", model_plans.columns(("v", "vwap", "")), 2)
    rules = [RuleRequest("r", "", "", model="m")]
    kernel = model_plans.model_kernel(make_plan(load_registry(), (), rules, models=[model]))
    quotes = [quote(day + at, 99.0, 101.0) for at in range(2)]
    ticks = np.concatenate([prices(3), *quotes, prices(3, day + 10)])
    made = kernel_runs.run(kernel, ticks).candidates
    assert made["row"].tolist() == [1, 2, 6, 7]
    assert kernel.broken_rows() == {"m": 0}


def test_model_is_asked_at_its_first_whole_window_and_every_third_row_from_there(
    kernel: Kernel,
) -> None:
    ticks = kernel_runs.random_ticks(600, 1, seed=2)
    ticks = ticks[(ticks["kind"] != TickKind.GAP) & (ticks["kind"] != TickKind.HEARTBEAT)]
    made = by(kernel_runs.run(kernel, ticks).candidates, "scored")
    first = model_plans.FAST.window
    assert made["window"].tolist() == list(range(first, kernel.pushed(FAST, 0) + 1, 3))
    again = by(kernel_runs.run(kernel, np.concatenate([gap(1), ticks])).candidates, "scored")
    start = kernel.pushed(FAST, 0) - made["window"][-1]
    assert (again["window"] - again["window"][0]).tolist() == (made["window"] - first).tolist()
    assert start > 0


def test_request_carries_what_the_gate_judges_by_and_no_side(kernel: Kernel) -> None:
    made = kernel_runs.run(kernel, kernel_runs.random_ticks(400, INSTRUMENTS)).candidates
    scored = by(made, "scored")
    assert len(scored) > 10
    assert set(scored["model"].tolist()) == {FAST}
    assert not scored["side"].any()
    assert not scored["strength"].any()
    assert np.isnan(scored["edge_bps"]).all()
    assert (scored["price"] > 90).all()


def test_rule_without_a_model_waits_for_none(kernel: Kernel) -> None:
    made = by(
        kernel_runs.run(kernel, kernel_runs.random_ticks(900, INSTRUMENTS)).candidates, "plain"
    )
    assert len(made) > 3
    assert set(made["model"].tolist()) == {-1}
    assert not made["window"].any()


def test_confirmed_rule_proposes_as_it_would_alone_and_names_the_newest_window(
    kernel: Kernel,
) -> None:
    made = kernel_runs.run(kernel, kernel_runs.random_ticks(900, INSTRUMENTS)).candidates
    alone, confirmed = by(made, "plain"), by(made, "confirmed")
    for name in ("row", "instrument", "side", "strength", "confidence", "price"):
        assert alone[name].tolist() == confirmed[name].tolist()
    assert set(confirmed["model"].tolist()) == {SLOW}
    scored = {(c["row"], c["instrument"]): int(c["window"]) for c in by(made, "scored too")}
    expected = [scored.get((c["row"], c["instrument"]), 0) for c in confirmed]
    assert confirmed["window"].tolist() == expected
    assert any(expected)


def test_rule_confirmed_on_another_clock_names_what_the_model_last_saw(kernel: Kernel) -> None:
    ticks, at, seen = kernel_runs.random_ticks(1200, INSTRUMENTS, seed=5), 0, []
    while at < len(ticks):
        at = kernel.run_ticks(ticks, at, at + 1)
        for one in by(kernel.candidates[: kernel.n_candidates], "confirmed elsewhere"):
            pushed = kernel.pushed(FAST, int(one["instrument"]))
            seen.append((int(one["window"]), pushed))
    assert len(seen) > 5
    assert all(window in (0, pushed) for window, pushed in seen)
    assert any(window for window, _ in seen)


def test_confirmation_before_the_window_is_whole_asks_for_none(kernel: Kernel) -> None:
    made = kernel_runs.run(kernel, kernel_runs.random_ticks(3000, INSTRUMENTS, seed=9)).candidates
    slow = by(made, "confirmed")
    assert 0 in slow["window"].tolist()
    zero = slow[slow["window"] == 0]
    _, ok, found = gather(kernel, SLOW, zero["instrument"], zero["window"])
    assert found == 0
    assert not ok.any()


def test_disabled_instrument_is_not_asked_about_but_its_rows_go_on(kernel: Kernel) -> None:
    ticks = kernel_runs.random_ticks(600, INSTRUMENTS)
    whole = kernel_runs.run(kernel, ticks).candidates
    pushed = kernel.pushed(FAST, 1)
    kernel_runs.reset(kernel)
    number = model_plans.NAMES.index("scored")
    kernel.enabled[number, 1] = 0
    off = (whole["strategy"] == number) & (whole["instrument"] == 1)
    out = kernel_runs.run(kernel, ticks).candidates
    assert off.any()
    assert kernel_runs.as_bytes(out) == kernel_runs.as_bytes(whole[~off])
    assert kernel.pushed(FAST, 1) == pushed


def test_heartbeat_pushes_for_every_instrument_whose_bar_ends(plain: Kernel) -> None:
    kernel_runs.reset(plain)
    parts = []
    for at in range(5):
        parts += [trade(at * 10**8 + i, 100.0 + at * 7 + i, 1.0, i) for i in range(INSTRUMENTS)]
        parts.append(heartbeat((at + 1) * 10**8))
    made = by_model(kernel_runs.run(plain, np.concatenate(parts)).candidates, 1)
    last = made[made["row"] == len(parts) - 1]
    assert last["instrument"].tolist() == [0, 1, 2]
    windows, _, _ = gather(plain, 1, last["instrument"], last["window"])
    assert windows[:3, 1, 0].tolist() == [128.0, 129.0, 130.0]


def test_stated_normalisation_is_applied_in_float32(kernel: Kernel) -> None:
    kernel_runs.run(kernel, kernel_runs.random_ticks(700, 1))
    newest = kernel.pushed(FAST, 0)
    raw, ok, _ = gather(kernel, FAST, 0, newest)
    assert ok.all()
    mean, scale = (np.array(v, np.float32) for v in ((0.1, -2.0, 3.0), (7.0, 0.25, 1e-3)))
    kernel.set_normalisation(FAST, mean, scale)
    out, _, _ = gather(kernel, FAST, 0, newest)
    assert out[0].tobytes() == ((raw[0] - mean) * scale).astype(np.float32).tobytes()
    kernel.set_normalisation(FAST, None, None)
    assert gather(kernel, FAST, 0, newest)[0].tobytes() == raw.tobytes()


@pytest.mark.parametrize("mean", [[0.0, 0.0], [0.0, math.nan, 0.0], [math.inf, 0.0, 0.0]])
def test_normalisation_that_does_not_fit_is_refused(kernel: Kernel, mean: list[float]) -> None:
    with pytest.raises(ValueError, match="normalisation of fast"):
        kernel.set_normalisation(FAST, np.array(mean), np.ones(len(mean)))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((1, 5, 2), np.float32),
        np.zeros((1, 4, 3), np.float32),
        np.zeros((1, 5, 3)),
        np.zeros((1, 3, 5), np.float32).transpose(0, 2, 1),
        np.zeros((0, 5, 3), np.float32),
    ],
)
def test_buffer_that_does_not_fit_is_refused(kernel: Kernel, out: Any) -> None:
    one = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match=r"out is|1 instruments"):
        kernel.gather(FAST, one, one, out, np.zeros(1, np.uint8))


def test_nothing_compiles_after_warm_up(kernel: Kernel) -> None:
    before = len(getattr(gather_nb, "signatures", ()))
    kernel_runs.run(kernel, kernel_runs.random_ticks(300, INSTRUMENTS))
    for model in (FAST, SLOW):
        gather(kernel, model, [0, 1], [kernel.pushed(model, 0), 0])
    assert kernel.signatures == 1
    assert len(getattr(gather_nb, "signatures", ())) == before


def test_run_is_bounded_so_that_what_it_asks_for_is_there_at_its_end(kernel: Kernel) -> None:
    ticks = kernel_runs.random_ticks(1000, INSTRUMENTS)
    ticks = ticks[ticks["kind"] != TickKind.GAP]
    assert kernel.run_ticks(ticks, 0, len(ticks)) == RUN_RECORDS
    assert kernel.run_ticks(ticks, 5, 9) == 9


def test_recorded_bars_that_push_twice_leave_every_window_whole(plain: Kernel) -> None:
    kernel_runs.reset(plain)
    bars = two_closes(1000)
    at, asked = 0, 0
    while at < len(bars):
        at = plain.run_bars(bars, at, len(bars))
        made = by_model(plain.candidates[: plain.n_candidates], 1)
        _, ok, found = gather(plain, 1, made["instrument"], made["window"])
        assert found == len(made) == ok.sum()
        asked += found
    assert asked == len(bars) - WINDOWS["1s"]
