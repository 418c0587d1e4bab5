"""The market record and the sample of each tick, against the twin and by example."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_runs import Records, quote, tick, trade
from numba import njit
from reference.bar_twin import DAY_NS, MarketTwin

from engine.core.records import BAR, TICK, TickKind
from strategies.sample import FACTS, MARKET, apply_tick_nb

SNAPSHOT = TickKind.SNAPSHOT


@njit(error_model="numpy")
def samples_nb(m, samples, priced, markets, ticks, facts):  # type: ignore[no-untyped-def] # compiled
    for k in range(len(ticks)):
        priced[k] = apply_tick_nb(m[0], samples[k], ticks[k], facts[0])
        markets[k] = m[0]


class Samples:
    """Samples of a series of ticks of one instrument, and the market after each."""

    def __init__(self, *ticks: Records, offset_ns: int = 0) -> None:
        series = np.concatenate(ticks)
        facts = np.zeros(1, FACTS)
        facts["day_offset_ns"], facts["pre_close"] = offset_ns, 9.5
        start = np.zeros(1, MARKET)
        for name in ("bid", "ask", "last"):
            start[name] = math.nan
        self.ticks = series
        self.rows = np.zeros(len(series), BAR)
        self.priced = np.zeros(len(series), np.bool_)
        self.markets = np.zeros(len(series), MARKET)
        samples_nb(start, self.rows, self.priced, self.markets, series, facts)

    def column(self, name: str) -> list[Any]:
        where = self.rows if name in (BAR.names or ()) else self.markets
        return where[name].tolist()


def test_quotes_price_is_its_mid() -> None:
    made = Samples(quote(1, 10, 11))
    assert made.rows[["open", "high", "low", "close"]].tolist() == [(10.5,) * 4]
    assert made.column("ts_quote") == [1]


def test_one_sided_quote_has_no_price_but_changes_the_book() -> None:
    made = Samples(quote(1, 10, 11), quote(2, 10, math.nan))
    assert made.priced.tolist() == [True, False]
    assert math.isnan(made.markets["ask"][1])


def test_crossed_quote_keeps_its_mid() -> None:
    assert Samples(quote(1, 12, 11)).column("close") == [11.5]


def test_trade_needs_no_book() -> None:
    made = Samples(quote(1, 10, math.nan), trade(2, 10.25, 3))
    assert made.priced.tolist() == [False, True]
    assert made.column("close")[1] == 10.25
    assert made.column("volume")[1] == 3.0


def test_snapshot_has_last_price_trading_and_the_new_book() -> None:
    made = Samples(tick(SNAPSHOT, 1, price=10, size=5, turnover=49, bid=9, ask=11, ask_size=4))
    for name, value in {"close": 10, "volume": 5, "turnover": 49, "ask": 11, "trades": 1}.items():
        assert made.column(name) == [value]


def test_snapshot_without_last_price_has_the_mid() -> None:
    assert Samples(tick(SNAPSHOT, 1, bid=9, ask=11)).column("close") == [10.0]


def test_snapshot_without_trading_has_no_trades() -> None:
    assert Samples(tick(SNAPSHOT, 1, price=10, bid=9, ask=11)).column("trades") == [0]


def test_trade_without_a_size_is_a_trade() -> None:
    assert Samples(trade(1, 10, size=0)).column("trades") == [1]


def test_snapshots_trading_is_classified_by_the_book_before_it() -> None:
    made = Samples(quote(1, 10, 11), tick(SNAPSHOT, 2, price=11, size=5, bid=11, ask=12))
    assert made.column("buy_volume")[1] == 5.0


@pytest.mark.parametrize(
    ("prices", "sides"),
    [
        ([11.0, 10.0], [1, -1]),
        ([10.75, 10.25], [1, -1]),
        ([10.5], [0]),
        ([10.75, 10.5, 10.5], [1, -1, -1]),
    ],
)
def test_unmarked_trades_are_classified_by_quote_then_by_tick(
    prices: list[float], sides: list[int]
) -> None:
    made = Samples(quote(1, 10, 11), *(trade(2 + i, p) for i, p in enumerate(prices)))
    assert made.column("side")[1:] == sides


def test_marked_side_is_believed() -> None:
    assert Samples(quote(1, 10, 11), trade(2, 11, side=-1)).column("sell_volume")[1] == 1.0


@pytest.mark.parametrize(
    ("bid", "ask", "sizes", "flow"),
    [
        (10, 11, (5, 7), (5 - 2) - (7 - 5)),
        (10.5, 11, (5, 5), 5),
        (9.5, 11, (5, 5), -2),
        (10, 10.5, (2, 4), -4),
        (10, 11.5, (2, 4), 5),
        (math.nan, 11, (0, 5), 0),
    ],
)
def test_order_flow_of_a_move_of_the_book(
    bid: float, ask: float, sizes: tuple[float, float], flow: float
) -> None:
    made = Samples(quote(1, 10, 11, (2, 5)), quote(2, bid, ask, sizes))
    assert made.column("ofi") == [0.0, flow]


def test_turnover_starts_again_with_the_venues_day() -> None:
    offset = 8 * 3600 * 10**9
    start = 20_000 * DAY_NS - offset
    times = [start - 1, start, start + 1, start + DAY_NS]
    made = Samples(*(trade(at, 10) for at in times), offset_ns=offset)
    assert made.column("session_turnover") == [10.0, 10.0, 20.0, 10.0]
    assert made.column("session") == [19_999, 20_000, 20_000, 20_001]


def test_late_tick_stays_in_the_day_that_has_begun() -> None:
    made = Samples(trade(DAY_NS, 10), trade(DAY_NS - 1, 10))
    assert made.column("session") == [1, 1]


prices = st.integers(395, 405).map(lambda p: p / 4)
sizes = st.integers(0, 5).map(float)
missing = st.just(math.nan)


@st.composite
def tick_series(draw: st.DrawFn) -> Records:
    now, parts = 20_000 * DAY_NS, []
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([-(10**9), 0, 1, 10**9, DAY_NS // 3]))
        kind = draw(st.sampled_from([TickKind.TRADE, TickKind.QUOTE, SNAPSHOT]))
        price = draw(prices if kind == TickKind.TRADE else prices | missing)
        one = tick(kind, now, price=price, side=draw(st.integers(-1, 1)))
        for name in ("bid", "ask"):
            one[name] = draw(prices | missing)
        for name in ("size", "bid_size", "ask_size", "turnover"):
            one[name] = draw(sizes)
        parts.append(one)
    return np.concatenate(parts)


@given(series=tick_series(), offset_s=st.sampled_from([0, 28_800, -18_000]))
def test_every_sample_is_the_twins(series: Records, offset_s: int) -> None:
    made = Samples(series, offset_ns=offset_s * 10**9)
    twin = MarketTwin(offset_s * 10**9)
    for k, expected in enumerate(twin_samples(series, twin)):
        assert made.priced[k] == (expected is not None)
        assert made.markets["session"][k] == twin.day
        assert made.markets["session_turnover"][k] == twin.day_turnover
        assert made.markets["side"][k] == (twin.trade_sides[-1] if twin.trade_sides else 0)
        for name in ("bid", "ask", "bid_size", "ask_size"):
            np.testing.assert_equal(made.markets[name][k], twin.book[name])
        for name, its in SAMPLE_FIELDS.items() if expected else ():
            assert made.rows[name][k] == (expected or {})[its], name


SAMPLE_FIELDS = {
    "close": "price", "volume": "volume", "turnover": "turnover", "buy_volume": "bought",
    "sell_volume": "sold", "trades": "trades", "ofi": "ofi", "session": "day", "ts_event": "ts",
}  # fmt: skip


def twin_samples(series: Records, twin: MarketTwin) -> Iterator[dict[str, Any] | None]:
    for row in series:
        yield twin.take({name: row[name].item() for name in TICK.names or ()})
