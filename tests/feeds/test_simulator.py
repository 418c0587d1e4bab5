"""The simulated market: same bytes always, the stated rate, the planted effect and nothing else."""

import datetime as dt
import hashlib
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from engine.core.errors import ConfigError
from engine.core.records import MAX_INSTRUMENTS, Board, TickFlag, TickKind, Ticks
from feeds.config import FaultsConfig, SimulatorConfig
from feeds.simulator import crypto
from feeds.simulator.ashare import limit_prices, trading_days
from feeds.simulator.kernels import snapshots_nb, trades_and_quotes_nb
from feeds.simulator.source import Simulator
from feeds.simulator.state import REGIMES, TRANSITIONS

SECOND = 1_000_000_000


def make(**keys: Any) -> Ticks:
    simulator = Simulator(SimulatorConfig(**keys))
    return np.concatenate([batch.copy() for batch in simulator.batches()])


def digest(ticks: Ticks) -> str:
    return hashlib.sha256(ticks.tobytes()).hexdigest()


@pytest.mark.parametrize("universe", ["crypto", "a-share"])
@pytest.mark.parametrize("faults", [FaultsConfig(), FaultsConfig(nan=0.01, duplicate=0.02)])
def test_bytes_do_not_depend_on_the_batch_size(universe: str, faults: FaultsConfig) -> None:
    digests = {
        digest(make(universe=universe, faults=faults, limit_ticks=9000, batch=batch))
        for batch in (2, 7, 64, 4096)
    }
    assert len(digests) == 1


COUNT_COMPILED = """
from feeds.config import SimulatorConfig
from feeds.simulator.kernels import snapshots_nb, trades_and_quotes_nb
from feeds.simulator.source import Simulator

for universe, kernel in (("crypto", trades_and_quotes_nb), ("a-share", snapshots_nb)):
    simulator = Simulator(SimulatorConfig(universe=universe))
    before = len(kernel.signatures)
    next(simulator.batches())
    print(before, len(kernel.signatures))
"""
"""In a process of its own, where nobody has compiled anything before."""


def test_nothing_is_left_to_compile_when_the_first_batch_is_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_COMPILED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1"] * 4


def test_another_seed_is_another_market() -> None:
    assert digest(make(seed=1, limit_ticks=1000)) != digest(make(seed=2, limit_ticks=1000))


@pytest.mark.parametrize("rate", [1.0, 1000.0, 1_000_000.0])
def test_rate_is_kept_on_average_while_trades_cluster(rate: float) -> None:
    ticks = make(rate=rate, limit_ticks=300_000)
    seconds = (ticks["ts_recv"][-1] - ticks["ts_recv"][0]) / SECOND
    assert len(ticks) / seconds == pytest.approx(rate, rel=0.04)
    trades = ticks["ts_event"][ticks["kind"] == TickKind.TRADE]
    counts, _ = np.histogram(trades, 2000)
    assert counts.var() / counts.mean() > 2.0


def test_buys_and_sells_excite_their_own_side_more() -> None:
    ticks = make(limit_ticks=200_000, instruments=1)
    sides = ticks["side"][ticks["kind"] == TickKind.TRADE].astype(np.float64)
    assert np.corrcoef(sides[:-1], sides[1:])[0, 1] > 0.1


def test_stream_is_in_order_on_the_grid_and_uncrossed() -> None:
    simulator = Simulator(SimulatorConfig(limit_ticks=50_000))
    ticks = np.concatenate([batch.copy() for batch in simulator.batches()])
    assert (np.diff(ticks["ts_recv"]) >= 0).all()
    quotes = ticks[ticks["kind"] == TickKind.QUOTE]
    assert (quotes["bid"] < quotes["ask"]).all()
    assert (quotes["bid_size"] > 0).all()
    for row in simulator.instruments:
        mine = quotes["bid"][quotes["instrument"] == row["id"]]
        assert np.array_equal(mine, np.round(mine, int(row["price_decimals"])))


def test_trades_print_at_the_standing_quote() -> None:
    ticks = make(limit_ticks=20_000, instruments=1)
    for before, tick in pairwise(ticks):
        if tick["kind"] == TickKind.TRADE:
            standing = before["ask"] if tick["side"] > 0 else before["bid"]
            assert np.isnan(standing) or tick["price"] == standing


def test_spread_widens_and_size_shrinks_in_turbulent_regimes() -> None:
    rng = np.random.default_rng(1)
    config = SimulatorConfig(instruments=1)
    out = np.zeros(4000, make(limit_ticks=1).dtype)
    width, size = {}, {}
    for regime in (0, 3):
        rows = crypto.open_rows(config, rng)
        market = crypto.open_market(config, rows, 0)
        rows["regime"], rows["regime_end"] = regime, np.inf
        count = trades_and_quotes_nb(rng, rows, market, REGIMES, TRANSITIONS, out)
        quotes = out[:count][out["kind"][:count] == TickKind.QUOTE]
        width[regime] = (quotes["ask"] - quotes["bid"]).mean()
        size[regime] = quotes["bid_size"].mean()
    assert width[3] > 1.5 * width[0]
    assert size[3] < 0.7 * size[0]


def flow_shares_and_moves(
    ticks: Ticks, sides: npt.NDArray[np.float64], instrument: int, horizon_s: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Signed flow share at each whole second, and the mid's move, bps, in the second after it."""
    origin = ticks["ts_event"][0]
    mine = ticks["instrument"] == instrument
    seconds = (ticks["ts_event"] - origin) / SECOND
    count = int(seconds[-1])
    trades = mine & (ticks["kind"] == TickKind.TRADE) & (seconds < count)
    age = np.ceil(seconds[trades]) - seconds[trades]
    slot = np.ceil(seconds[trades]).astype(np.int64)
    weight = np.exp(-age / horizon_s)
    flow = np.bincount(slot, weight * sides[trades], count + 1)
    activity = np.bincount(slot, weight, count + 1)
    for second in range(1, count + 1):
        flow[second] += flow[second - 1] * np.exp(-1 / horizon_s)
        activity[second] += activity[second - 1] * np.exp(-1 / horizon_s)
    quotes = mine & (ticks["kind"] == TickKind.QUOTE)
    mids = (ticks["bid"][quotes] + ticks["ask"][quotes]) / 2
    at = np.searchsorted(seconds[quotes], np.arange(count + 1), side="right") - 1
    moves = np.diff(np.log(mids[np.maximum(at, 0)])) * 1e4
    warm = 20
    return (flow / (activity + 2))[warm:-1], moves[warm:]


def slope_and_error(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    slope = float((x * y).sum() / (x * x).sum())
    error = float(np.sqrt(((y - slope * x) ** 2).mean() / (x * x).sum()))
    return slope, error


def measured_effect(ticks: Ticks, sides: npt.NDArray[np.float64]) -> tuple[float, float]:
    pairs = [flow_shares_and_moves(ticks, sides, i, 5.0) for i in range(10)]
    return slope_and_error(
        np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])
    )


def test_signed_flow_predicts_the_next_move_and_shuffling_destroys_it() -> None:
    ticks = make(limit_ticks=600_000, instruments=10, rate=500.0)
    sides = ticks["side"].astype(np.float64)
    slope, error = measured_effect(ticks, sides)
    assert slope == pytest.approx(0.95, abs=max(0.25, 3 * error))
    assert slope > 8 * error
    trades = np.flatnonzero(ticks["kind"] == TickKind.TRADE)
    shuffled = sides.copy()
    shuffled[trades] = np.random.default_rng(3).permutation(sides[trades])
    slope, error = measured_effect(ticks, shuffled)
    assert abs(slope) < 4 * error


def test_without_the_effect_flow_predicts_nothing() -> None:
    ticks = make(limit_ticks=300_000, instruments=10, rate=500.0, effect_bps_per_s=0.0)
    slope, error = measured_effect(ticks, ticks["side"].astype(np.float64))
    assert abs(slope) < 4 * error


def test_kernel_equals_its_plain_python() -> None:
    config = SimulatorConfig(instruments=3)
    made = []
    for kernel in (
        trades_and_quotes_nb,
        getattr(trades_and_quotes_nb, "py_func", trades_and_quotes_nb),
    ):
        rng = np.random.default_rng(5)
        rows = crypto.open_rows(config, rng)
        market = crypto.open_market(config, rows, 0)
        out = np.zeros(500, make(limit_ticks=1).dtype)
        kernel(rng, rows, market, REGIMES, TRANSITIONS, out)
        made.append(out.tobytes())
    assert made[0] == made[1]


def test_kernels_compile_for_one_signature() -> None:
    make(limit_ticks=10)
    make(universe="a-share", limit_ticks=10, batch=3)
    for kernel in (trades_and_quotes_nb, snapshots_nb):
        assert len(getattr(kernel, "signatures", [()])) == 1


def test_snapshots_keep_to_the_session_the_limits_and_the_lots() -> None:
    simulator = Simulator(SimulatorConfig(universe="a-share", duration=26 * 3600 * SECOND))
    batches, boards = [], simulator.instruments["board"].copy()
    for batch in simulator.batches():
        rows = simulator.instruments[batch["instrument"]]
        ask, bid = batch["ask"], batch["bid"]
        assert not (ask > rows["limit_up"]).any()
        assert not (bid < rows["limit_down"]).any()
        batches.append(batch.copy())
    ticks = np.concatenate(batches)
    clock_s = (ticks["ts_event"] // SECOND + 8 * 3600) % 86_400
    morning = (clock_s >= 34_200) & (clock_s < 41_400)
    afternoon = (clock_s >= 46_800) & (clock_s < 54_000)
    assert (morning | afternoon).all()
    assert ((ticks["flags"] & TickFlag.AUCTION > 0) == (clock_s >= 53_820)).all()
    in_hundreds = boards[ticks["instrument"]] != Board.CN_STAR
    assert (ticks["size"][in_hundreds] % 100 == 0).all()
    assert (np.diff(ticks["ts_recv"]) >= 0).all()
    one = ticks["ts_event"][ticks["instrument"] == 3]
    assert set(np.diff(one)) >= {3 * SECOND}


def test_a_locked_limit_has_one_side() -> None:
    ticks = make(universe="a-share", volatility=8.0, duration=6 * 3600 * SECOND)
    locked = np.isnan(ticks["ask"]) | np.isnan(ticks["bid"])
    assert locked.any()
    assert (ticks["flags"][locked] & TickFlag.ONE_SIDED > 0).all()
    assert not (np.isnan(ticks["ask"]) & np.isnan(ticks["bid"])).any()


def test_a_new_day_brings_new_definitions_before_its_ticks() -> None:
    simulator = Simulator(SimulatorConfig(universe="a-share", duration=26 * 3600 * SECOND))
    tables = [simulator.instruments]
    last: dict[int, float] = {}
    for batch in simulator.batches():
        if simulator.instruments is not tables[-1]:
            tables.append(simulator.instruments)
            if len(tables) > 2:
                assert tables[-1]["pre_close"][0] == pytest.approx(last[0])
        last.update(zip(batch["instrument"].tolist(), batch["price"].tolist(), strict=True))
    assert len(tables) == 3


def test_limit_prices_round_half_up_in_decimals() -> None:
    assert limit_prices(10.05, Decimal("0.10")) == (11.06, 9.05)
    assert limit_prices(7.45, Decimal("0.20")) == (8.94, 5.96)


def test_trading_days_leave_out_the_spring_festival() -> None:
    days = trading_days(dt.date(2024, 2, 9))
    assert [next(days) for _ in range(2)] == [dt.date(2024, 2, 19), dt.date(2024, 2, 20)]


def test_faults_come_in_their_shares_and_leave_the_rest_alone() -> None:
    shares = FaultsConfig(nan=0.01, crossed=0.02, duplicate=0.03, unknown_instrument=0.04)
    odd = make(faults=shares, limit_ticks=100_000)
    no_price = np.isnan(odd["price"]) & np.isnan(odd["bid"])
    assert no_price.mean() == pytest.approx(0.01, rel=0.2)
    assert (odd["bid"] > odd["ask"]).mean() == pytest.approx(0.015, rel=0.2)
    assert (odd["instrument"] > MAX_INSTRUMENTS).mean() == pytest.approx(0.04, rel=0.2)
    twice = sum(a.tobytes() == b.tobytes() for a, b in pairwise(odd[:20_000]))
    assert twice / 20_000 == pytest.approx(0.03, rel=0.25)


def test_limit_and_duration_end_the_stream() -> None:
    assert len(make(limit_ticks=12_345)) == 12_345
    ticks = make(duration=2 * SECOND)
    assert 1000 < len(ticks) < 3000
    assert np.ptp(ticks["ts_event"]) < 2 * SECOND


def test_a_start_without_a_zone_is_a_configuration_error() -> None:
    for start in ("tomorrow", "2024-03-04T09:30:00"):
        with pytest.raises(ConfigError, match="start"):
            Simulator(SimulatorConfig(start=start))


def test_more_faults_than_ticks_are_refused() -> None:
    with pytest.raises(ValidationError, match="add up"):
        FaultsConfig(nan=0.5, crossed=0.5, duplicate=0.1)
