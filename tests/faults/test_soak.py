"""Everything at once for long: load, clients that come and go, a fault a minute; nothing is lost.

In the warm-up one fault follows the other, each several times, then there is one a minute: for five
minutes in the slow suite, for an hour with ``HEQIS_FAULTS=full``.
"""

import random
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pytest
import zmq
from linked_rig import Linked, linked
from process_rig import FULL, RULES, eventually, source_toml
from soak_clients import Crowd

MINUTES: Final = 60 if FULL else 5
WARM_UP_MINUTES: Final = 20 if FULL else 2
"""Every fault is played by then, in the hour a few times: what they need is within bounds, and kept
for the next time."""
RATE: Final = 20_000.0
CLIENTS: Final = 20
GARBAGE: Final = 2_000
GROWTH_MB_PER_H: Final = 1.0
"""What resident memory may grow by in the long form."""
FEW_MINUTES_MB: Final = 2.0
"""What it may grow by in the minutes of the short form, in which not every bound is reached yet."""
SPOOL = """
[gateway.spool]
directory = "spool"
memory = "."
max_bytes = 2147483648
"""

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(MINUTES * 60 + 600)]


class Faults:
    """What is done to the session, one a minute.

    Args:
        rig: The session.
    """

    def __init__(self, rig: Linked) -> None:
        self._rig = rig
        self._random = random.Random(5)
        self.epochs = 1
        self.done: list[str] = []

    def next(self) -> None:
        """Do the next one and wait until data flows again."""
        fault = FAULTS[len(self.done) % len(FAULTS)]
        fault(self)
        self.done.append(fault.__name__)
        before = self._rig.status()["ticks"]
        eventually(lambda: self._rig.status()["ticks"] > before + RATE, "data flows again", 30)

    def link_torn(self) -> None:
        """Reset the connection in the middle of frames."""
        for _ in range(10):
            self._rig.data.tear()
            eventually(lambda: self._rig.data.torn, "a chunk passes", 30, every_s=0.005)

    def gateway_stopped(self) -> None:
        """Let the gateway stand still."""
        _stand_still(self._rig.gateway, 5)

    def engine_stopped(self) -> None:
        """Let the engine stand still."""
        _stand_still(self._rig.engine, 3)

    def garbage(self) -> None:
        """Send nonsense to the port of the frames."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context, context.socket(zmq.PUSH) as push:
            push.setsockopt(zmq.LINGER, 0)
            push.setsockopt(zmq.SNDTIMEO, 5_000)
            push.connect(self._rig.environ["HEQIS__LINK__DATA"])
            for _ in range(GARBAGE):
                push.send(self._random.randbytes(self._random.randrange(300)))
            push.setsockopt(zmq.LINGER, 2_000)

    def gateway_killed(self) -> None:
        """Kill the gateway and start it again."""
        self._rig.end(self._rig.gateway, signal.SIGKILL)
        self._rig.gateway = self._rig.start("gateway")
        self.epochs += 1

    def link_cut(self) -> None:
        """Take the link away."""
        self._rig.data.cut()
        self._rig.control.cut()
        time.sleep(10)
        self._rig.data.mend()
        self._rig.control.mend()

    def silent_clients(self) -> None:
        """Connect and say nothing, or no sense."""
        address = ("127.0.0.1", self._rig.port)
        for _ in range(50):
            with closing(socket.create_connection(address)) as one:
                one.sendall(self._random.randbytes(100))

    def bad_reload(self) -> None:
        """Have the engine read a configuration that is none, and then the old one again."""
        text = self._rig.file.read_text(encoding="utf-8")
        self._rig.file.write_text(text[: len(text) // 2] + "\n[[[", encoding="utf-8")
        self._rig.engine.send_signal(signal.SIGHUP)
        time.sleep(2)
        self._rig.file.write_text(text, encoding="utf-8")


FAULTS: Final[tuple[Callable[[Faults], None], ...]] = (
    Faults.link_cut,
    Faults.gateway_stopped,
    Faults.garbage,
    Faults.gateway_killed,
    Faults.link_torn,
    Faults.engine_stopped,
    Faults.silent_clients,
    Faults.bad_reload,
)


class Memory:
    """Reads a process's resident memory every second; a context.

    Attributes:
        samples: When, monotonic, and how much, bytes.

    Args:
        process: Whose.
    """

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.samples: list[tuple[float, int]] = []

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def slope_mb_per_h(self, since_s: float) -> float:
        """Return the slope of the line fitted from a monotonic time on."""
        chosen = np.array([sample for sample in self.samples if sample[0] >= since_s])
        slope = np.polyfit(chosen[:, 0] - chosen[0, 0], chosen[:, 1], 1)[0]
        return float(slope) * 3600 / 1e6

    def _read(self) -> None:
        while not self._stop.wait(1.0):
            self.samples.append((time.monotonic(), self._process.memory_info().rss))


def _stand_still(process: Any, seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def _config() -> str:
    return f"{RULES}\n[gateway]\n{source_toml(RATE)}{SPOOL}"


def _last_seq(journal: Path) -> int:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=5)) as opened:
        return int(opened.execute("SELECT MAX(seq) FROM signals").fetchone()[0])


def _suffer(faults: Faults, since_s: float, until_s: float) -> None:
    while len(faults.done) < len(FAULTS) or time.monotonic() < since_s:
        faults.next()
    while (left_s := until_s - time.monotonic()) > 0:
        began_s = time.monotonic()
        faults.next()
        time.sleep(max(0.0, min(left_s, 60.0 - (time.monotonic() - began_s))))


def test_a_long_session_with_a_fault_a_minute_loses_nothing_and_does_not_grow(
    tmp_path: Path,
) -> None:
    with linked(tmp_path, _config()) as rig:
        rig.begin()
        faults = Faults(rig)
        began_s = time.monotonic()
        since_s = began_s + 60 * WARM_UP_MINUTES
        with Memory(rig.engine) as memory, Crowd(rig.url, CLIENTS) as crowd:
            _suffer(faults, since_s, began_s + 60 * MINUTES)
            crowd.stop()
        status = rig.status()
        rig.end(rig.gateway)
        eventually(lambda: rig.status()["signals"] == rig.signals(), "the journal is level", 30)
        crowd.catch_up(_last_seq(rig.journal))
        rig.end(rig.engine)

        assert crowd.failures == []
        told = [(one.problems, one.gaps[:2]) for one in crowd.wanderers]
        assert told == [([], [])] * CLIENTS
        last = _last_seq(rig.journal)
        assert {one.seq for one in crowd.wanderers if one.signals} == {last}
        assert rig.rows("SELECT COUNT(*), COUNT(DISTINCT id), MAX(seq) FROM signals") == [
            (last, last, last)
        ]
        gaps = rig.events("gap")
        assert all(gap["missing"] == 0 for gap in gaps)
        assert [gap["previous_missing"] for gap in gaps] == [0] * (faults.epochs - 1)
        refused = sum(n for name, n in status["input"].items() if name.startswith("frame_"))
        assert refused == GARBAGE * faults.done.count("garbage")
        slope = memory.slope_mb_per_h(since_s)
        hours = (MINUTES - WARM_UP_MINUTES) / 60
        print(  # noqa: T201 - the figure
            f"\nFIGURE soak: {MINUTES} min, {status['ticks']:,} ticks, {last:,} signals, "
            f"{len(faults.done)} faults, {sum(one.visits for one in crowd.wanderers)} visits of "
            f"{CLIENTS} clients, memory {slope:+.2f} MB/h after {WARM_UP_MINUTES} min"
        )
        print("MB:", [round(rss / 1e6) for _, rss in memory.samples[::10]])  # noqa: T201 - the figure
        assert slope * hours <= (GROWTH_MB_PER_H * hours if FULL else FEW_MINUTES_MB)
