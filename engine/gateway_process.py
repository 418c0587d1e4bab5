"""The gateway as a process of its own: signals, signs of life, what a reload would say."""

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from engine.config import Config, load_config
from engine.core.errors import ConfigError
from engine.notify import Notifier
from engine.reload import compare
from engine.supervise import on_hang_up, stop_on_signals
from engine.watchdog import Pulse
from feeds.gateway import Gateway

_log = logging.getLogger(__name__)
START_LOOK_S: Final = 0.02
NS_PER_S: Final = 1e9


async def run_gateway_process(
    config: Config, files: Sequence[Path], notifier: Notifier
) -> dict[str, Any]:
    """Run a gateway until its source ends or SIGTERM or SIGINT comes.

    Args:
        config: The configuration, of which the gateway's part counts.
        files: What it was read from.
        notifier: Tells the service manager.

    Returns:
        The final counters.

    Raises:
        HeqisError: the source, the spool, an endpoint or the power line cannot be used.
    """
    gateway = Gateway(config.gateway)
    stop = stop_on_signals((signal.SIGTERM, signal.SIGINT))
    on_hang_up(lambda: _say_what_differs(config, files), stop)
    helpers = [
        asyncio.create_task(_stop_when(stop, gateway, notifier)),
        asyncio.create_task(_give_signs_of_life(config, gateway, notifier)),
    ]
    try:
        await gateway.run()
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        notifier.stopping("stopped")
    return gateway.status()


async def _stop_when(stop: asyncio.Event, gateway: Gateway, notifier: Notifier) -> None:
    await stop.wait()
    notifier.stopping("stopping")
    gateway.stop()


async def _give_signs_of_life(config: Config, gateway: Gateway, notifier: Notifier) -> None:
    """Say that it is ready once it sends, and that it lives while it goes on sending."""
    while not gateway.turned_ns:  # noqa: ASYNC110 - the gateway knows nobody to tell
        await asyncio.sleep(START_LOOK_S)
    notifier.ready(f"gateway {config.gateway.id} sends epoch {gateway.epoch}")
    timeout_ns = config.supervision.data_timeout

    def wrong() -> str:
        quiet_ns = time.monotonic_ns() - gateway.turned_ns
        return "" if quiet_ns < timeout_ns else f"nothing was sent for {quiet_ns / NS_PER_S:.1f} s"

    await Pulse(notifier, wrong, lambda why: None).run()


def _say_what_differs(running: Config, files: Sequence[Path]) -> None:
    """Check the files and say what waits for a restart: a running gateway takes nothing over."""
    try:
        reloaded = compare(running, load_config(files))
    except ConfigError as error:
        _log.error("configuration refused, the old one runs on: %s", error)
        return
    ours = [key for key in (*reloaded.live, *reloaded.restart) if key.startswith("gateway.")]
    _log.info("needs a restart of the gateway: %s", ", ".join(ours) or "nothing")
