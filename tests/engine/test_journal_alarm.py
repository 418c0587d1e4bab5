"""A journal that does not reach its disk says so within a second, once, and that it is over."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop
from stream_fakes import make_signal

from engine.journal import Journal
from engine.journal_alarm import Cause, DiskState, JournalAlarm, StuckQueue, disk_problem
from engine.journal_writer import FAILED
from engine.stream_config import JournalConfig

FAST: dict[str, Any] = {"commit_interval": "1ms", "retry_min": "5ms", "retry_max": "20ms"}


class Told:
    """Keeps what an alarm tells."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.over: list[tuple[str, Cause, int]] = []
        self.alarm = JournalAlarm("j.db", self.begun.append, lambda *what: self.over.append(what))


def test_an_alarm_is_told_once_and_so_is_its_end() -> None:
    told = Told()
    for now in range(5):
        told.alarm.begin(Cause.WRITE, "cannot be written", now)
    assert told.begun == ["j.db: cannot be written"]
    told.alarm.end(Cause.DISK, 6)
    assert told.alarm.reason == "j.db: cannot be written"
    told.alarm.end(Cause.WRITE, 7)
    told.alarm.end(Cause.WRITE, 8)
    assert told.over == [("j.db: cannot be written", Cause.WRITE, 7)]
    assert told.alarm.reason is None


def test_an_alarm_lasts_until_every_cause_is_gone() -> None:
    told = Told()
    told.alarm.begin(Cause.DISK, "full", 1)
    told.alarm.begin(Cause.WRITE, "cannot", 2)
    assert told.alarm.reason == "j.db: cannot"
    told.alarm.end(Cause.WRITE, 3)
    assert (told.alarm.reason, told.over) == ("j.db: full", [])
    told.alarm.end(Cause.DISK, 4)
    assert told.over == [("j.db: full", Cause.DISK, 3)]


def test_a_queue_is_stuck_only_while_rows_wait_and_none_is_committed() -> None:
    stuck = StuckQueue()
    assert stuck.waited_ns(0, 0, 0) == 0
    assert stuck.waited_ns(5, 0, 10) == 0
    assert stuck.waited_ns(9, 0, 50) == 40
    assert stuck.waited_ns(9, 3, 60) == 0
    assert stuck.waited_ns(9, 3, 75) == 15
    assert stuck.waited_ns(0, 12, 80) == 0
    assert stuck.waited_ns(1, 12, 200) == 0


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (DiskState(100, same_file=True), None),
        (DiskState(99, same_file=True), "99 bytes left"),
        (DiskState(10**9, same_file=False), "moved or removed"),
        (None, "does not answer"),
    ],
)
def test_a_disk_is_judged_by_what_it_says(state: DiskState | None, problem: str | None) -> None:
    found = disk_problem(state, 100)
    assert (found is None) if problem is None else problem in (found or "")


async def until(condition: Callable[[], bool]) -> float:
    """Wait for what another task brings about; return the seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of these conditions nobody tells
            await asyncio.sleep(0.002)
    return time.monotonic() - began


def test_a_write_that_does_not_come_back_is_an_alarm_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    halts: list[str] = []
    config = JournalConfig(**FAST, busy_timeout="8s", on_failure="halt")

    async def work() -> None:
        async with Journal(path, config, on_halt=halts.append) as journal:
            intruder = sqlite3.connect(path, isolation_level=None)
            intruder.execute("BEGIN IMMEDIATE")
            journal.append_signal(make_signal(journal.epoch, 1))
            assert await until(lambda: journal.alarm is not None) < 1.0
            assert "nothing was written" in (journal.alarm or "")
            assert journal.counters["failures"] == 0  # SQLite has not given up yet
            assert len(halts) == 1
            intruder.execute("ROLLBACK")
            intruder.close()
            await until(lambda: journal.alarm is None)
            await journal.flush()
            told = await journal.read_last_event(FAILED)
            assert told is not None
            assert told["cause"] == "write"
            assert 0 < told["lasted_s"] < 10

    uvloop.run(work())


def test_a_disk_without_room_is_an_alarm_within_a_second_though_nothing_is_written(
    tmp_path: Path,
) -> None:
    halts: list[str] = []
    config = JournalConfig(**FAST, min_free_bytes=1 << 60, on_failure="halt")

    async def work() -> None:
        async with Journal(tmp_path / "j.db", config, on_halt=halts.append) as journal:
            assert await until(lambda: journal.alarm is not None) < 1.0
            assert "bytes left" in (journal.alarm or "")
            assert len(halts) == 1
            journal.append_signal(make_signal(journal.epoch, 1))
            await journal.flush()
            assert journal.alarm is not None  # one row that still fitted makes no room

    uvloop.run(work())


def test_a_journal_removed_while_it_is_open_is_an_alarm(tmp_path: Path) -> None:
    path = tmp_path / "j.db"

    async def work() -> None:
        async with Journal(path, JournalConfig(**FAST)) as journal:
            path.rename(tmp_path / "elsewhere.db")
            assert await until(lambda: journal.alarm is not None) < 1.0
            assert "moved or removed" in (journal.alarm or "")
            (tmp_path / "elsewhere.db").rename(path)
            await until(lambda: journal.alarm is None)
            await until(lambda: journal.queued == 0)
            assert journal.counters["alarms"] == 1

    uvloop.run(work())
    with sqlite3.connect(path) as connection:
        [(fields,)] = connection.execute("SELECT fields FROM events WHERE kind = ?", (FAILED,))
    assert orjson.loads(fields)["cause"] == "disk"


def test_a_quiet_journal_on_a_good_disk_never_raises_an_alarm(tmp_path: Path) -> None:
    config = JournalConfig(**FAST, check_interval="1ms", slow_write="200ms")

    async def work() -> None:
        async with Journal(tmp_path / "j.db", config) as journal:
            for _ in range(200):
                journal.append_event("tick", {}, 0)
                await journal.flush()
            assert journal.counters["alarms"] == 0

    uvloop.run(work())
