"""Candles for reports: what plain loops make of the same prices, at whatever interval fits."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.records import TickKind, empty_bars, empty_ticks, instrument_row
from feeds.log_writer import LogWriter
from replay.backtest.candles import _CANDLE, CandleMaker, Candles, candles_of

SECOND_NS = 10**9
START_NS = 1_700_000_000 * SECOND_NS
SYMBOLS = ("AIG.US", "MSFT.US")


def plain(
    times: list[int], prices: list[float], interval_ns: int
) -> list[tuple[float, float, float, float, int]]:
    """Collect prices by interval, each of which ends with its last nanosecond included."""
    slots: dict[int, list[float]] = {}
    for time, price in zip(times, prices, strict=True):
        slots.setdefault((time - 1 - 4 * 86_400 * SECOND_NS) // interval_ns, []).append(price)
    return [
        (held[0], max(held), min(held), held[-1], len(held)) for _, held in sorted(slots.items())
    ]


def points(prices: npt.NDArray[np.float64]) -> npt.NDArray[np.void]:
    rows = np.zeros(len(prices), _CANDLE)
    for name in ("open", "high", "low", "close"):
        rows[name] = prices
    rows["volume"] = 1.0
    return rows


def told(candles: Candles) -> list[tuple[float, float, float, float, int]]:
    return [tuple(row)[1:] for row in candles.rows.tolist()]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 400),
    step_s=st.sampled_from([0.1, 1.0, 40.0, 3_000.0, 90_000.0]),
    cut=st.integers(1, 120),
    seed=st.integers(0, 1000),
)
def test_candles_equal_those_of_plain_loops(count: int, step_s: float, cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gaps = rng.integers(1, int(2 * step_s * SECOND_NS), count)
    times, prices = START_NS + np.cumsum(gaps), rng.normal(100.0, 1.0, count)
    maker = CandleMaker(most=50)
    for at in range(0, count, cut):
        maker.add(times[at : at + cut], points(prices[at : at + cut]))
    candles = maker.done()
    expected = plain(times.tolist(), prices.tolist(), candles.interval_s * SECOND_NS)
    assert told(candles) == expected
    assert len(candles.rows) <= 50


def test_the_interval_is_the_shortest_that_fits() -> None:
    times = START_NS + np.arange(1, 601) * SECOND_NS
    for most, interval_s in ((600, 1), (599, 5), (50, 15), (39, 60), (9, 300)):
        maker = CandleMaker(most)
        maker.add(times, points(np.ones(600)))
        assert maker.done().interval_s == interval_s, most


def test_the_interval_is_no_shorter_than_what_it_is_made_of() -> None:
    for length_s, interval_s in ((1, 1), (60, 60), (61, 300), (1_800, 1_800), (10**9, 86_400)):
        maker = CandleMaker()
        maker.add(START_NS + np.arange(1, 4) * SECOND_NS, points(np.ones(3)))
        maker.lengthen(length_s * SECOND_NS)
        assert maker.done().interval_s == interval_s
        assert maker.done().rows["volume"].sum() == 3.0


def test_a_time_is_found_in_its_candle_and_between_two_in_the_earlier() -> None:
    maker = CandleMaker()
    maker.add(START_NS + np.array([1, 5, 6]) * SECOND_NS, points(np.ones(3)))
    candles = maker.done()
    assert candles.at(START_NS + np.array([1, 3, 5, 6, 99, -9]) * SECOND_NS).tolist() == [
        0, 0, 1, 2, 2, 0,
    ]  # fmt: skip
    assert candles.starts_ns().tolist() == [START_NS + n * SECOND_NS for n in (0, 4, 5)]


def write_ticks(path: Path) -> Path:
    ticks = empty_ticks(6)
    ticks["instrument"] = [0, 1, 0, 0, 1, 0]
    ticks["kind"] = [TickKind.QUOTE, TickKind.QUOTE, TickKind.TRADE, TickKind.QUOTE,
                     TickKind.QUOTE, TickKind.TRADE]  # fmt: skip
    ticks["price"] = [np.nan, np.nan, 10.0, np.nan, np.nan, 11.0]
    ticks["bid"], ticks["ask"] = [9, 20, 9, 99, 22, 9], [11, 22, 11, 101, 24, 11]
    ticks["size"] = 100
    ticks["ts_event"] = ticks["ts_recv"] = START_NS + np.arange(1, 7) * SECOND_NS
    table = np.concatenate([instrument_row(s, id=i) for i, s in enumerate(SYMBOLS)])
    with LogWriter(path, table, epoch=3) as writer:
        writer.write_ticks(ticks)
    return path


def test_ticks_give_trades_and_mids_where_nothing_trades(tmp_path: Path) -> None:
    made = candles_of([write_ticks(tmp_path / "ticks.hql")], {*SYMBOLS, "NONE.US"})
    assert set(made) == set(SYMBOLS)
    assert made["AIG.US"].rows["close"].tolist() == [10.0, 11.0]
    assert made["AIG.US"].rows["volume"].tolist() == [100.0, 100.0]
    assert made["MSFT.US"].rows["close"].tolist() == [21.0, 23.0]


def test_bars_give_themselves(tmp_path: Path) -> None:
    bars = empty_bars(5)
    bars["ts_event"] = START_NS + np.arange(1, 6) * 86_400 * SECOND_NS
    bars["ts_recv"], bars["ts_open"] = bars["ts_event"], bars["ts_event"] - 6 * 3600 * SECOND_NS
    for at, name in enumerate(("low", "open", "close", "high")):
        bars[name] = 10 + np.arange(5) + at
    bars["volume"] = 1000.0
    with LogWriter(tmp_path / "bars.hql", instrument_row("AIG.US"), epoch=3) as writer:
        writer.write_bars(bars)
    made = candles_of([tmp_path / "bars.hql"], ["AIG.US"])["AIG.US"]
    for name in ("open", "high", "low", "close", "volume"):
        assert made.rows[name].tolist() == bars[name].tolist()
    assert made.interval_s == 86_400


@pytest.mark.parametrize("symbols", [[], ["NONE.US"]])
def test_instruments_that_are_not_there_have_none(tmp_path: Path, symbols: list[str]) -> None:
    assert candles_of([write_ticks(tmp_path / "ticks.hql")], symbols) == {}
