"""Backtests at call auctions: which prints fill which orders, at what price, and which never do.

A day of a share: the opening auction prints at 9:25, the closing one at 15:00, each in two records.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from backtest_rig import DAY, MONDAY, OPEN, S, orders, settings, shares, trade
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engine.core.records import TickFlag, TickKind, Ticks, empty_ticks
from replay.backtest.records import BacktestResult

BUY, SELL = 1, -1
SESSIONS: Final = ("whole", "continuous", "off")
AUCTION: Final = int(TickFlag.AUCTION)
MS: Final = 10**6


def clock(text: str) -> int:
    """Return a time of MONDAY in Shanghai, ns UTC."""
    hours, minutes, seconds = text.split(":")
    of_day = (int(hours) * 60 + int(minutes)) * 60 * S + round(float(seconds) * S)
    return MONDAY + OPEN + of_day - (9 * 60 + 30) * 60 * S


class Seen(NamedTuple):
    """One snapshot, a fen wide below its ask."""

    at: str
    ask: float
    flags: int = 0
    price: float = np.nan
    size: float = 0.0


INDICATIVE, FIRST, SECOND, OPENED, LATE, CALLED, CLOSED, AGAIN, AFTER = range(9)
SHARE_DAY: Final = (
    Seen("9:24:57", 10.06, AUCTION, 10.05),
    Seen("9:25:00", 10.11, AUCTION, 10.10, 5_000),
    Seen("9:25:00.010", 10.11, AUCTION, 10.10, 800),
    Seen("9:30:00", 10.13, 0, 10.12, 100),
    Seen("14:56:57", 10.21, 0, 10.20, 100),
    Seen("14:58:00", 10.26, AUCTION, 10.25),
    Seen("15:00:00", 10.32, AUCTION, 10.30, 9_000),
    Seen("15:00:00", 10.32, AUCTION, 10.30, 700),
    Seen("15:00:03", 10.34, 0, 10.30),
)


def snapshots(*seen: Seen) -> Ticks:
    ticks = empty_ticks(len(seen))
    ticks["kind"] = TickKind.SNAPSHOT
    for tick, one in zip(ticks, seen, strict=True):
        tick["ts_event"] = tick["ts_recv"] = clock(one.at)
        tick["bid"], tick["ask"] = round(one.ask - 0.01, 2), one.ask
        tick["price"], tick["size"], tick["flags"] = one.price, one.size, one.flags
    ticks["bid_size"] = ticks["ask_size"] = 5_000
    return ticks


def dealt(
    path: Path, row: int, ticks: Ticks | None = None, side: int = BUY, **backtest: Any
) -> BacktestResult:
    """Trade one order on the share's day, with auctions unless told otherwise."""
    config = settings(**{"auctions": True, "settlement": False, "fees": False, **backtest})
    given_ = orders((row, side))
    ticks = snapshots(*SHARE_DAY) if ticks is None else ticks
    return trade(path, ticks, given_, config, shares(pre_close=10.0))


def fills_of(result: BacktestResult) -> list[tuple[int, float]]:
    return list(zip(result.fills["ts"].tolist(), result.fills["price"].tolist(), strict=True))


@pytest.mark.parametrize("sessions", SESSIONS)
def test_an_order_that_rests_gets_the_opening_print(tmp_path: Path, sessions: str) -> None:
    on = dealt(tmp_path, INDICATIVE, sessions=sessions)
    assert fills_of(on) == [(clock("9:25:00"), 10.10)]
    off = dealt(tmp_path, INDICATIVE, sessions=sessions, auctions=False)
    assert fills_of(off) == [(clock("9:30:00"), 10.13)]


@pytest.mark.parametrize("sessions", SESSIONS)
@pytest.mark.parametrize("row", [LATE, CALLED])
def test_an_order_that_rests_gets_the_closing_print(
    tmp_path: Path, sessions: str, row: int
) -> None:
    on = dealt(tmp_path, row, sessions=sessions)
    assert fills_of(on) == [(clock("15:00:00"), 10.30)]
    ticks = snapshots(*SHARE_DAY[:AFTER])
    off = dealt(tmp_path, row, ticks, sessions=sessions, auctions=False)
    assert (fills_of(off), off.unfilled) == ([], {"AUCTION": 1})


@pytest.mark.parametrize("sessions", SESSIONS)
def test_a_plain_tick_outside_the_hours_fills_nothing(tmp_path: Path, sessions: str) -> None:
    """The snapshot of 15:00:03, and the prints when their source does not mark them."""
    unmarked = snapshots(*SHARE_DAY)
    unmarked["flags"] = 0
    for auctions in (False, True):
        for row, ticks in ((CLOSED, None), (INDICATIVE, unmarked[:OPENED]), (CALLED, unmarked)):
            result = dealt(tmp_path, row, ticks, sessions=sessions, auctions=auctions)
            assert len(result.fills) == (sessions == "off"), (auctions, row)
            assert sessions == "off" or result.unfilled == {"OUT_OF_SESSION": 1}


@pytest.mark.parametrize("sessions", SESSIONS)
def test_a_signal_of_a_print_meets_no_record_of_that_auction(tmp_path: Path, sessions: str) -> None:
    """The first of two records of one print signals: the second is no chance that anybody had."""
    opening = dealt(tmp_path, FIRST, sessions=sessions)
    assert fills_of(opening) == [(clock("9:30:00"), 10.13)]
    closing = dealt(tmp_path, CLOSED, snapshots(*SHARE_DAY[:AFTER]), sessions=sessions)
    assert (fills_of(closing), closing.unfilled) == ([], {"AUCTION": 1})


def test_an_order_made_after_the_close_waits_for_the_next_days_opening(tmp_path: Path) -> None:
    ticks = np.concatenate([snapshots(*SHARE_DAY[:AFTER]), snapshots(*SHARE_DAY)])
    ticks["ts_event"][AFTER:] += DAY
    ticks["ts_recv"][AFTER:] += DAY
    result = dealt(tmp_path, AGAIN, ticks, require_reference=False)
    assert fills_of(result) == [(clock("9:25:00") + DAY, 10.10)]


@pytest.mark.parametrize(("latency", "price"), [("2999999999ns", 10.10), ("3s", 10.13)])
def test_an_order_must_be_there_before_the_print(
    tmp_path: Path, latency: str, price: float
) -> None:
    """A record of the print that comes 2 s late lets nobody in who came in those."""
    ticks = snapshots(*SHARE_DAY)
    ticks["ts_recv"][FIRST : SECOND + 1] += 2 * S
    assert fills_of(dealt(tmp_path, INDICATIVE, ticks, latency=latency))[0][1] == price


@pytest.mark.parametrize(
    ("at", "row", "why"),
    [
        ("8:59:59.999", FIRST, "OUT_OF_SESSION"),
        ("9:00:00", FIRST, None),
        ("9:31:13.453", FIRST, None),
        ("15:00:07.744", CLOSED, None),
        ("15:01:00", CLOSED, None),
        ("15:01:00.001", CLOSED, "OUT_OF_SESSION"),
    ],
)
def test_prints_count_from_half_an_hour_before_the_open_to_a_minute_past_the_close(
    tmp_path: Path, at: str, row: int, why: str | None
) -> None:
    before = SHARE_DAY[row - 1]._replace(at="8:30:00" if row == FIRST else "14:58:00")
    ticks = snapshots(before, SHARE_DAY[row]._replace(at=at))
    for sessions in ("whole", "continuous"):
        result = dealt(tmp_path, 0, ticks, sessions=sessions)
        assert result.unfilled == ({} if why is None else {why: 1})
    assert len(dealt(tmp_path, 0, ticks, sessions="off").fills) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"size": 0}, "AUCTION"),
        ({"kind": int(TickKind.QUOTE)}, "AUCTION"),
        ({"flags": AUCTION | TickFlag.ODD_CONDITION}, "IRREGULAR"),
        ({"flags": AUCTION | TickFlag.HALTED}, "HALTED"),
    ],
    ids=["no size", "quote", "odd", "halted"],
)
def test_what_is_no_print_fills_nothing(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    ticks = snapshots(SHARE_DAY[INDICATIVE], SHARE_DAY[FIRST])
    for name, value in change.items():
        ticks[name][1] = value
    assert dealt(tmp_path, 0, ticks).unfilled == {why: 1}


def test_a_trade_marked_out_of_session_as_well_is_a_print(tmp_path: Path) -> None:
    ticks = snapshots(*SHARE_DAY[:OPENED])
    ticks["kind"], ticks["bid"], ticks["ask"] = TickKind.TRADE, np.nan, np.nan
    ticks["flags"] |= int(TickFlag.OUT_OF_SESSION)
    assert fills_of(dealt(tmp_path, INDICATIVE, ticks)) == [(clock("9:25:00"), 10.10)]


@pytest.mark.parametrize(
    ("price", "side", "why"), [(11.0, BUY, "LIMIT_UP"), (9.0, SELL, "LIMIT_DOWN")]
)
def test_an_auction_at_the_limit_has_nobody_on_the_other_side(
    tmp_path: Path, price: float, side: int, why: str
) -> None:
    print_ = SHARE_DAY[FIRST]._replace(price=price)
    ticks = snapshots(SHARE_DAY[INDICATIVE], print_)
    config = {"direction": "long_short"}
    assert dealt(tmp_path, 0, ticks, side, **config).unfilled == {why: 1}
    assert fills_of(dealt(tmp_path, 0, ticks, -side, **config)) == [(clock("9:25:00"), price)]


def test_the_rest_of_an_exit_takes_its_part_of_every_record_of_the_print(tmp_path: Path) -> None:
    """Half of 700 after half of 1,000 are 350, in whole lots 300; the last 200 stay."""
    ticks = snapshots(*SHARE_DAY[:AFTER])
    ticks["size"][CLOSED] = 1_000
    config = settings(auctions=True, settlement=False, fees=False, participation=0.5)
    given_ = orders((INDICATIVE, BUY), (CALLED, SELL))
    result = trade(tmp_path, ticks, given_, config, shares(pre_close=10.0))
    assert result.fills["quantity"].tolist() == [1_000, 500, 300]
    assert result.fills["price"].tolist() == [10.10, 10.30, 10.30]


def busy_day(seed: int) -> Ticks:
    """Return ticks from 8:50 to 15:02 of every kind, marked as of an auction at random."""
    rng = np.random.default_rng(seed)
    asks = rng.choice([10.06, 10.21, 10.34], 60).tolist()
    ticks = snapshots(*(Seen("9:30:00", ask, price=10.1) for ask in asks))
    edges = [clock(at) for at in ("8:50:00", "9:30:30", "14:57:00", "15:02:00")]
    spans = [*rng.integers(edges[0], edges[1], 25), *rng.integers(edges[1], edges[2], 10)]
    ticks["ts_event"] = np.sort([*spans, *rng.integers(edges[2], edges[3], 25)]) // S * S
    ticks["ts_recv"] = ticks["ts_event"] + rng.integers(0, 2) * 400 * MS
    ticks["kind"] = rng.choice([TickKind.TRADE, TickKind.QUOTE, TickKind.SNAPSHOT], 60)
    ticks["size"] = rng.choice([0, 10_000], 60)
    ticks["flags"] = rng.choice([0, AUCTION], 60)
    return ticks


def busy_orders() -> npt.NDArray[np.void]:
    return orders(*((row, BUY if row % 6 else SELL) for row in range(0, 60, 3)))


@examples(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(SESSIONS), st.booleans())
def test_whatever_fills_is_a_print_before_which_the_order_came_or_plain_and_in_hours(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sessions: str, auctions: bool
) -> None:
    ticks, folder = busy_day(seed), tmp_path_factory.mktemp("m")
    config = settings(auctions=auctions, sessions=sessions, settlement=False, fees=False)
    result = trade(folder, ticks, busy_orders(), config, shares(pre_close=10.0))
    last = clock("14:57:00" if sessions == "continuous" else "15:00:00")
    for fill in result.fills:
        rows = ticks[ticks["ts_recv"] == fill["ts"]]
        plain = rows[rows["flags"] == 0]
        inside = (plain["ts_event"] >= clock("9:30:00")) & (plain["ts_event"] < last)
        if inside.any() or (sessions == "off" and len(plain)):
            continue
        prints = rows[(rows["flags"] == AUCTION) & (rows["kind"] != TickKind.QUOTE)]
        prints = prints[(prints["size"] > 0) & (prints["ts_event"] > fill["ts_signal"])]
        if sessions != "off":
            prints = prints[prints["ts_event"] >= clock("9:00:00")]
            prints = prints[prints["ts_event"] <= clock("15:01:00")]
        assert auctions
        assert len(prints)
        assert fill["price"] == 10.1
