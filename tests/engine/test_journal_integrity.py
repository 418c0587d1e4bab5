"""What is wrong with a journal is found, said where, and told by the exit status."""

import asyncio
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop
from stream_fakes import make_refusal, make_signal
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.core.errors import CheckFailedError, JournalError
from engine.journal import Journal
from engine.journal_schema import VERSION
from engine.journal_stats import journal_stats
from engine.journal_verify import JournalReport, verify
from engine.stream_config import JournalConfig
from engine.stream_ring import make_entry

FAST = JournalConfig(commit_interval=1_000_000, retry_min=5_000_000, retry_max=20_000_000)
SIGNALS, REFUSALS, EVENTS = 60, 25, 8


async def fill(path: Path) -> int:
    """Write a journal and close it; return its epoch."""
    async with Journal(path, FAST) as journal:
        for seq in range(REFUSALS):
            journal.append_refusal(make_refusal(seq))
        for seq in range(EVENTS):
            journal.append_event("gap", {"missing": seq, "gateway": "ü"}, seq)
        for _ in range(SIGNALS):
            journal.append_signal(make_signal(journal.epoch, journal.next_seq))
        return journal.epoch


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    uvloop.run(fill(path))
    return path


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount
        connection.commit()


def heqis(*arguments: str) -> Any:
    return CliRunner().invoke(make_app(), ["journal", *arguments])


def test_a_journal_as_it_was_written_has_nothing_wrong(journal: Path) -> None:
    report = verify(journal)
    assert report.ok
    assert (report.signals, report.refusals, report.events) == (SIGNALS, REFUSALS, EVENTS)
    [span] = report.epochs
    assert (span.first_seq, span.last_seq, span.rows) == (1, SIGNALS, SIGNALS)
    assert report.clean


def test_a_journal_being_written_has_nothing_wrong(tmp_path: Path) -> None:
    async def work() -> JournalReport:
        path = tmp_path / "journal.db"
        async with Journal(path, FAST) as journal:
            for _ in range(SIGNALS):
                journal.append_signal(make_signal(journal.epoch, journal.next_seq))
            await journal.flush()
            return await asyncio.to_thread(verify, path)

    report = uvloop.run(work())
    assert (report.ok, report.clean, report.signals) == (True, False, SIGNALS)


@pytest.mark.parametrize(
    ("statement", "place", "problem"),
    [
        ("DELETE FROM signals WHERE seq = 7", "/7", "1 missing"),
        ("DELETE FROM signals WHERE seq > 55", "/56", "5 missing at the end"),
        ("UPDATE signals SET body = replace(body, 'BUY', 'SELL') WHERE seq = 1", "/1", "checksum"),
        ("UPDATE signals SET crc = crc + 1 WHERE seq = 9", "/9", "checksum"),
        ("UPDATE signals SET side = 'HOLD' WHERE seq = 3", "/3", "side is 'HOLD' in its column"),
        ("UPDATE signals SET ts_event = 0 WHERE seq = 4", "/4", "ts_event is 0 in its column"),
        ("UPDATE signals SET id = 'x' WHERE seq = 5", "/5", "id is 'x' in its column"),
        ("UPDATE refusals SET reason = 'NONE' WHERE row = 3", "refusals 3", "checksum"),
        ("UPDATE refusals SET nth = nth + 1 WHERE row = 5", "refusals 5", "checksum"),
        ("UPDATE refusals SET detail = x'ff' WHERE row = 5", "refusals 5", "checksum"),
        ("DELETE FROM refusals WHERE row BETWEEN 4 AND 6", "refusals 4", "3 missing"),
        ("UPDATE events SET ts = 5 WHERE row = 2", "events 2", "checksum"),
        ("DELETE FROM events WHERE row = 2", "events 2", "1 missing"),
    ],
)
def test_what_was_changed_behind_our_back_is_found(
    journal: Path, statement: str, place: str, problem: str
) -> None:
    change(journal, statement)
    report = verify(journal)
    assert report.problems == 1
    assert report.listed[0].place.endswith(place)
    assert problem in report.listed[0].problem


def test_an_id_that_is_there_twice_is_found_even_without_its_index(journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as connection:
        [(table,)] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'signals'")
        copy = table.replace("signals", "copies", 1).replace("NOT NULL UNIQUE", "NOT NULL")
        connection.executescript(
            f"{copy}; INSERT INTO copies SELECT * FROM signals; DROP TABLE signals;"
            "ALTER TABLE copies RENAME TO signals;"
        )
        signal = make_signal(0, 0)
        body = orjson.loads(connection.execute("SELECT body FROM signals").fetchone()[0])
        assert set(body) <= set(signal.__struct_fields__)
        connection.execute("UPDATE signals SET id = (SELECT id FROM signals WHERE seq = 2)"
                           " WHERE seq = 3")  # fmt: skip
        connection.commit()
    told = {problem.problem for problem in verify(journal).listed}
    assert "the id is there 2 times" in told


def test_whatever_bits_flip_a_check_ends_with_a_report_or_says_it_is_no_journal(
    journal: Path,
) -> None:
    whole = journal.read_bytes()
    rng = random.Random(5)
    found = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 30)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        journal.write_bytes(damaged)
        try:
            found += not verify(journal).ok
        except JournalError:
            found += 1
    assert found > 100


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE signals SET seq = 'x' WHERE seq = 60",
        f"UPDATE signals SET seq = {2**63 - 1} WHERE seq = 60",
        "UPDATE meta SET value = -5 WHERE key = 'next_seq'",
        f"UPDATE meta SET value = {2**63 - 1} WHERE key = 'epoch'",
    ],
)
def test_an_engine_does_not_go_on_from_a_place_that_is_none(journal: Path, statement: str) -> None:
    change(journal, statement)

    async def work() -> None:
        await Journal(journal, FAST).open()

    with pytest.raises(JournalError, match="no number where one belongs"):
        uvloop.run(work())


def test_whatever_bits_flip_an_engine_opens_it_or_says_why_not(journal: Path) -> None:
    whole = journal.read_bytes()
    rng = random.Random(6)
    refused = 0

    async def work() -> None:
        nonlocal refused
        store = await Journal(journal, FAST).open()
        try:
            for entry in await store.read_newest(SIGNALS):
                assert entry == make_entry(make_signal(entry.epoch, entry.seq))
        finally:
            with suppress(JournalError):
                await store.close()

    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 30)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        for name in (journal, *journal.parent.glob("journal.db-*")):
            name.unlink(missing_ok=True)
        journal.write_bytes(damaged)
        try:
            uvloop.run(work())
        except JournalError:
            refused += 1
    assert 0 < refused < 60


def test_a_damaged_signal_is_given_to_nobody_and_is_a_gap(journal: Path) -> None:
    change(journal, "UPDATE signals SET body = replace(body, 'BUY', 'SELL') WHERE seq = 7")

    async def work() -> None:
        async with Journal(journal, FAST) as again:
            page = await again.read_signals(again.epoch, 5, 4)
            assert [entry.seq for entry in page] == [5, 6, 8]
            assert again.counters["damaged_rows"] == 1

    uvloop.run(work())


def test_a_journal_cut_short_is_found(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:-4096])
    with pytest.raises(JournalError, match="malformed"):
        verify(journal)


def test_verify_tells_people_and_machines_and_exits_with_one(journal: Path) -> None:
    good = heqis("verify", str(journal))
    assert (good.exit_code, "nothing is wrong" in good.output) == (0, True)
    change(journal, "DELETE FROM signals WHERE seq = 7")
    bad = heqis("verify", str(journal), "--json")
    assert isinstance(bad.exception, CheckFailedError)
    told = orjson.loads(bad.stdout)
    assert told["ok"] is False
    assert told["listed"] == [{"place": f"signals {told['epochs'][0]['epoch']}/7",
                               "problem": "1 missing"}]  # fmt: skip


def test_stats_say_what_is_in_a_journal(journal: Path) -> None:
    facts = journal_stats(journal)
    assert facts["signals"] == {"rows": SIGNALS, "first_ts": 1_200, "last_ts": 60_200}
    assert facts["kinds"] == {"gap": EVENTS}
    assert facts["reasons"] == {"COST_EDGE": REFUSALS}
    assert list(facts["epochs"].values()) == [SIGNALS]
    assert orjson.loads(heqis("stats", str(journal), "--json").stdout)["signals"]["rows"] == SIGNALS
    assert "strategies" in heqis("stats", str(journal)).stdout


@pytest.mark.parametrize("command", ["verify", "stats"])
def test_what_is_no_journal_is_said_so(tmp_path: Path, command: str) -> None:
    (tmp_path / "garbage").write_bytes(b"not a database, but long enough to be one" * 50)
    for name, problem in (("nowhere", "no such journal"), ("garbage", "cannot be read")):
        result = heqis(command, str(tmp_path / name))
        assert isinstance(result.exception, JournalError)
        assert problem in str(result.exception)


OLD_TABLES = (
    "ALTER TABLE refusals DROP COLUMN crc", "ALTER TABLE events DROP COLUMN crc",
    "PRAGMA user_version = 1",
)  # fmt: skip


def make_old(path: Path) -> None:
    """Make of a journal what the first version of this program would have written."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA auto_vacuum = NONE", "VACUUM"):
            connection.execute(statement)
        for statement in OLD_TABLES:
            connection.execute(statement)
        connection.commit()


def test_a_journal_of_the_first_version_is_brought_up_to_date_and_goes_on(journal: Path) -> None:
    make_old(journal)
    with pytest.raises(JournalError, match="journal version 1"):
        verify(journal)

    async def work() -> None:
        async with Journal(journal, FAST) as again:
            assert again.next_seq == SIGNALS + 1
            again.append_refusal(make_refusal(1))
            again.append_event("gap", {}, 0)

    uvloop.run(work())
    report = verify(journal)
    assert report.ok
    assert report.version == VERSION == 2
    assert (report.refusals, report.events) == (REFUSALS + 1, EVENTS + 1)


def test_a_migration_that_fails_leaves_the_journal_as_it_was(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(journal)
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("ALTER TABLE events ADD COLUMN crc INTEGER")  # in the way of ours

    async def work() -> None:
        with pytest.raises(JournalError, match="duplicate column"):
            await Journal(journal, FAST).open()

    uvloop.run(work())
    with closing(sqlite3.connect(journal)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(refusals)")]
    assert "crc" not in columns


def age_of(path: Path, question: Callable[[sqlite3.Connection], int]) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return question(connection)


def test_prune_removes_what_is_asked_and_makes_the_file_smaller(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    async def work() -> None:
        async with Journal(path, FAST) as journal:
            for _ in range(12_000):
                journal.append_signal(make_signal(journal.epoch, journal.next_seq))

    uvloop.run(work())
    make_old(path)
    before = path.stat().st_size
    result = heqis("prune", str(path), "--keep-signals", "500", "--json")
    told = orjson.loads(result.stdout)
    assert told["pruned"] == 11_500
    assert told["bytes_after"] == path.stat().st_size < before / 5
    report = verify(path)
    assert report.ok
    assert (report.signals, report.clean) == (500, True)
    assert age_of(path, lambda c: c.execute("PRAGMA auto_vacuum").fetchone()[0]) == 2


def test_prune_keeps_out_of_a_journal_in_use(tmp_path: Path) -> None:
    async def work() -> None:
        async with Journal(tmp_path / "journal.db", FAST):
            result = await asyncio.to_thread(heqis, "prune", str(tmp_path / "journal.db"))
            assert isinstance(result.exception, JournalError)
            assert "another engine" in str(result.exception)

    asyncio.run(work())


@pytest.mark.parametrize("arguments", [["nowhere.db"], ["--keep-age", "soon"]])
def test_prune_says_what_it_cannot_do(journal: Path, arguments: list[str]) -> None:
    paths = [] if arguments[0].endswith(".db") else [str(journal)]
    result = heqis("prune", *paths, *arguments)
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "ConfigError"
