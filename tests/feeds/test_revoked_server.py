"""A gateway follows its store also where it is the side that connects."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop
from key_stores import make_stores
from live_cases import wait_until

from engine.core.errors import ConfigError
from feeds.config import GatewayConfig, SimulatorConfig
from feeds.curve import Gatekeeper
from feeds.gateway import Gateway
from feeds.link import TickReceiver


def test_a_running_gateway_sends_nothing_more_to_an_engine_whose_key_it_revoked(
    tmp_path: Path,
) -> None:
    stores = make_stores(tmp_path)
    heard = 0

    def take(wire: Any, offsets: Any, lengths: Any, count: int, woken_ns: int) -> None:
        nonlocal heard
        heard += count

    async def main() -> None:
        keeper = Gatekeeper(stores.engine.directory)
        receiver = TickReceiver("tcp://127.0.0.1:*", slots=64, gatekeeper=keeper)
        receiver.attach(asyncio.get_running_loop(), take)
        config = GatewayConfig(
            outputs=(receiver.endpoint,),
            control="tcp://127.0.0.1:*",
            heartbeat_interval=10_000_000,
            source=SimulatorConfig(rate=1000),
            **stores.gateway_keys,
        )
        gateway = Gateway(config)
        running = asyncio.create_task(gateway.run())
        await wait_until(lambda: heard > 5)
        stores.gateway.revoke("engine")
        await wait_until(lambda: gateway.status()["keys"]["ended"] == list(config.outputs))
        await wait_until(lambda: receiver.peers == 0)
        then, seq = heard, gateway.status()["next_seq"]
        await wait_until(lambda: gateway.status()["next_seq"] > seq + 100)
        assert heard == then
        gateway.stop()
        await running
        receiver.close()
        with pytest.raises(ConfigError, match="it is revoked"):
            await Gateway(config).run()

    uvloop.run(main())
