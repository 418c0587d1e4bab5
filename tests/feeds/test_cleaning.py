"""The cleaning rules, one by one."""

import math
from typing import Any

import numpy as np
import pytest
from frame_cases import START_NS, make_ticks
from hypothesis import given
from hypothesis import strategies as st
from reference.frame_twin import FrameTwin

from engine.core.records import TICK, TickFlag, TickKind, Ticks
from feeds.cleaning import Cleaner, TickFault
from feeds.tick_check import clean_nb, fault_nb, faults_nb

DAY_NS = 86_400 * 10**9


def tick_of(like: TickKind, **fields: Any) -> Ticks:
    place = {TickKind.TRADE: 0, TickKind.QUOTE: 1, TickKind.SNAPSHOT: 2, TickKind.HEARTBEAT: 3}
    tick = make_ticks(1, first=place[like], instruments=1)
    for name, value in fields.items():
        tick[name] = value
    return tick


@pytest.mark.parametrize("kind", [TickKind.TRADE, TickKind.QUOTE, TickKind.SNAPSHOT])
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, TickFault.NONE),
        ({"ts_event": 0}, TickFault.NO_TIME),
        ({"ts_recv": -1}, TickFault.NO_TIME),
        ({"ts_event": START_NS + 2 * DAY_NS}, TickFault.TIME_AHEAD),
        ({"instrument": 1}, TickFault.UNKNOWN_INSTRUMENT),
        ({"instrument": 0xFFFFFFFF}, TickFault.UNKNOWN_INSTRUMENT),
        ({"kind": 4}, TickFault.UNKNOWN_KIND),
        ({"kind": 200}, TickFault.UNKNOWN_KIND),
    ],
)
def test_what_every_tick_needs(kind: TickKind, fields: dict[str, Any], fault: TickFault) -> None:
    assert fault_nb(tick_of(kind, **fields)[0], 1) == fault


@pytest.mark.parametrize("kind", [TickKind.TRADE, TickKind.SNAPSHOT])
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"price": math.inf}, TickFault.NAN),
        ({"price": -1.0}, TickFault.NEGATIVE),
        ({"price": 0.0}, TickFault.ZERO_PRICE),
        ({"size": math.nan}, TickFault.NAN),
        ({"size": -1.0}, TickFault.NEGATIVE),
        ({"size": 0.0}, TickFault.NONE),
        ({"turnover": math.inf}, TickFault.NAN),
        ({"side": 2}, TickFault.UNKNOWN_SIDE),
        ({"price": math.nan}, TickFault.NAN),
    ],
)
def test_what_a_trade_needs(kind: TickKind, fields: dict[str, Any], fault: TickFault) -> None:
    assert fault_nb(tick_of(kind, **fields)[0], 1) == fault


@pytest.mark.parametrize("kind", [TickKind.QUOTE, TickKind.SNAPSHOT])
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"bid": math.nan}, TickFault.NONE),
        ({"bid": math.inf}, TickFault.NAN),
        ({"ask": -1.0}, TickFault.NEGATIVE),
        ({"ask": 0.0}, TickFault.ZERO_PRICE),
        ({"bid_size": math.nan}, TickFault.NAN),
        ({"ask_size": -1.0}, TickFault.NEGATIVE),
        ({"bid": 102.0}, TickFault.NONE),
    ],
)
def test_what_a_book_needs(kind: TickKind, fields: dict[str, Any], fault: TickFault) -> None:
    assert fault_nb(tick_of(kind, **fields)[0], 1) == fault


def test_a_book_without_sides_is_refused_unless_a_snapshot_has_a_price() -> None:
    none = {"bid": math.nan, "ask": math.nan}
    silent = {"price": math.nan, "size": 0.0, "turnover": 0.0}
    assert fault_nb(tick_of(TickKind.QUOTE, **none)[0], 1) == TickFault.NO_SIDE
    assert fault_nb(tick_of(TickKind.SNAPSHOT, **none)[0], 1) == TickFault.NONE
    assert fault_nb(tick_of(TickKind.SNAPSHOT, **silent)[0], 1) == TickFault.NONE
    assert fault_nb(tick_of(TickKind.SNAPSHOT, **none, **silent)[0], 1) == TickFault.NO_SIDE


def test_a_heartbeat_concerns_all_instruments_or_is_refused() -> None:
    assert fault_nb(tick_of(TickKind.HEARTBEAT)[0], 1) == TickFault.NONE
    one = tick_of(TickKind.HEARTBEAT, instrument=0)
    assert fault_nb(one[0], 1) == TickFault.UNKNOWN_INSTRUMENT


def test_cleaner_flags_odd_books_and_keeps_them() -> None:
    ticks = np.concatenate([
        tick_of(TickKind.QUOTE, bid=102.0),
        tick_of(TickKind.QUOTE, bid=101.0),
        tick_of(TickKind.QUOTE, bid=0.0),
        tick_of(TickKind.QUOTE, bid_size=0.0, ask_size=0.0, flags=TickFlag.HALTED),
    ])  # fmt: skip
    assert Cleaner(1).clean(ticks) == 4
    assert ticks["flags"].tolist() == [
        TickFlag.CROSSED, TickFlag.LOCKED, TickFlag.ONE_SIDED,
        TickFlag.NO_SIZE | TickFlag.HALTED,
    ]  # fmt: skip
    assert np.isnan(ticks["bid"][2])
    assert ticks["bid_size"][2] == 0.0


def test_cleaner_flags_time_that_steps_back_by_instrument() -> None:
    ticks = make_ticks(8, instruments=2)
    ticks["kind"], ticks["price"], ticks["instrument"] = TickKind.TRADE, 1.0, [0, 1] * 4
    ticks["ts_event"][4] = ticks["ts_event"][1]
    cleaner = Cleaner(2)
    assert cleaner.clean(ticks) == 8
    assert np.flatnonzero(ticks["flags"] & TickFlag.TIME_BACK).tolist() == [4]
    assert cleaner.last_event.tolist() == ticks["ts_event"][[6, 7]].tolist()


def test_cleaner_refuses_counts_and_moves_the_rest_up() -> None:
    ticks = make_ticks(8, instruments=1)
    expected = ticks[[0, 1, 3, 5, 6, 7]].tobytes()
    ticks["price"][2], ticks["price"][4] = -1.0, 0.0
    cleaner = Cleaner(1)
    kept = cleaner.clean(ticks)
    assert ticks[:kept].tobytes() == expected
    assert cleaner.refused == {"NEGATIVE": 1, "ZERO_PRICE": 1}
    assert cleaner.seen == 8


def test_cleaner_knows_instruments_defined_later() -> None:
    cleaner = Cleaner(0)
    assert cleaner.clean(make_ticks(1, instruments=1)) == 0
    cleaner.grow(1)
    assert cleaner.clean(make_ticks(1, instruments=1)) == 1
    assert cleaner.refused == {"UNKNOWN_INSTRUMENT": 1}


ODD = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, -0.0, 0.0, 1.0, 2.0, 5e-324, 1e308])


@st.composite
def odd_ticks(draw: st.DrawFn) -> Ticks:
    tick = np.zeros(1, TICK)
    tick["kind"] = draw(st.integers(0, 5))
    tick["instrument"] = draw(st.sampled_from([0, 1, 2, 0xFFFFFFFF]))
    tick["side"] = draw(st.integers(-2, 2))
    for name in ("price", "size", "turnover", "bid", "ask", "bid_size", "ask_size"):
        tick[name] = draw(ODD)
    for name in ("ts_event", "ts_recv"):
        tick[name] = draw(st.sampled_from([0, -1, 1, START_NS, START_NS + 2 * DAY_NS, 2**63 - 1]))
    return tick


@given(odd_ticks())
def test_rules_agree_with_the_twin_and_with_their_python_self(tick: Ticks) -> None:
    fault = fault_nb(tick[0], 2)
    problem = FrameTwin(2).tick_problem(list(tick[0].tolist()))
    assert TickFault(fault).name.lower() == (problem or "none")
    with np.errstate(invalid="ignore"):
        assert fault_nb.py_func(tick[0], 2) == fault


@given(st.lists(odd_ticks(), min_size=1, max_size=20))
def test_compiled_cleaning_equals_its_python_self(parts: list[Ticks]) -> None:
    ticks = np.concatenate(parts)
    twin = ticks.copy()
    faults = np.zeros(len(ticks), np.uint8)
    faults_nb(ticks.copy(), 2, faults)
    last, refused = np.zeros(2, np.int64), np.zeros(len(TickFault), np.int64)
    last_twin, refused_twin = last.copy(), refused.copy()
    kept = clean_nb(last, refused, ticks, len(ticks), 2)
    assert clean_nb.py_func(last_twin, refused_twin, twin, len(twin), 2) == kept
    assert ticks[:kept].tobytes() == twin[:kept].tobytes()
    assert (last.tolist(), refused.tolist()) == (last_twin.tolist(), refused_twin.tolist())
    assert np.bincount(faults, minlength=len(TickFault))[1:].tolist() == refused[1:].tolist()
