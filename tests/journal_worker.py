"""A journal in a process of its own, on a disk that the test breaks and mends.

``python journal_worker.py write PATH``: writes signals for ever, checkpoints every few pages, and
says after every commit how far it came. ``python journal_worker.py suffer PATH FAULT ROUNDS RULE``:
signals pour in while the disk is good, then bad, then good again, and at the end it says what the
journal told and what a signal cost. FAULT is ``full`` (the disk of PATH), ``error`` (writes fail)
or ``locked`` (by another process); RULE is ``on_failure``.
"""

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop
from raw_clients import RawClient
from stream_fakes import make_signal

from engine.journal import Journal
from engine.stream import SignalStream
from engine.stream_config import JournalConfig, StreamConfig

PHASE_S = 1.2
LOCKER = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
    "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
)


def say(fields: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(fields) + b"\n")
    sys.stdout.buffer.flush()


async def write(path: Path) -> None:
    """Write until somebody ends it."""
    async with Journal(path, JournalConfig(commit_interval=1_000_000)) as journal:
        await journal._opened().writer.execute("PRAGMA wal_autocheckpoint = 16")
        while True:
            for _ in range(20):
                journal.append_signal(make_signal(journal.epoch, journal.next_seq))
            journal.append_event("tick", {"seq": journal.next_seq}, 0)
            await journal.flush()
            say({"epoch": journal.epoch, "seq": journal.next_seq - 1})


@contextmanager
def full(path: Path) -> Iterator[None]:
    """Leave no byte free on the disk of the journal."""
    ballast = path.with_name("ballast")
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    yield
    ballast.unlink()


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """Let every write beyond the first page of any file fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have another process hold SQLite's write lock."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        assert process.stdin is not None
        process.stdin.close()


FAULTS = {"full": full, "error": failing, "locked": locked}


class Sufferer:
    """Sends and journals a signal every millisecond and keeps what each took the loop, ns."""

    def __init__(self, journal: Journal, stream: SignalStream) -> None:
        self.journal = journal
        self.stream = stream
        self.took: list[int] = []

    async def append_for(self, seconds: float) -> float | None:
        """Return after how many seconds of it the alarm came on, None if it did not."""
        journal, alarmed = self.journal, None
        began = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            signal = make_signal(journal.epoch, journal.next_seq)
            start = time.perf_counter_ns()
            self.stream.publish(signal)
            journal.append_signal(signal)
            self.took.append(time.perf_counter_ns() - start)
            if alarmed is None and journal.alarm is not None:
                alarmed = now - began
            await asyncio.sleep(0.001)
        return alarmed

    def take_p99_ns(self) -> float:
        """Return the 99th percentile of what was kept, and forget it."""
        took, self.took = self.took, []
        return float(np.percentile(took, 99))


async def until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - of these conditions nobody tells
            await asyncio.sleep(0.002)
    return time.monotonic() - began


@asynccontextmanager
async def live(journal: Journal) -> AsyncIterator[SignalStream]:
    """Open a stream with a client that is sent everything."""
    config = StreamConfig(port=0)
    stream = SignalStream(config, epoch=journal.epoch, next_seq=journal.next_seq, store=journal)
    async with stream:
        client = RawClient(1, 1)
        following = asyncio.create_task(client.follow(stream.port))
        signal = make_signal(journal.epoch, journal.next_seq)
        stream.publish(signal)
        journal.append_signal(signal)
        await following
        yield stream
        assert client.breaks == 0
        await client.close()


async def suffer(path: Path, fault: str, rounds: int, rule: str) -> None:
    config = JournalConfig.model_validate(
        {"path": path, "commit_interval": "1ms", "on_failure": rule, "min_free_bytes": 65_536}
    )
    halts: list[str] = []
    told: dict[str, list[Any]] = {k: [] for k in ("alarm_s", "recovered_s", "good_ns", "bad_ns")}
    async with Journal(path, config, on_halt=halts.append) as journal, live(journal) as stream:
        sufferer = Sufferer(journal, stream)
        for _ in range(rounds):
            assert await sufferer.append_for(PHASE_S) is None, journal.alarm
            told["good_ns"].append(sufferer.take_p99_ns())
            bad = FAULTS[fault](path)
            await asyncio.to_thread(bad.__enter__)
            told["alarm_s"].append(await sufferer.append_for(PHASE_S))
            told["bad_ns"].append(sufferer.take_p99_ns())
            reason = journal.alarm
            bad.__exit__(None, None, None)
            told["recovered_s"].append(
                await until(lambda: journal.alarm is None and not journal.queued)
            )
        counters = dict(journal.counters)
        appended = journal.next_seq - 1
    say({**told, "halts": len(halts), "reason": reason, "counters": counters, "signals": appended})


if __name__ == "__main__":
    os.umask(0o077)
    if sys.argv[1] == "write":
        uvloop.run(write(Path(sys.argv[2])))
    else:
        uvloop.run(suffer(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]))
