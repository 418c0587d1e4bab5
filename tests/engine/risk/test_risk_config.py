import tomllib

import pytest
from pydantic import ValidationError

from engine.core.records import Board
from engine.risk.config import RiskConfig
from engine.risk.rules import RiskState


def test_defaults_are_valid() -> None:
    assert RiskConfig.model_validate({}) == RiskConfig()


def test_toml_with_units_is_read() -> None:
    text = """
        state = "reducing"
        [data]
        max_age = "250ms"
        [market.order_size]
        cn_main = 200
        [cost.fees]
        crypto = { buy_bps = 1, sell_bps = 2 }
    """
    config = RiskConfig.model_validate(tomllib.loads(text))
    assert config.state is RiskState.REDUCING
    assert config.data.max_age == 250_000_000
    assert config.market.order_size.of(Board.CN_MAIN) == 200
    fees = config.cost.fees.of(Board.CRYPTO)
    assert fees is not None
    assert fees.sell_bps == 2


def test_every_board_has_an_order_size_and_fees() -> None:
    config = RiskConfig()
    for board in Board:
        assert config.market.order_size.of(board) == 0
        from_rulebook = config.cost.fees.of(board) is None
        assert from_rulebook == board.name.startswith("CN_")


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": {"max_age": "-1s"}},
        {"data": {"max_age": -1}},
        {"data": {"maximum_age": 1}},
        {"liquidity": {"max_spread_bps": float("nan")}},
        {"liquidity": {"require_book": "sometimes"}},
        {"limits": {"rate_window": 0}},
        {"limits": {"max_signals": 10_001}},
        {"cost": {"fees": {"crypto": {"buy_bps": 1}}}},
        {"state": "asleep"},
    ],
)
def test_wrong_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RiskConfig.model_validate(wrong)
