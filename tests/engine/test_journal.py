import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
import uvloop
from stream_fakes import entries, make_refusal, make_signal

from engine.core.errors import JournalError
from engine.journal import Journal
from engine.journal_schema import RefusalSampler
from engine.stream_config import JournalConfig

ROOT = Path(__file__).resolve().parents[2]

FAST = JournalConfig(commit_interval=1_000_000, retry_min=5_000_000, retry_max=20_000_000)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work()

    uvloop.run(bounded())


def append(journal: Journal, count: int) -> None:
    for _ in range(count):
        journal.append_signal(make_signal(journal.epoch, journal.next_seq))


async def until(condition: Callable[[], bool]) -> None:
    """Wait, within the test's deadline, for what another task brings about."""
    while not condition():  # noqa: ASYNC110 - of these conditions nobody tells
        await asyncio.sleep(0.002)


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_what_was_appended_is_read_back_after_a_commit(tmp_path: Path) -> None:
    async def work() -> None:
        async with Journal(tmp_path / "sub" / "j.db", FAST) as journal:
            append(journal, 1_200)
            await journal.flush()
            assert journal.queued == 0
            assert journal.counters["commits"] == 3
            page = await journal.read_signals(journal.epoch, 700, 5)
            assert page == entries(journal.epoch, range(700, 705))
            assert await journal.read_newest(3) == entries(journal.epoch, range(1_198, 1_201))
            assert await journal.read_signals(journal.epoch + 1, 1, 5) == []
            assert (journal.oldest_seq, journal.next_seq) == (1, 1_201)

    run(work)


def test_rows_carry_a_checksum_and_what_one_searches_for(tmp_path: Path) -> None:
    path = tmp_path / "j.db"

    async def work() -> None:
        async with Journal(path, FAST) as journal:
            append(journal, 1)

    run(work)
    [row] = query(path, "SELECT id, instrument, strategy, side, tick_seq, crc, body FROM signals")
    body = str(row[6]).encode()
    assert row[5] == zlib.crc32(body)
    fields = orjson.loads(body)
    assert row[:5] == tuple(fields[k] for k in ("id", "instrument", "strategy", "side", "tick_seq"))


def test_reads_see_only_what_is_committed(tmp_path: Path) -> None:
    async def work() -> None:
        async with Journal(
            tmp_path / "j.db", JournalConfig(commit_interval=20_000_000_000)
        ) as journal:
            append(journal, 2)
            await journal.flush()  # from now on the writer waits for its interval
            append(journal, 5)
            assert len(await journal.read_signals(journal.epoch, 1, 10)) == 2
            await journal.flush()
            assert len(await journal.read_signals(journal.epoch, 1, 10)) == 7

    run(work)


def test_another_commit_interval_counts_from_the_next_group_on(tmp_path: Path) -> None:
    async def work() -> None:
        slow = JournalConfig(commit_interval=3_600_000_000_000)
        async with Journal(tmp_path / "j.db", slow) as journal:
            journal.reconfigure(FAST)
            append(journal, 2)
            async with asyncio.timeout(20):
                await journal.flush()

    run(work)


def test_a_clean_stop_keeps_epoch_and_sequence(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "j.db"
        async with Journal(path, FAST) as journal:
            append(journal, 7)
            epoch = journal.epoch
        async with Journal(path, FAST) as journal:
            assert (journal.epoch, journal.next_seq, journal.oldest_seq) == (epoch, 8, 1)
            append(journal, 1)
        async with Journal(path, FAST) as journal:
            assert (journal.epoch, journal.next_seq) == (epoch, 9)

    run(work)


def test_a_new_journal_takes_its_epoch_from_the_clock(tmp_path: Path) -> None:
    async def work() -> None:
        async with Journal(tmp_path / "j.db", FAST, wall_ns=lambda: 1_700_000_000_123_456_789) as j:
            assert (j.epoch, j.next_seq, j.oldest_seq) == (1_700_000_000_123, 1, 1)

    run(work)


WRITER = """
import asyncio, sys
from pathlib import Path
from engine.journal import Journal
from engine.stream_config import JournalConfig
from stream_fakes import make_signal

async def main():
    journal = await Journal(Path(sys.argv[1]), JournalConfig(commit_interval=1_000_000)).open()
    while True:
        for _ in range(50):
            journal.append_signal(make_signal(journal.epoch, journal.next_seq))
        await journal.flush()
        sys.stdout.write(f"{journal.epoch} {journal.next_seq - 1}\\n")
        sys.stdout.flush()

asyncio.run(main())
"""


def start_writer(path: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("lines", [1, 3, 10])
def test_a_killed_writer_leaves_every_committed_row_and_a_new_epoch(
    tmp_path: Path, lines: int
) -> None:
    path = tmp_path / "j.db"
    with start_writer(path) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().split() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        process.wait()
    epoch, committed = int(said[-1][0]), int(said[-1][1])

    async def work() -> None:
        async with Journal(path, FAST, wall_ns=lambda: 0) as journal:
            assert (journal.epoch, journal.next_seq) == (epoch + 1, 1)
            rows = await journal.read_signals(epoch, 1, 100_000)
            assert len(rows) >= committed
            assert rows == entries(epoch, range(1, len(rows) + 1))
            assert await journal.known(make_signal(epoch, committed).id)
            append(journal, 3)

    run(work)
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_an_id_met_again_is_recognised_and_counted(tmp_path: Path) -> None:
    async def work() -> None:
        async with Journal(tmp_path / "j.db", FAST) as journal:
            first = make_signal(journal.epoch, 1)
            journal.append_signal(first)
            assert await journal.known(first.id)
            journal.append_signal(make_signal(journal.epoch, 2, id=first.id))
            journal.append_signal(make_signal(journal.epoch, 3))
            await journal.flush()
            assert await journal.known(first.id)
            assert not await journal.known("0" * 32)
            assert journal.counters["known_again"] == 1
            assert journal.alarm is None
            assert [e.seq for e in await journal.read_signals(journal.epoch, 1, 9)] == [1, 3]

    run(work)


def test_a_signal_out_of_sequence_is_not_taken(tmp_path: Path) -> None:
    async def work() -> None:
        async with Journal(tmp_path / "j.db", FAST) as journal:
            with pytest.raises(JournalError, match="is next"):
                journal.append_signal(make_signal(journal.epoch, 2))
            with pytest.raises(JournalError, match="is next"):
                journal.append_signal(make_signal(journal.epoch + 1, 1))

    run(work)


def test_a_full_disk_raises_the_alarm_and_nothing_is_lost_when_there_is_room_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j.db"

    async def work() -> None:
        async with Journal(path, FAST) as journal:
            append(journal, 10)
            await journal.flush()
            [[pages]] = await journal._opened().writer.execute_fetchall("PRAGMA page_count")
            await journal._opened().writer.execute(f"PRAGMA max_page_count = {pages + 2}")
            append(journal, 2_000)
            await until(lambda: journal.alarm is not None)
            assert journal.alarm is not None
            assert "full" in journal.alarm
            append(journal, 5)
            assert journal.queued >= 5
            committed = len(await journal.read_signals(journal.epoch, 1, 10_000))
            assert committed == journal.counters["committed"]
            await journal._opened().writer.execute("PRAGMA max_page_count = 1073741823")
            await journal.flush()
            assert journal.alarm is None
            rows = await journal.read_signals(journal.epoch, 1, 10_000)
            assert rows == entries(journal.epoch, range(1, 2_016))

    run(work)
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_lock_held_by_another_process_is_an_alarm_until_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    halts: list[str] = []
    config = FAST.model_copy(update={"busy_timeout": 1_000_000, "on_failure": "halt"})

    async def work() -> None:
        async with Journal(path, config, on_halt=halts.append) as journal:
            intruder = sqlite3.connect(path, isolation_level=None)
            intruder.execute("BEGIN IMMEDIATE")
            append(journal, 3)
            await until(lambda: journal.counters["failures"] >= 3)
            assert "locked" in (journal.alarm or "")
            assert len(halts) == 1
            intruder.execute("ROLLBACK")
            intruder.close()
            await journal.flush()
            assert journal.alarm is None
            assert len(await journal.read_signals(journal.epoch, 1, 10)) == 3

    run(work)


def test_what_waits_for_the_disk_can_be_read_by_those_who_resume(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    config = FAST.model_copy(update={"busy_timeout": 1_000_000})

    async def work() -> None:
        async with Journal(path, config) as journal:
            append(journal, 5)
            await journal.flush()
            intruder = sqlite3.connect(path, isolation_level=None)
            intruder.execute("BEGIN IMMEDIATE")
            for _ in range(5):
                append(journal, 1)
                journal.append_event("state", {}, 0)
            epoch = journal.epoch
            assert await journal.read_published(epoch, 3, 5) == entries(epoch, range(3, 8))
            assert await journal.read_published(epoch, 8, 100) == entries(epoch, range(8, 11))
            assert await journal.read_published(epoch, 1, 4) == entries(epoch, range(1, 5))
            assert await journal.read_published(epoch + 1, 1, 4) == []
            intruder.execute("ROLLBACK")
            intruder.close()

    run(work)


def test_a_journal_that_cannot_be_written_is_closed_as_unclean(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    config = FAST.model_copy(update={"busy_timeout": 1_000_000, "close_timeout": 50_000_000})

    async def work() -> None:
        journal = await Journal(path, config).open()
        epoch = journal.epoch
        intruder = sqlite3.connect(path, isolation_level=None)
        intruder.execute("BEGIN IMMEDIATE")
        append(journal, 3)
        with pytest.raises(JournalError, match="3 rows not written"):
            await journal.close()
        intruder.execute("ROLLBACK")
        intruder.close()
        async with Journal(path, FAST) as again:
            assert again.epoch > epoch

    run(work)


@pytest.mark.parametrize("on_full", ["halt", "drop_refusals"])
def test_a_signal_without_room_is_refused_aloud_and_never_dropped(
    tmp_path: Path, on_full: str
) -> None:
    halts: list[str] = []
    config = FAST.model_copy(update={"max_queued": 10, "on_full": on_full})

    async def work() -> None:
        async with Journal(tmp_path / "j.db", config, on_halt=halts.append) as journal:
            append(journal, 10)
            assert not journal.accepting
            with pytest.raises(JournalError, match="10 rows wait"):
                append(journal, 1)
            assert journal.alarm is not None
            assert len(halts) == 1
            assert journal.next_seq == 11
            await journal.flush()
            assert journal.alarm is None
            append(journal, 1)
            await journal.flush()
            assert len(await journal.read_signals(journal.epoch, 1, 100)) == 11

    run(work)


@pytest.mark.parametrize(("on_full", "kept", "halted"), [("halt", 10, 1), ("drop_refusals", 5, 0)])
def test_refusals_and_events_yield_to_signals(
    tmp_path: Path, on_full: str, kept: int, halted: int
) -> None:
    halts: list[str] = []
    config = FAST.model_copy(update={"max_queued": 10, "on_full": on_full})
    path = tmp_path / "j.db"

    async def work() -> None:
        async with Journal(path, config, on_halt=halts.append) as journal:
            for seq in range(9):
                journal.append_refusal(make_refusal(seq))
            for seq in range(3):
                journal.append_event("gap", {"count": seq}, seq)
            assert journal.queued == kept
            assert journal.counters["dropped"] == 12 - kept
            assert len(halts) == halted

    run(work)


def test_what_was_commanded_has_the_room_of_signals(tmp_path: Path) -> None:
    config = FAST.model_copy(update={"max_queued": 10})

    async def work() -> None:
        async with Journal(tmp_path / "j.db", config) as journal:
            for at in range(8):
                journal.append_event("gap", {"count": at}, at)
            journal.append_event("operator_state", {"to": "halted"}, 9)
            await journal.flush()
            assert journal.counters["dropped"] == 3
            assert await journal.read_last_event("operator_state") == {"to": "halted"}

    run(work)


def test_a_halt_has_room_in_a_journal_that_is_full_and_only_one(tmp_path: Path) -> None:
    config = FAST.model_copy(update={"max_queued": 10, "on_full": "halt"})

    async def work() -> None:
        async with Journal(tmp_path / "j.db", config) as journal:
            for at in range(12):
                journal.append_event("gap", {"count": at}, at)
            for reason in ("first", "second"):
                journal.append_halt({"to": "halted", "reason": reason}, 9)
            assert journal.queued == 11
            assert journal.counters["dropped_commands"] == 1
            await journal.flush()
            told = await journal.read_last_event("operator_state")
            assert told == {"to": "halted", "reason": "first"}

    run(work)


def test_refusals_are_sampled_by_reason_and_numbered(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    config = FAST.model_copy(update={"refusals_first": 3, "refusals_every": 10})

    async def work() -> None:
        async with Journal(path, config) as journal:
            for seq in range(40):
                journal.append_refusal(make_refusal(seq))
            journal.append_refusal(make_refusal(40, "DATA_STALE"))
            assert journal.counters["refusals"] == 41
            assert journal.counters["refusals_sampled_out"] == 34

    run(work)
    rows = query(path, "SELECT reason, nth FROM refusals ORDER BY row")
    assert rows == [*(("COST_EDGE", n) for n in (1, 2, 3, 13, 23, 33)), ("DATA_STALE", 1)]


def test_sampling_writes_the_first_and_then_every_nth() -> None:
    sampler = RefusalSampler(first=2, every=3)
    kept = [n for n in range(1, 12) if sampler.count("X") is not None]
    assert kept == [1, 2, 5, 8, 11]


def test_events_are_kept_with_their_fields_as_json(tmp_path: Path) -> None:
    path = tmp_path / "j.db"

    async def work() -> None:
        async with Journal(path, FAST) as journal:
            journal.append_event("state", {"from": "ACTIVE", "to": "HALTED", "at": Path("x")}, 5)

    run(work)
    fields = '{"from":"ACTIVE","to":"HALTED","at":"x"}'
    assert query(path, "SELECT ts, kind, fields FROM events") == [(5, "state", fields)]


def test_retention_keeps_the_newest_rows_and_knows_the_oldest(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    config = FAST.model_copy(
        update={"keep_signals": 100, "keep_refusals": 10, "prune_rows": 16, "prune_interval": 1}
    )

    async def work() -> None:
        async with Journal(path, config) as journal:
            for seq in range(50):
                journal.append_refusal(make_refusal(seq))
            append(journal, 1_000)
            await journal.flush()
            append(journal, 1)
            await until(lambda: journal.oldest_seq == 902)
            page = await journal.read_signals(journal.epoch, 1, 3)
            assert [entry.seq for entry in page] == [902, 903, 904]
            assert journal.counters["pruned"] == 901 + 40

    run(work)
    assert query(path, "SELECT count(*) FROM refusals") == [(10,)]


def test_retention_by_age_removes_what_is_older(tmp_path: Path) -> None:
    config = FAST.model_copy(
        update={"keep_age": 100, "prune_rows": 7, "prune_interval": 1, "resume_signals": 1}
    )

    async def work() -> None:
        # Signal n is emitted at 1,000 n + 200 and the clock stands at 50,250.
        async with Journal(tmp_path / "j.db", config, wall_ns=lambda: 50_250) as journal:
            append(journal, 60)
            await until(lambda: journal.oldest_seq == 50)

    run(work)


def test_a_second_engine_is_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "j.db"

    async def work() -> None:
        async with Journal(path, FAST):
            with pytest.raises(JournalError, match="another engine"):
                await Journal(path, FAST).open()
        async with Journal(path, FAST):
            pass

    run(work)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database, but long enough to have a header" * 100)
    newer = tmp_path / "newer.db"
    query(newer, "PRAGMA user_version = 99")
    nowhere = tmp_path / "file"
    nowhere.write_text("x")

    async def work() -> None:
        with pytest.raises(JournalError, match="cannot be used as a journal"):
            await Journal(garbage, FAST).open()
        with pytest.raises(JournalError, match="journal version 99"):
            await Journal(newer, FAST).open()
        with pytest.raises(JournalError, match="cannot be created"):
            await Journal(nowhere / "j.db", FAST).open()

    run(work)


def test_a_journal_that_is_not_open_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        journal = Journal(tmp_path / "j.db", FAST)
        with pytest.raises(JournalError, match="not open"):
            await journal.read_signals(1, 1, 1)
        await journal.close()

    run(work)
