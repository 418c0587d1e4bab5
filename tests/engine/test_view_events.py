"""A swap, a degradation and a recovery of a model are seen in the view, however narrow it is."""

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from view_cases import LEFT, NOON_NS, make_state, make_status
from view_cases import make_model_status as status_of

from engine.client_state import Status
from engine.view import render
from engine.view_events import model_events
from engine.view_state import KEPT_EVENTS, ViewState


def texts(before: Any, after: Any) -> list[str]:
    return [event.text for event in model_events(before, after, NOON_NS)]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("cpu", "cpu:1", f"tcn: degraded: cpu:1 serves, cpu is left ({LEFT})"),
        ("cpu", "", f"tcn: no device left: cpu is left ({LEFT})"),
        ("cpu:1", "cpu", "tcn: recovered: cpu serves again"),
        ("", "cpu:1", "tcn: recovered: cpu:1 serves again"),
    ],
)
def test_a_change_of_device_is_told(before: str, after: str, told: str) -> None:
    assert texts(status_of(before), status_of(after)) == [told]


def test_a_swap_is_told_by_version_and_by_hash_where_that_is_all_that_differs() -> None:
    one = status_of("cpu")
    other = status_of("cpu", "demo-tcn@2-b5b0e1000000")
    assert texts(one, other) == ["tcn: swapped: demo-tcn@2 serves, it was demo-tcn@1"]
    rebuilt = status_of("cpu", "demo-tcn@1-ffffffffffff")
    assert "demo-tcn@1-ffffffffffff serves" in texts(one, rebuilt)[0]


def test_nothing_is_told_of_a_first_status_of_no_change_and_of_a_new_start() -> None:
    status = status_of("cpu")
    assert texts({}, status) == []
    assert texts(status, status) == []
    assert texts(status, status_of("cpu:1", uptime_s=1.0)) == []
    assert texts(make_status(), status) == []


def state_with(*statuses: Any) -> ViewState:
    state = make_state(20)
    for status in statuses:
        state.take(Status(NOON_NS, status), 10.0)
    return state


def draw(state: ViewState, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), record=True, width=width, height=height)
    console.print(render(state, width, height, 10.0))
    return console.export_text().splitlines()


def test_80_columns_show_the_bundle_and_its_swap() -> None:
    state = state_with(status_of("cpu"), status_of("cpu", "demo-tcn@2-b5b0e1000000"))
    lines = draw(state)
    assert any("swapped: demo-tcn@2 serves, it was demo-tcn@1" in line for line in lines)
    (line,) = [line for line in lines if line.startswith("tcn  ")]
    for part in ("demo-tcn@2", "● onnxruntime@cpu fp32", "p50 85.0 µs p99 370 µs"):
        assert part in line, part
    assert 23 <= len(lines) <= 24


def test_the_newest_event_comes_first_and_old_ones_leave_the_view() -> None:
    turns = [status_of("cpu"), status_of("cpu:1"), status_of("")]
    lines = draw(state_with(*turns, *turns))
    told = [line for line in lines if "tcn: " in line]
    assert len(told) == 2
    assert "no device left" in told[0]
    assert "degraded" in told[1]
    assert max(map(cell_len, lines)) <= 80
    assert len(draw(state_with(*turns, *turns), 140, 45)) <= 45


def test_events_are_kept_in_a_bounded_number() -> None:
    state = state_with(*[status_of("cpu"), status_of("cpu:1")] * 200)
    assert len(state.events) == KEPT_EVENTS
    assert state.noticed == 399


def test_without_a_change_there_is_no_line_for_events() -> None:
    assert not [line for line in draw(state_with(status_of("cpu"))) if "models changed" in line]
