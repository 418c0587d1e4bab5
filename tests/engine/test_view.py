"""The terminal view shows what matters, in any state of the engine and any size of the terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from view_cases import NOON_NS, STAGES, make_gap, make_signal, make_state, make_status

from engine.client_state import Status
from engine.view import render, signal_line, status_line
from engine.view_state import RATE_SPAN_S, STALE_S, USUAL_COUNTERS, ViewState
from feeds.burst import COUNTER_NAMES

SIZES = [(80, 24), (60, 20), (140, 45), (250, 70), (40, 12)]


def draw(state: ViewState, width: int = 80, height: int = 24, now_s: float = 10.0) -> list[str]:
    console = Console(file=io.StringIO(), record=True, width=width, height=height)
    console.print(render(state, width, height, now_s))
    return console.export_text().splitlines()


def text_of(state: ViewState, width: int = 80, height: int = 24, now_s: float = 10.0) -> str:
    return "\n".join(draw(state, width, height, now_s))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_no_line_is_wider_than_the_terminal(width: int, height: int) -> None:
    refusals = {f"REASON_{n}_WITH_A_NAME": n for n in range(1, 30)}
    problems = ["something is wrong " * 20, "and something else"]
    state = make_state(300, refusals=refusals, healthy=False, problems=problems)
    assert max(cell_len(line) for line in draw(state, width, height)) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 45), (100, 30)])
@pytest.mark.parametrize("signals", [0, 3, 200])
def test_the_view_fills_the_terminal_and_no_more(width: int, height: int, signals: int) -> None:
    assert height - 1 <= len(draw(make_state(signals), width, height)) <= height


def test_before_the_first_status_it_says_where_it_waits_and_for_how_long() -> None:
    state = ViewState("ws://127.0.0.1:9999", 0.0, note="logs in var/")
    text = text_of(state, now_s=7.0)
    assert "waiting for the engine at ws://127.0.0.1:9999" in text
    assert "7 s" in text
    assert "logs in var/" in text


def test_80_columns_show_everything_of_a_healthy_engine() -> None:
    text = text_of(make_state())
    for part in (
        "● healthy", "gate ACTIVE", "up 1:02:05", "instruments 20", "1,009 ticks/s",
        "1.23 M ticks", "memory 213 MiB", "stalls 0", "clock -12.0 µs ± 40.0 µs", "clients 1",
        "journal 42", "signals 42", "refused 58 (58 %)", "COST_EDGE", "86 %", "p99.9",
    ):  # fmt: skip
        assert part in text, part
    for stage in STAGES:
        assert any(line.startswith(stage) for line in draw(make_state())), stage


def test_newest_signals_come_first_and_fill_what_is_left() -> None:
    state = make_state(0)
    for seq in range(1, 101):
        state.take(make_signal(seq, instrument=f"S{seq}.SIM"), 10.0)
    rows = [line for line in draw(state) if ".SIM" in line]
    assert "S100.SIM" in rows[0]
    assert "S99.SIM" in rows[1]
    assert len(rows) >= 9


def test_a_signal_shows_every_fact_asked_of_it() -> None:
    row = next(line for line in draw(make_state(1), 140, 45) if "BTCUSDT" in line)
    assert row.split()[1:] == [
        "BTCUSDT.SIM", "BUY", "61,234.5", "0.25", "0.75", "macd", "1.50", "ms", "rule",
    ]  # fmt: skip


def test_sides_are_told_apart_by_colour() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    console.print(render(make_state(2), 80, 24, 10.0))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "\x1b[1;32mBUY" in drawn
    assert "\x1b[1;31mSELL" in drawn


def test_problems_stand_below_the_header() -> None:
    state = make_state(healthy=False, problems=["the gateway is not heard", "no data lately"])
    lines = draw(state)
    assert "● not healthy" in lines[0]
    assert "! the gateway is not heard" in lines
    assert "! no data lately" in lines


def test_many_problems_do_not_push_the_rest_away() -> None:
    lines = draw(make_state(healthy=False, problems=[f"problem {n}" for n in range(40)]))
    assert sum(line.startswith("!") for line in lines) == 4
    assert any("(and 36 more)" in line for line in lines)
    assert len(lines) <= 24


def test_text_from_outside_cannot_move_the_cursor() -> None:
    state = make_state(0, healthy=False, problems=["one\ntwo\x1b[2Jthree"])
    state.take(make_signal(1, instrument="A\x1b[2JB"), 10.0)
    drawn = text_of(state)
    assert "! one two [2Jthree" in drawn
    assert "A [2JB" in drawn
    assert "\x1b" not in drawn


def test_many_reasons_are_summed_up_in_the_last_row() -> None:
    counts = {f"R{n:02}": 100 - n for n in range(20)}
    text = text_of(make_state(refusals=counts, refused=sum(counts.values())))
    assert "R00" in text
    assert "15 more" in text
    assert "9 more" in text_of(make_state(refusals=counts), 140, 45)


def test_engine_that_fell_silent_is_said_to_be_lost() -> None:
    state = make_state(seconds=10)
    assert "not heard" not in text_of(state, now_s=10.0 + STALE_S)
    assert "not heard for 12 s, trying again" in text_of(state, now_s=22.0)


def test_odd_input_is_shown_only_when_there_is_some() -> None:
    assert "input" not in text_of(make_state())
    odd = {"frames": 5, "gaps": 2, "lost_records": 17, "bad_crc": 0}
    text = text_of(make_state(input=odd))
    assert "gaps 2" in text
    assert "lost records 17" in text
    assert "bad crc" not in text


def test_what_the_link_had_to_make_up_for_is_shown() -> None:
    assert "sent again" not in text_of(make_state(recovery={"recovered": 0, "requests": 4}))
    text = text_of(make_state(recovery={"recovered": 812, "held_messages": 3}))
    assert "records sent again 812" in text
    assert "messages held 3" in text


def test_usual_counters_are_names_of_the_decoder() -> None:
    assert set(COUNTER_NAMES) >= USUAL_COUNTERS


def test_failed_strategies_and_void_signals_are_told() -> None:
    text = text_of(make_state(strategy_failures={"mine": 3, "other": 0}, void=2))
    assert "! strategy mine failed 3 times" in text
    assert "other" not in text
    assert "void 2" in text


def test_stages_without_values_show_a_dash() -> None:
    latency = {name: {"count": 0} for name in STAGES}
    row = next(line for line in draw(make_state(latency=latency)) if line.startswith("gate "))
    assert row.split()[:6] == ["gate", "-", "-", "-", "-", "-"]


def test_status_of_another_version_is_still_drawn() -> None:
    state = ViewState("ws://x", 0.0)
    state.take(Status(NOON_NS, {"healthy": False}), 1.0)
    assert "● not healthy" in text_of(state, now_s=1.0)
    assert status_line(state).startswith("status: not healthy")


def test_missed_signals_are_counted_and_told() -> None:
    state = make_state()
    state.take(make_gap(6, 9), 10.0)
    state.take(make_gap(11, None), 10.0)
    assert state.missed == 5
    assert "this view missed 5 signals" in text_of(state)


def test_lines_for_a_pipe_tell_the_same() -> None:
    assert status_line(make_state()) == (
        "status: healthy, up 1:02:05, 1,009 ticks/s, 1,234,567 ticks, 42 signals, 58 refused, "
        "total p50 900 ns p99 45.0 µs"
    )
    unwell = status_line(make_state(healthy=False, problems=["a", "b"], input={"gaps": 3}))
    assert unwell.startswith("status: not healthy, a; b, up")
    assert unwell.endswith("3 gaps")
    line = signal_line(make_signal(1))
    assert "BUY  BTCUSDT.SIM at 61,234.5, strength 0.25, confidence 0.75, macd (rule), age" in line


def test_memory_stays_bounded() -> None:
    state = ViewState("ws://x", 0.0)
    for n in range(2_000):
        state.take(make_signal(n), n / 10)
        state.take(Status(NOON_NS, make_status()), n / 10)
    assert len(state.signals) == 200
    assert len(state.rates) <= 600
    assert state.rates[0][0] >= 199.9 - RATE_SPAN_S
    assert state.received == 2_000


def test_rate_slots_hold_the_last_minute_oldest_first() -> None:
    state = make_state(0, seconds=61)
    slots = state.rate_slots(60)
    assert slots[-1] == 1_060.0
    assert slots[0] is not None
    assert [value for value in slots if value] == sorted(value for value in slots if value)
    assert make_state(0, seconds=3).rate_slots(60)[:57] == [None] * 57


@given(
    width=st.integers(20, 200),
    height=st.integers(5, 80),
    signals=st.integers(0, 100),
    ticks=st.integers(0, 2**62),
    rate=st.floats(0, 1e9),
    refusals=st.dictionaries(st.text(min_size=1, max_size=40), st.integers(0, 2**40), max_size=30),
    problems=st.lists(st.text(max_size=300), max_size=10),
)
def test_any_state_is_drawn_in_any_size(
    width: int,
    height: int,
    signals: int,
    ticks: int,
    rate: float,
    refusals: dict[str, int],
    problems: list[str],
) -> None:
    state = make_state(
        signals, seconds=2, ticks=ticks, ticks_per_s=rate, refusals=refusals, problems=problems
    )
    assert draw(state, width, height)
