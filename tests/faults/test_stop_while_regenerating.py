"""An engine on its long way back to live: it answers, asks for patience, and ends when told to."""

import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pipeline_cases import market_instruments, market_ticks
from process_rig import Rig, eventually

from engine.notify import NotifyListener
from feeds.log_writer import LogWriter

TICKS = 40_000
STOP_S = 5.0
PLUGIN = '''
import time
from strategies.python_strategy import Strategy


class Slow(Strategy):
    """Takes its time with every trade, as one that asks another program would."""

    name = "slow"
    version = "1"
    wants_trades = True

    def on_trade_tick(self, tick):
        time.sleep(0.002)
'''
CONFIG = """
plugins = ["slow.py"]
[engine]
record = "recordings"
[[strategies]]
name = "slow"
strategy = "slow"
on = "trade"
"""


def record(directory: Path) -> None:
    """Leave what an earlier life has recorded, in small frames."""
    session = directory / "recordings" / "session-1.hql"
    session.parent.mkdir()
    ticks = market_ticks(TICKS)
    with LogWriter(session, market_instruments(), epoch=7, rotate_bytes=1 << 18) as writer:
        for at in range(0, TICKS, 8):
            writer.write_ticks(ticks[at : at + 8])


def health(rig: Rig) -> tuple[float, dict[str, object]]:
    """Ask how it is; return how long the answer took, seconds, and what it said."""
    began = time.monotonic()
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{rig.port}/health", timeout=STOP_S)
    except urllib.error.HTTPError as answer:
        return time.monotonic() - began, json.load(answer)
    raise AssertionError("it says that it is healthy")


@pytest.mark.slow
def test_an_engine_that_regenerates_for_long_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(PLUGIN)
    record(tmp_path)
    address = tmp_path / "notify"
    environ = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "2000000"}
    with NotifyListener(address) as manager, Rig(tmp_path, CONFIG, environ) as rig:

        def status() -> str:
            manager.take(time.monotonic_ns())
            return manager.status

        engine = rig.start("engine")
        eventually(lambda: status().startswith("going through the recording"), "its progress", 30.0)
        first = status()
        eventually(lambda: status() != first, "more progress")
        assert manager.extended_ns > time.monotonic_ns() + 20 * 10**9
        took_s, facts = health(rig)
        assert took_s < 1.0
        assert "it has not caught up yet" in str(facts["problems"])
        assert not manager.is_ready
        stopped_s = rig.end(engine, signal.SIGTERM)
        assert (engine.returncode, stopped_s < STOP_S) == (0, True), rig.log("engine")[-2_000:]
        manager.take(time.monotonic_ns())
        assert manager.is_stopping
        assert not manager.is_ready
    (end,) = rig.events("engine_stopped")
    assert not end["snapshot"]
    assert rig.events("engine_live") == []
    assert 0 < end["ticks"] < TICKS
    print(f"\nFIGURE stopped while regenerating: after {stopped_s:.2f} s, health {took_s:.3f} s")  # noqa: T201
