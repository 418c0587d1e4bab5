"""Bars against a twin that keeps every sample, and their rules one by one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import kernel_runs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_runs import Records, gap, heartbeat, quote, tick, trade
from reference.bar_twin import BarTwin, MarketTwin

from engine.core.records import BAR, TickKind, instrument_row
from strategies.bar_spec import BarKind, BarSpec, PriceBasis
from strategies.kernel import Kernel
from strategies.plan import make_plan
from strategies.registry import Registry

SECOND = 10**9
DAY = 86_400 * SECOND
SPECS = (
    BarSpec("time", BarKind.TIME, interval_ns=SECOND),
    BarSpec("tick", BarKind.TICK, size=3),
    BarSpec("volume", BarKind.VOLUME, size=10.0),
    BarSpec("turnover", BarKind.TURNOVER, size=1000.0),
)
INSTRUMENTS = 2
FIELDS = (
    "ts_open", "ts_event", "ts_recv", "open", "high", "low", "close", "volume", "turnover",
    "buy_volume", "sell_volume", "ofi", "bid", "ask", "bid_size", "ask_size", "pre_close", "count",
    "trades", "session",
)  # fmt: skip


@pytest.fixture(scope="module")
def compiled() -> Kernel:
    plan = make_plan(Registry({}, {}, {}), SPECS, ())
    kernel = Kernel(plan, INSTRUMENTS, emit=frozenset(spec.name for spec in SPECS))
    kernel.warm_up(bars=True)
    return kernel


@pytest.fixture
def kernel(compiled: Kernel) -> Kernel:
    prepare(compiled)
    return compiled


def prepare(
    kernel: Kernel,
    measures: Sequence[float] = (SECOND, 3, 10.0, 1000.0),
    basis: PriceBasis = PriceBasis.AUTO,
    offset_s: int = 0,
) -> None:
    kernel_runs.reset(kernel)
    for index, measure in enumerate(measures):
        field = "size" if index else "interval_ns"
        kernel.params[0][f"b{index}"][field] = measure
        kernel.params[0][f"b{index}"]["basis"] = basis
    for id_ in range(INSTRUMENTS):
        kernel.define(instrument_row("A.X", id=id_, day_offset_s=offset_s, pre_close=9.5))


def bars_of(kernel: Kernel, name: str, *parts: Records, bars: bool = False) -> list[dict[str, Any]]:
    made = kernel_runs.run(kernel, np.concatenate(parts), bars=bars).bars
    wanted = made[made["spec"] == [spec.name for spec in SPECS].index(name)]
    return [{field: bar[field].item() for field in FIELDS} for bar in wanted]


def closes(made: Sequence[Mapping[str, Any]]) -> list[float]:
    return [bar["close"] for bar in made]


Made = dict[str, Any]
ticks: st.SearchStrategy[Made] = st.builds(
    dict,
    kind=st.sampled_from([0, 1, 1, 2, 2, 3, 3, 4]),
    step=st.sampled_from([-2, -1, 0, 0, 1, 1, 2, 5, 17, 40]),
    instrument=st.integers(0, INSTRUMENTS - 1),
    price=st.integers(395, 405).map(lambda p: p / 4),
    half=st.sampled_from([-0.25, 0.0, 0.25, 0.5]),
    size=st.integers(0, 5).map(float),
    side=st.integers(-1, 1),
    lost=st.sampled_from(["", "", "", "", "", "bid", "ask", "price"]),
)


def as_records(made: Sequence[Mapping[str, Any]], unit_ns: int) -> Records:
    now, parts = 20_000 * DAY, []
    for one in made:
        now += one["step"] * unit_ns
        mid, half, size = one["price"], one["half"], one["size"]
        part = tick(
            one["kind"], now, one["instrument"], price=mid + half, size=size, side=one["side"],
            bid=mid - abs(half), ask=mid + half, bid_size=size + 1, ask_size=2 * size + 1,
        )  # fmt: skip
        if one["lost"] and (one["lost"], one["kind"]) != ("price", 1):
            part[one["lost"]] = math.nan
        parts.append(part)
    return np.concatenate(parts)


def twin_bars(
    records: Records, measures: Sequence[float], basis: str, offset_s: int
) -> dict[tuple[str, int], list[dict[str, Any]]]:
    made: dict[tuple[str, int], list[dict[str, Any]]] = {}
    markets: list[MarketTwin] = []
    twins: list[list[BarTwin]] = []

    def begin() -> None:
        markets[:] = [MarketTwin(offset_s * SECOND, 9.5) for _ in range(INSTRUMENTS)]
        twins[:] = [
            [
                BarTwin(spec.name, size, market, basis, done=made.setdefault((spec.name, i), []))
                for spec, size in zip(SPECS, measures, strict=True)
            ]
            for i, market in enumerate(markets)
        ]

    begin()
    names = records.dtype.names or ()
    for row in records:
        one = {name: row[name].item() for name in names}
        if one["kind"] == TickKind.GAP:
            begin()
            continue
        everyone = one["kind"] == TickKind.HEARTBEAT
        for bar in [b for bars in twins for b in bars] if everyone else twins[one["instrument"]]:
            bar.time_is(one["ts_event"], one["ts_recv"])
        if everyone:
            continue
        sample = markets[one["instrument"]].take(one)
        for bar in twins[one["instrument"]] if sample else ():
            bar.add(sample or {})
    return made


@given(
    made=st.lists(ticks, min_size=1, max_size=120),
    cuts=st.sets(st.integers(1, 119), max_size=8),
    measures=st.tuples(
        st.sampled_from([1, 7, 60, 3600, 86_400]).map(lambda s: s * SECOND),
        st.integers(1, 5),
        st.sampled_from([0.5, 3.0, 10.0]),
        st.sampled_from([1.0, 250.0, 1000.0]),
    ),
    basis=st.sampled_from(list(PriceBasis)),
    offset_s=st.sampled_from([0, 8 * 3600, -5 * 3600, 20_700]),
    unit_ns=st.sampled_from([SECOND // 4, 30 * SECOND, 7200 * SECOND]),
)
def test_every_bar_is_the_twins(
    compiled: Kernel,
    made: list[dict[str, Any]],
    cuts: set[int],
    measures: tuple[float, ...],
    basis: PriceBasis,
    offset_s: int,
    unit_ns: int,
) -> None:
    records = as_records(made, unit_ns)
    prepare(compiled, measures, basis, offset_s)
    out = kernel_runs.run(compiled, records, [cut for cut in cuts if cut < len(records)])
    expected = twin_bars(records, measures, basis.name.lower(), offset_s)
    for (name, instrument), wanted in expected.items():
        spec = [s.name for s in SPECS].index(name)
        mine = out.bars[(out.bars["spec"] == spec) & (out.bars["instrument"] == instrument)]
        assert len(mine) == len(wanted)
        for bar, twin in zip(mine, wanted, strict=True):
            for field in FIELDS:
                np.testing.assert_equal(bar[field].item(), twin[field], f"{name}.{field}")


def test_time_bar_closes_before_the_first_tick_at_its_end(kernel: Kernel) -> None:
    made = bars_of(kernel, "time", trade(0, 10), trade(SECOND - 1, 11), trade(SECOND, 12))
    assert closes(made) == [11.0]
    assert (made[0]["ts_open"], made[0]["ts_event"]) == (0, SECOND)
    assert made[0]["ts_recv"] == SECOND + 5


def test_heartbeat_closes_time_bars_of_all_instruments_in_their_order(kernel: Kernel) -> None:
    parts = [trade(1, 10, instrument=1), trade(2, 20, instrument=0), heartbeat(SECOND)]
    made = kernel_runs.run(kernel, np.concatenate(parts))
    assert made.bars["instrument"].tolist() == [0, 1]
    assert made.rows.tolist() == [2, 2]


def test_interval_without_a_price_makes_no_bar(kernel: Kernel) -> None:
    made = bars_of(kernel, "time", trade(1, 10), heartbeat(9 * SECOND), trade(9 * SECOND, 11),
                   heartbeat(10 * SECOND), heartbeat(11 * SECOND))  # fmt: skip
    assert [bar["ts_event"] for bar in made] == [SECOND, 10 * SECOND]


def test_late_tick_counts_into_the_open_bar(kernel: Kernel) -> None:
    made = bars_of(kernel, "time", trade(5 * SECOND, 10), trade(2 * SECOND, 11),
                   heartbeat(6 * SECOND))  # fmt: skip
    assert [(bar["count"], bar["ts_event"]) for bar in made] == [(2, 6 * SECOND)]


def test_tick_later_than_its_bars_close_counts_into_the_next_bar(kernel: Kernel) -> None:
    made = bars_of(
        kernel, "time",
        trade(1, 10), heartbeat(SECOND), trade(SECOND - 1, 11), trade(SECOND + 1, 12),
        heartbeat(2 * SECOND),
    )  # fmt: skip
    assert [bar["ts_event"] for bar in made] == [SECOND, 2 * SECOND]
    assert made[1]["open"] == 11.0
    assert made[1]["ts_open"] == SECOND


def test_bars_begin_at_the_venues_midnight(kernel: Kernel) -> None:
    prepare(kernel, (DAY, 1e9, 1e9, 1e9), offset_s=8 * 3600)
    start = 20_000 * DAY - 8 * 3600 * SECOND
    made = bars_of(kernel, "time", trade(start, 10), trade(start + DAY - 1, 11),
                   heartbeat(start + DAY))  # fmt: skip
    assert [(bar["ts_open"], bar["count"]) for bar in made] == [(start, 2)]
    assert made[0]["session"] == 20_000


def test_order_flow_of_an_interval_without_a_price_is_forgotten(kernel: Kernel) -> None:
    prepare(kernel, basis=PriceBasis.TRADE)
    made = bars_of(
        kernel, "time",
        quote(1, 9, 10), quote(2, 9, 10, (6, 1)), quote(SECOND, 9, 10, (8, 1)),
        trade(SECOND + 1, 10), heartbeat(2 * SECOND),
    )  # fmt: skip
    assert [bar["ofi"] for bar in made] == [2.0]


def test_tick_bar_carries_order_flow_since_the_bar_before(kernel: Kernel) -> None:
    prepare(kernel, (SECOND, 1, 1e9, 1e9), PriceBasis.TRADE)
    made = bars_of(kernel, "tick", trade(0, 9), quote(1, 9, 10), quote(2, 9, 10, (6, 1)),
                   trade(3, 10), trade(4, 10))  # fmt: skip
    assert [bar["ofi"] for bar in made] == [0.0, 5.0, 0.0]


def test_volume_bar_contains_the_trade_that_fills_it_whole(kernel: Kernel) -> None:
    made = bars_of(kernel, "volume", trade(0, 10, 4), trade(1, 11, 30), trade(2, 12, 1))
    assert [bar["volume"] for bar in made] == [34.0]


def test_turnover_bar_is_filled_by_price_times_size(kernel: Kernel) -> None:
    made = bars_of(kernel, "turnover", trade(0, 100, 4), trade(1, 100, 6), trade(2, 100, 10))
    assert [bar["turnover"] for bar in made] == [1000.0, 1000.0]


@pytest.mark.parametrize(
    ("basis", "expected"),
    [(PriceBasis.AUTO, [10.5, 20.0]), (PriceBasis.TRADE, [20.0]), (PriceBasis.MID, [10.5, 30.5])],
)
def test_basis_says_where_prices_come_from(
    kernel: Kernel, basis: PriceBasis, expected: list[float]
) -> None:
    prepare(kernel, basis=basis)
    made = bars_of(
        kernel, "time",
        quote(0, 10, 11), quote(SECOND, 30, 31), trade(SECOND + 1, 20), quote(SECOND + 2, 30, 31),
        heartbeat(2 * SECOND),
    )  # fmt: skip
    assert closes(made) == expected


def test_trades_without_sizes_make_bars(kernel: Kernel) -> None:
    made = bars_of(kernel, "tick", *(trade(at, 10 + at, size=0) for at in range(6)))
    assert closes(made) == [12.0, 15.0]


def test_gap_forgets_the_open_bar(kernel: Kernel) -> None:
    made = bars_of(kernel, "time", trade(1, 10), gap(2), trade(3, 12), heartbeat(SECOND))
    assert [(bar["open"], bar["count"]) for bar in made] == [(12.0, 1)]


def recorded(ts_open: int, ts_event: int, close: float, volume: float = 1.0) -> Records:
    bar = np.zeros(1, BAR)
    bar["ts_open"], bar["ts_event"], bar["ts_recv"] = ts_open, ts_event, ts_event + 5
    bar["open"], bar["high"], bar["low"], bar["close"] = close, close + 2, close - 2, close + 1
    bar["volume"], bar["turnover"], bar["buy_volume"] = volume, volume * close, volume
    bar["bid"] = bar["ask"] = bar["pre_close"] = math.nan
    return bar


def minutes(*volumes: float) -> list[Records]:
    return [
        recorded(at * 60 * SECOND, (at + 1) * 60 * SECOND, 10.0 + at, volume)
        for at, volume in enumerate(volumes)
    ]


def test_bars_of_bars_close_with_the_bar_that_reaches_their_end(kernel: Kernel) -> None:
    prepare(kernel, (180 * SECOND, 2, 1e9, 1e9))
    made = bars_of(kernel, "time", *minutes(1, 1, 1, 1), bars=True)
    assert [(b["open"], b["high"], b["low"], b["close"]) for b in made] == [(10, 14, 8, 13)]
    assert (made[0]["count"], made[0]["volume"], made[0]["ts_event"]) == (3, 3.0, 180 * SECOND)
    assert made[0]["pre_close"] == 9.5


def test_bars_without_any_volume_still_make_coarser_bars(kernel: Kernel) -> None:
    made = bars_of(kernel, "tick", *minutes(0, 0, 0), bars=True)
    assert closes(made) == [13.0]


def test_bars_without_volume_are_left_out_once_there_was_trading(kernel: Kernel) -> None:
    made = bars_of(kernel, "tick", *minutes(1, 0, 0, 1, 1), bars=True)
    assert [(bar["count"], bar["close"]) for bar in made] == [(3, 15.0)]
