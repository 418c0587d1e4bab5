"""What leaves the journal: never what a client may still ask for, and the space comes back."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import uvloop
from stream_fakes import make_refusal, make_signal

from engine.journal import Journal
from engine.journal_retention import Retention
from engine.journal_schema import make_event
from engine.journal_store import JournalStore
from engine.journal_verify import verify
from engine.stream_config import JournalConfig

FAST: dict[str, Any] = {"commit_interval": "1ms", "retry_min": "5ms", "retry_max": "20ms"}
PRUNING: dict[str, Any] = {**FAST, "prune_interval": "1ns", "prune_rows": 64}


def append(journal: Journal, count: int) -> None:
    for _ in range(count):
        journal.append_signal(make_signal(journal.epoch, journal.next_seq))


async def until(condition: Callable[[], bool]) -> None:
    """Wait, within the test's deadline, for what another task brings about."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - of these conditions nobody tells
            await asyncio.sleep(0.002)


def pages(path: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(path)) as connection:
        [count], [free] = (
            connection.execute(f"PRAGMA {name}").fetchone()
            for name in ("page_count", "freelist_count")
        )
    return count, free


def used_bytes(path: Path) -> int:
    count, free = pages(path)
    return (count - free) * 4096


def test_age_never_removes_what_a_client_may_still_ask_for(tmp_path: Path) -> None:
    config = JournalConfig(**PRUNING, keep_age="1ns", resume_signals=100)

    async def work() -> None:
        async with Journal(tmp_path / "j.db", config, wall_ns=lambda: 10**15) as journal:
            append(journal, 1_000)
            await until(lambda: journal.oldest_seq == 901)
            append(journal, 50)
            await until(lambda: journal.oldest_seq == 951)
            page = await journal.read_signals(journal.epoch, 1, 1_000)
            assert [entry.seq for entry in page] == list(range(951, 1_051))

    uvloop.run(work())
    assert verify(tmp_path / "j.db").ok


def test_bytes_never_remove_what_a_client_may_still_ask_for(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    config = JournalConfig(**PRUNING, keep_bytes=1 << 20, resume_signals=4_000, max_queued=20_000)

    async def work() -> None:
        async with Journal(path, config) as journal:
            append(journal, 6_000)
            await until(lambda: journal.oldest_seq == 2_001)

    uvloop.run(work())
    assert path.stat().st_size > 1 << 20
    report = verify(path)
    assert (report.ok, report.signals) == (True, 4_000)


def test_bytes_remove_the_oldest_of_every_table(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    bound = 2 << 20
    config = JournalConfig(
        **PRUNING, keep_bytes=bound, resume_signals=10, refusals_first=10_000, max_queued=40_000
    )

    async def work() -> None:
        async with Journal(path, config) as journal:
            for _ in range(12):
                append(journal, 500)
                for seq in range(500):
                    journal.append_refusal(make_refusal(seq))
                await journal.flush()
            await until(lambda: journal.counters["pruned"] > 1_000 and used_bytes(path) <= bound)

    uvloop.run(work())
    report = verify(path)
    assert report.ok
    assert 10 < report.signals < 6_000
    assert 0 < report.refusals < 6_000
    assert report.epochs[0].last_seq == 6_000


def test_free_pages_go_back_to_the_disk_while_the_journal_is_written(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    config = JournalConfig(**PRUNING, keep_signals=100, max_queued=20_000)

    async def work() -> None:
        async with Journal(path, config) as journal:
            append(journal, 8_000)
            await journal.flush()
            append(journal, 1)
            await until(lambda: journal.counters["freed_bytes"] > 0 and journal.queued == 0)
            await until(lambda: pages(path)[1] <= 256)
            assert journal.counters["failures"] == 0

    uvloop.run(work())
    assert path.stat().st_size < 8_001 * 600 / 2
    assert verify(path).ok


def test_rows_are_written_between_the_transactions_of_a_long_prune(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    kept = JournalConfig(**FAST, keep_signals=10, prune_rows=16)
    seen: list[int] = []

    async def work() -> None:
        async with Journal(path, JournalConfig(**FAST)) as journal:
            append(journal, 1_000)
        store = await JournalStore.open(path, 1.0)

        async def write_queued() -> None:
            await store.commit([make_event("between", {}, 0)])
            seen.append(retention.pruned)

        retention = Retention(store, kept, write_queued)
        await retention.apply(0)
        await store.close()

    uvloop.run(work())
    assert seen == [*range(16, 990, 16), 990]
    assert verify(path).events == len(seen)


def test_a_clock_that_was_set_back_tears_no_hole(tmp_path: Path) -> None:
    path, now = tmp_path / "j.db", 10**15
    config = JournalConfig(**PRUNING, keep_age="1h")
    old, young = now - 2 * 3600 * 10**9, now - 10**9

    async def work() -> None:
        async with Journal(path, config, wall_ns=lambda: now) as journal:
            for ts in (old, old, young, old, young):
                journal.append_event("clock", {}, ts)
            await journal.flush()
            await until(lambda: journal.counters["pruned"] == 2)
            await asyncio.sleep(0)
            assert len(await journal.read_fields("clock", 10)) == 3

    uvloop.run(work())
    assert verify(path).ok


def test_what_the_operator_last_allowed_is_known_however_much_came_since(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    config = JournalConfig(**PRUNING, keep_events=100, keep_age="1ns")

    async def work() -> None:
        async with Journal(path, config, wall_ns=lambda: 10**15) as journal:
            for state in ("reducing", "halted"):
                journal.append_event("operator_state", {"to": state}, 1)
            for number in range(1_000):
                journal.append_event("gap", {"n": number}, 2)
            await until(lambda: journal.counters["pruned"] > 1_000)
            assert await journal.read_last_event("operator_state") == {"to": "halted"}

    uvloop.run(work())
    assert verify(path).ok
