"""A loop that stands still is noticed and started again; a stop under load drains and ends well."""

import json
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from process_rig import RULES, Rig, eventually, source_toml
from websockets.sync.client import connect

pytestmark = [pytest.mark.slow, pytest.mark.alone]
BLOCKER = '''
import pathlib
import time

from strategies.python_strategy import Strategy


class Blocker(Strategy):
    """Holds the loop for as long as a file says, once."""

    name = "blocker"
    defaults = {"file": ""}
    wants_trades = True

    def on_trade_tick(self, tick):
        file = pathlib.Path(self.params["file"])
        if file.exists():
            seconds = float(file.read_text())
            file.unlink()
            time.sleep(seconds)
'''
BLOCK_S = 3.0


def children_of(process: psutil.Popen) -> dict[str, psutil.Process]:
    """Return the children of ``heqis run`` by what they run."""
    found = {}
    for child in process.children():
        try:
            words = child.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "engine.cli" in words:
            found[words[words.index("engine.cli") + 1]] = child
    return found


def blocking_rig(tmp_path: Path, **environ: str) -> Rig:
    (tmp_path / "blocker.py").write_text(BLOCKER, encoding="utf-8")
    table = (
        '\n[[strategies]]\nname = "blocker"\nstrategy = "blocker"\non = "trade"\n'
        f"params = {{ file = {json.dumps(str(tmp_path / 'block'))} }}\n"
    )
    config = 'plugins = ["blocker.py"]\n' + RULES + table + source_toml()
    return Rig(tmp_path, config, environ)


def test_a_loop_blocked_for_3_s_is_ended_told_where_and_started_again(tmp_path: Path) -> None:
    with blocking_rig(tmp_path) as rig:
        run = rig.start("run", "--no-view", "--logs", str(tmp_path))
        rig.until_live()
        first = children_of(run)
        began = time.monotonic()
        (tmp_path / "block").write_text(str(BLOCK_S))
        eventually(lambda: "no sign of life" in rig.log("run"), "the watchdog", BLOCK_S + 1)
        acted_s = time.monotonic() - began
        assert acted_s < BLOCK_S, "it came sooner than the loop was free again"
        second = eventually(
            lambda: (new := children_of(run).get("engine")) and new.pid != first["engine"].pid,
            "a new engine",
        )
        assert second
        back = time.monotonic()
        rig.until_live()
        back_s = time.monotonic() - back
        assert children_of(run)["gateway"].pid == first["gateway"].pid, "the other was left alone"
        stack = rig.log("engine") + (tmp_path / "engine.log.1").read_text(errors="replace")
        assert "Fatal Python error: Aborted" in stack
        assert "blocker.py" in stack, "the log says where it hung"
        assert rig.end(run) < 10
        assert run.returncode == 0
    print(f"watchdog acted {acted_s:.2f} s after the block, live again {back_s:.2f} s later")  # noqa: T201


def test_a_stopped_process_is_ended_too(tmp_path: Path) -> None:
    with Rig(tmp_path, RULES + source_toml()) as rig:
        run = rig.start("run", "--no-view", "--logs", str(tmp_path))
        rig.until_live()
        engine = children_of(run)["engine"]
        engine.suspend()
        eventually(lambda: "starting it again" in rig.log("run"), "the watchdog", 6)
        assert not engine.is_running()
        rig.until_live()
        assert rig.end(run) < 10


def test_a_stop_under_load_drains_within_5_s_and_exits_0(tmp_path: Path) -> None:
    with Rig(tmp_path, RULES + source_toml(rate=8_000.0)) as rig:
        gateway, engine = rig.start("gateway"), rig.start("engine")
        rig.until_live()
        received: list[int] = []
        closes: list[int | None] = []

        def listen() -> None:
            with connect(rig.url) as client:
                client.send(json.dumps({"type": "subscribe"}))
                for text in client:
                    message = json.loads(text)
                    if message["type"] == "signal":
                        received.append(message["signal"]["seq"])
            closes.append(client.close_code)

        threads = [threading.Thread(target=listen) for _ in range(5)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(received) >= 25, "signals at the clients")
        took_s = rig.end(engine)
        assert engine.returncode == 0
        assert took_s < 5
        for thread in threads:
            thread.join(5)
        assert closes == [1001] * len(threads), "every client was told that it goes away"
        last = int(rig.rows("SELECT MAX(seq) FROM signals")[0][0])
        assert max(received) == last, "what was journaled was sent, and the other way round"
        gateway_s = rig.end(gateway)
        assert gateway.returncode == 0
        assert gateway_s < 5
    print(f"engine stopped in {took_s:.2f} s, gateway in {gateway_s:.2f} s")  # noqa: T201


def test_peers_that_fall_silent_are_told_of_within_a_second(tmp_path: Path) -> None:
    with Rig(tmp_path, RULES + source_toml()) as rig:
        gateway, engine = rig.start("gateway"), rig.start("engine")
        rig.until_live()
        figures = []
        for stopped, told in (
            (gateway, lambda: rig.events("peer_lost")),
            (engine, lambda: [e for e in rig.gateway_events() if e["kind"] == "peer_lost"]),
        ):
            began = time.monotonic()
            stopped.suspend()
            eventually(told, "the loss in the other's journal", 3, 0.005)
            figures.append(time.monotonic() - began)
            stopped.resume()
        eventually(lambda: rig.events("peer_back"), "the gateway's return", 5)
        back = [e for e in rig.gateway_events() if e["kind"] == "peer_back"]
        assert back or eventually(
            lambda: [e for e in rig.gateway_events() if e["kind"] == "peer_back"], "return", 5
        )
        assert max(figures) <= 1.1, "a second, and what it takes to read the journal"
        assert rig.end(engine, signal.SIGTERM) < 5
        eventually(
            lambda: [e for e in rig.gateway_events() if e["kind"] == "peer_parted"], "goodbye", 5
        )
    print(f"noticed by the engine after {figures[0]:.2f} s, by the gateway {figures[1]:.2f} s")  # noqa: T201
