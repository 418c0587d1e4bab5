"""A name that there is not is told the nearest that there is, and all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.suggest import MOST, did_you_mean, known_names, similar

RULES = ["macd_cross", "macd_rsi", "zscore_reversion", "order_flow_imbalance"]


@pytest.mark.parametrize(
    ("found", "first"),
    [
        ("macd_cros", "macd_cross"),
        ("MACD_CROSS", "macd_cross"),
        ("macdcross", "macd_cross"),
        ("zscore_revresion", "zscore_reversion"),
        ("imbalance", "order_flow_imbalance"),
    ],
)
def test_a_misspelt_name_finds_the_one_that_was_meant(found: str, first: str) -> None:
    assert similar(found, RULES)[0] == first


def test_a_slip_of_one_letter_leaves_no_doubt() -> None:
    assert similar("macd_cros", RULES) == ["macd_cross"]


def test_nothing_is_suggested_where_nothing_is_alike() -> None:
    assert did_you_mean("quux", RULES) == ""
    assert known_names("rules", RULES[:2], "quux") == "rules are: macd_cross, macd_rsi"


def test_the_nearest_stands_before_all_that_there_are() -> None:
    told = known_names("clocks", ["tick", "trade", "quote", "1s"], "trades")
    assert told == "did you mean 'trade'? clocks are: tick, trade, quote, 1s"


def test_where_there_are_no_names_that_is_said() -> None:
    assert known_names("models", [], "tcn") == "models are: none"


def test_names_that_differ_in_capitals_only_are_both_known() -> None:
    assert similar("Trend", ["Trend", "other"]) == ["Trend"]
    assert did_you_mean("trend", ["Trend"]) == "did you mean 'Trend'? "


@given(st.text(max_size=12), st.lists(st.text(max_size=8), max_size=6))
def test_only_known_names_are_suggested_and_few_of_them(found: str, known: list[str]) -> None:
    names = similar(found, known)
    assert set(names) <= set(known)
    assert len(names) == len(set(names)) <= MOST
