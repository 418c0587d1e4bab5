"""Backtests of random markets: they add up, keep the rules, and never look ahead."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backtest_rig import (
    DAY,
    daily,
    orders,
    prepare,
    quotes,
    settings,
    shares,
    trade,
    trade_prepared,
)
from backtest_rig import Day as Bar
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engine.core.records import Bars, TickFlag, TickKind, Ticks
from replay.backtest.records import BacktestResult

INSTRUMENTS = 4
DAYS = 40
WAYS: list[dict[str, Any]] = [
    {},
    {"fill": "close", "ex_right": "cash"},
    {"fill": "vwap", "slippage": {"model": "bps", "amount": 30}},
    {"sizing": {"by": "equity", "amount": 0.3}, "max_positions": 2},
    {"direction": "long_short", "settlement": False, "leverage": 2.0},
    {"max_hold": "4d", "participation": 0.001, "entry_life": "gtc"},
    {"slippage": {"model": "impact", "amount": 1.0}, "exit_life": "day", "latency": "20h"},
    {"cash": 20_000, "sizing": {"by": "cash", "amount": 15_000}, "order_life": "3d"},
]


def market(seed: int) -> Bars:
    """Return daily bars with limits, one-price days, suspensions, halts and ex-right days."""
    rng = np.random.default_rng(seed)
    closes = [10.0 + i for i in range(INSTRUMENTS)]
    bars = []
    for day in (day for day in range(DAYS) if day % 7 < 5):
        for i in range(INSTRUMENTS):
            if rng.random() < 0.08:
                continue
            pre = closes[i]
            if rng.random() < 0.05:
                pre = round(pre / rng.choice([1.02, 1.5, 2.0]), 2)
            up = np.floor(pre * 110 + 0.5 + 1e-9) / 100
            down = np.floor(pre * 90 + 0.5 + 1e-9) / 100
            prices = np.clip(np.round(pre * (1 + rng.normal(0, 0.05, 4)), 2), down, up)
            if rng.random() < 0.1:
                prices[:] = rng.choice([up, down, prices[0]])
            volume = 0.0 if rng.random() < 0.05 else float(rng.integers(1, 10)) * 1e5
            bar = Bar(day, prices[0], prices.max(), prices.min(), prices[-1], pre, i, volume)
            bars.append(bar)
            closes[i] = float(prices[-1])
    return daily(bars)


def random_orders(seed: int, rows: int) -> Any:
    rng = np.random.default_rng(seed)
    chosen = np.flatnonzero(rng.random(rows) < 0.4)
    return orders(
        *((int(row), int(rng.choice([1, -1])), int(rng.integers(INSTRUMENTS))) for row in chosen)
    )


def bars_filled(result: BacktestResult, bars: Bars) -> Bars:
    """Return the bar that filled each fill."""
    days = result.fills["ts"] // DAY
    rows = [
        int(np.flatnonzero((bars["ts_open"] // DAY == day) & (bars["instrument"] == i))[0])
        for day, i in zip(days, result.fills["instrument"], strict=True)
    ]
    found: Bars = bars[rows]
    return found


@examples(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from(WAYS))
def test_random_markets_add_up_and_keep_the_rules(
    tmp_path_factory: pytest.TempPathFactory, seed: int, way: dict[str, Any]
) -> None:
    bars = market(seed)
    given_ = random_orders(seed + 1, len(bars))
    config = settings(**way)
    result = trade(tmp_path_factory.mktemp("m"), bars, given_, config, shares(INSTRUMENTS))
    filled = bars_filled(result, bars)
    buys = result.fills["side"] > 0
    up = np.floor(filled["pre_close"] * 110 + 0.5 + 1e-9) / 100
    down = np.floor(filled["pre_close"] * 90 + 0.5 + 1e-9) / 100
    assert (filled["volume"] > 0).all()
    assert not (buys & (filled["low"] > up - 0.005)).any()
    assert not (~buys & (filled["high"] < down + 0.005)).any()
    assert ((result.fills["price"] > down - 0.005) & (result.fills["price"] < up + 0.005)).all()
    done = result.trades[result.trades["open"] == 0]
    if config.backtest.settlement:
        assert (done["ts_exit"] // DAY > done["ts_entry"] // DAY).all()
        assert (result.equity["cash"] > -1e-6).all()
    exposure = result.equity["exposure"] / np.maximum(result.equity["equity"], 1.0)
    assert (exposure < config.backtest.leverage + 1).all()
    if config.backtest.max_positions:
        assert result.equity["positions"].max() <= config.backtest.max_positions


@examples(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from(WAYS), st.integers(2, DAYS - 2))
def test_what_comes_later_changes_nothing_that_was(
    tmp_path_factory: pytest.TempPathFactory, seed: int, way: dict[str, Any], days: int
) -> None:
    """The data ends earlier, or goes on otherwise: fills and account until then are the same."""
    bars, other = market(seed), market(seed + 7)
    cut = int(np.searchsorted(bars["ts_open"], bars["ts_open"][0] + days * DAY))
    later = other[other["ts_open"] >= bars["ts_open"][0] + days * DAY]
    if not 0 < cut < len(bars):
        return
    given_ = random_orders(seed + 1, len(bars))
    early = given_[given_["row"] < cut].copy()
    config, folder, listed = settings(**way), tmp_path_factory.mktemp("m"), shares(INSTRUMENTS)
    whole = trade(folder, bars, given_, config, listed)
    short = trade(folder, bars[:cut].copy(), early.copy(), config, listed)
    changed = trade(folder, np.concatenate([bars[:cut], later]), early, config, listed)
    until = bars["ts_event"][cut - 1]
    for one in (short, changed):
        same = [r.fills[r.fills["ts"] <= until] for r in (whole, one)]
        for name in ("ts", "side", "quantity", "price", "commission", "instrument"):
            np.testing.assert_array_equal(same[0][name], same[1][name])
        rows = len(short.equity)
        np.testing.assert_array_equal(whole.equity["equity"][:rows], one.equity["equity"][:rows])


def called_market(seed: int) -> Ticks:
    """Return a share's snapshots from 8:57 to 15:03, marked as of an auction at random."""
    rng = np.random.default_rng(seed)
    bids = np.round(10 + rng.normal(0, 0.1, 300), 2)
    ticks = quotes(
        np.sort(rng.integers(-2_000, 20_000, 300)).tolist(),
        list(bids),
        list(np.round(bids + 0.01, 2)),
    )
    ticks["kind"], ticks["price"] = TickKind.SNAPSHOT, bids
    ticks["size"] = rng.choice([0, 5_000], 300)
    ticks["flags"] |= rng.choice([0, int(TickFlag.AUCTION)], 300).astype(np.uint16)
    return ticks


def results(folder: Path) -> Iterator[BacktestResult]:
    """Give what comes of some random markets, of bars and of ticks."""
    for seed, way in enumerate(WAYS):
        bars = market(seed)
        prepared = prepare(folder, shares(INSTRUMENTS), bars)
        yield trade_prepared(prepared, random_orders(seed + 1, len(bars)), settings(**way))
    for seed, sessions in enumerate(("whole", "continuous", "off")):
        prepared = prepare(folder, shares(pre_close=10.0), called_market(seed))
        given_ = random_orders(seed, 300)
        given_["instrument"] = 0
        config = settings(sessions=sessions, auctions=True, settlement=False)
        yield trade_prepared(prepared, given_, config)


def digest(folder: Path) -> str:
    """Return a hash of everything that comes of them."""
    hashed = hashlib.sha256()
    for made in results(folder):
        assert len(made.fills)
        for table in (made.fills, made.trades, made.equity):
            for name in table.dtype.names or ():
                hashed.update(np.ascontiguousarray(table[name]).tobytes())
    return hashed.hexdigest()


@pytest.mark.slow
def test_compiled_and_interpreted_simulators_answer_alike(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from test_backtest_properties import digest; "
        "print(digest(Path(sys.argv[1])))"
    )
    here = Path(__file__).resolve()
    paths = [str(here.parents[2]), str(here.parents[1]), str(here.parent)]
    environ = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, timeout=110, check=False, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest(tmp_path)
