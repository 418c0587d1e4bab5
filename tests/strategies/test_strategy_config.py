"""What a configuration may say of a strategy: one kind, and what goes with it."""

from typing import Any

import pytest
from pydantic import ValidationError

from strategies.config import StrategyConfig


def strategy(**fields: Any) -> StrategyConfig:
    return StrategyConfig(name="s", **fields)


def test_each_kind_is_valid_alone() -> None:
    assert strategy(rule="macd_cross", on="1m").rule == "macd_cross"
    assert strategy(strategy="dip", on="1m").strategy == "dip"
    assert strategy(model="demo").on == ""
    assert strategy(model="demo", on="1m").on == "1m"


def test_rule_may_be_confirmed_by_a_model() -> None:
    one = strategy(rule="macd_cross", on="tick", confirm="demo")
    assert (one.confirm, one.confirm_min) == ("demo", 0.4)
    assert strategy(rule="r", on="tick", confirm="demo", confirm_min=0.7).confirm_min == 0.7


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"on": "1m"}, "give one of `rule`"),
        ({"rule": "a", "strategy": "b", "on": "1m"}, "give one of `rule`"),
        ({"rule": "a", "model": "b", "on": "1m"}, "give one of `rule`"),
        ({"rule": "a"}, "give its clock, `on`"),
        ({"strategy": "a"}, "give its clock, `on`"),
        ({"model": "a", "confirm": "b"}, "`confirm` goes with a `rule`"),
        ({"strategy": "a", "on": "1m", "confirm": "b"}, "`confirm` goes with a `rule`"),
        ({"rule": "a", "on": "1m", "confirm_min": 0.5}, "`confirm_min` goes with `confirm`"),
        ({"rule": "a", "on": "1m", "confirm": "b", "confirm_min": 1.1}, "less than or equal to 1"),
    ],
)
def test_what_does_not_go_together_is_told(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        strategy(**fields)
