"""Units and rows of the terminal view."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from engine.view_text import (
    Column,
    beside,
    clip,
    fit,
    format_bytes,
    format_price,
    format_share,
    format_uptime,
    row,
    rule,
    sparkline,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.9, "0:00:59"), (3_725, "1:02:05"), (90_061, "1d 1:01:01")],
)
def test_uptime_is_a_clock_with_days_before_it(seconds: float, text: str) -> None:
    assert format_uptime(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (223_346_688, "213 MiB"),
        (5 * 2**40, "5120 GiB"),
    ],
)
def test_sizes_are_in_the_unit_that_suits(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (61_234.5, "61,234.5"),
        (0.000012345, "0.000012345"),
        (1.085, "1.085"),
        (3_000_000_000.0, "3,000,000,000"),
        (0.0, "0"),
        (-37.63, "-37.63"),
    ],
)
def test_prices_have_no_exponent(price: float, text: str) -> None:
    assert format_price(price) == text


def test_a_share_that_is_there_is_never_nought() -> None:
    assert format_share(1, 10_000) == "<1 %"
    assert format_share(0, 10) == "0 %"
    assert format_share(10, 10) == "100 %"


def test_sparkline_reaches_from_nought_to_the_greatest() -> None:
    assert sparkline([0.0, None, 50.0, 100.0]) == "▁ ▅█"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""


@given(st.text(max_size=60), st.integers(0, 40))
def test_clipped_text_fits(text: str, width: int) -> None:
    assert cell_len(clip(text, width)) <= width


def test_wide_characters_keep_the_columns_straight() -> None:
    columns = (Column("name", 8), Column("n", 4, right=True))
    for name in ("贵州茅台", "中证五百股指", "IF2101", "a-very-long-name"):
        assert row([(name, ""), ("7", "")], columns).cell_len == 14


def test_a_line_keeps_the_parts_that_matter_most() -> None:
    parts = [Text("first"), Text("second"), Text("x" * 50), Text("4th")]
    assert fit(parts, 20).plain == "first  second  4th"
    assert fit(parts, 3).plain == "first"


def test_columns_side_by_side_are_as_long_as_the_longer() -> None:
    lines = beside([Text("a")], [Text("b"), Text("c")], 4)
    assert [line.plain for line in lines] == ["a   b", "    c"]
    assert rule(Text("title"), 20).cell_len == 20
