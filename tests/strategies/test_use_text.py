"""Indicators as text: what is read, and what is told of what cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import ConfigError
from strategies.batch import label_of
from strategies.registry import load_registry
from strategies.spec import Use
from strategies.use_text import parse_use

REGISTRY = load_registry()


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("macd", Use("macd", {})),
        ("macd()", Use("macd", {})),
        (" rsi( length = 14 ) ", Use("rsi", {"length": 14})),
        ("bollinger(length=10,width=2.5)", Use("bollinger", {"length": 10, "width": 2.5})),
        ("vpin(bucket_volume=1e3)", Use("vpin", {"bucket_volume": 1000.0})),
    ],
)
def test_a_use_is_read_as_it_is_written(text: str, use: Use) -> None:
    assert parse_use(text, REGISTRY) == use


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rssi", "did you mean 'rsi'"),
        ("imbalance", "order_flow_imbalance"),
        ("qqq", "indicators are: adx, atr"),
        ("rsi(lenght=14)", "did you mean 'length'"),
        ("rsi(14)", "name=number: length"),
        ("rsi(length=)", "is a number"),
        ("rsi(length=x)", "is a number"),
        ("rsi(length=0)", "not within 2 and 100000"),
        ("rsi(length=2.5)", "not a whole number"),
        ("rsi(length=nan)", "not"),
        ("rsi(length=3,length=4)", "each at most once"),
        ("obv(length=3)", "no parameters"),
        ("rsi(length=14", "name(parameter=number"),
        ("", "name(parameter=number"),
    ],
)
def test_a_use_that_cannot_be_read_is_told_why(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_use(text, REGISTRY, "--indicator")
    assert told in str(caught.value)
    assert str(caught.value).startswith("--indicator")


@given(st.text(alphabet="rsi(length=14), .x-", max_size=30))
def test_any_text_is_a_use_or_a_users_error(text: str) -> None:
    try:
        use = parse_use(text, REGISTRY)
    except ConfigError:
        return
    assert parse_use(label_of(use), REGISTRY) == use
