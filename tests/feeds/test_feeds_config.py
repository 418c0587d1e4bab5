"""The keys of the link and the gateway."""

from typing import Any

import pytest
from pydantic import ValidationError

from feeds.config import GatewayConfig, LinkConfig, LogSourceConfig, SimulatorConfig


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"outputs": ["127.0.0.1:5701"]}, "endpoint"),
        ({"source": {"kind": "simulator", "rate": 2_000_000}}, "rate"),
        ({"source": {"kind": "exchange"}}, "kind"),
        ({"source": {"kind": "log", "path": "a.hql", "seed": 1}}, "seed"),
        ({"heartbeat_interval": "soon"}, "duration"),
        ({"id": 0}, "id"),
    ],
)
def test_a_wrong_value_is_named(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        GatewayConfig(**keys)


def test_the_kind_chooses_the_source() -> None:
    log = GatewayConfig.model_validate({"source": {"kind": "log", "path": "a.hql"}}).source
    assert isinstance(log, LogSourceConfig)
    assert isinstance(GatewayConfig().source, SimulatorConfig)


def test_a_timeout_shorter_than_the_pings_is_refused() -> None:
    with pytest.raises(ValidationError, match="longer than ping_interval"):
        LinkConfig.model_validate({"peer_timeout": "100ms"})


def test_crypto_moves_its_times_to_now_and_a_share_keeps_them() -> None:
    assert not SimulatorConfig().keeps_market_times
    assert SimulatorConfig(universe="a-share").keeps_market_times
    assert SimulatorConfig(times="market").keeps_market_times
