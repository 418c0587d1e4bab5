"""Recordings and journals that cannot be compared: clear errors, never a clean result."""

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from diff_rig import blueprint_of, compare, live_session, rule_tree, segment
from pipeline_cases import market_instruments, market_ticks
from typer.testing import CliRunner, Result

from engine.cli.main import make_app
from engine.core.errors import CheckFailedError, ConfigError, InputFileError, JournalError, LogError
from engine.journal import Journal
from engine.stream_config import JournalConfig
from feeds.log_writer import LogWriter
from replay.analysis import diff_journal
from replay.analysis.diff import diff

CONFIG = """
[[strategies]]
name = "macd"
rule = "macd_cross"
on = "trade"
params = { fast = 2, slow = 3, signal = 2 }
[risk.cost]
check_edge = false
[risk.limits]
max_position = 0
cool_down = 0
max_signals_per_instrument = 0
max_signals_per_strategy = 0
max_signals = 0
[risk.data]
gap_hold = 0
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(make_app(), ["diff", *map(str, arguments)])


async def make_journal(path: Path) -> None:
    async with Journal(path, JournalConfig(path=path)):
        pass


def test_a_missing_recording_or_journal_is_told(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    blueprint = blueprint_of(tree)
    with pytest.raises(InputFileError, match="there is no such log"):
        diff(tmp_path / "none", tmp_path / "journal.db", blueprint)
    with pytest.raises(JournalError, match="there is no such journal"):
        diff(tmp_path / "recordings", tmp_path / "none.db", blueprint)


def test_an_empty_journal_is_told(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    asyncio.run(make_journal(tmp_path / "empty.db"))
    with pytest.raises(JournalError, match="it is empty; give the journal"):
        diff(tmp_path / "recordings", tmp_path / "empty.db", blueprint_of(tree))


def test_the_journal_of_another_engine_is_told(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("one", "two")]
    for home in homes:
        home.mkdir()
        live_session(rule_tree(home))
    with pytest.raises(JournalError, match=r"knows nothing of .*recordings; give the journal"):
        diff(homes[0] / "recordings", homes[1] / "journal.db", blueprint_of(rule_tree(homes[0])))


def test_a_file_that_is_no_journal_is_told(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    with pytest.raises(JournalError, match="cannot be read as a journal"):
        diff(tmp_path / "recordings", segment(tmp_path), blueprint_of(tree))


def test_a_damaged_row_is_told(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    with sqlite3.connect(tmp_path / "journal.db") as journal:
        journal.execute("UPDATE signals SET body = replace(body, 'BUY', 'SELL') WHERE seq = 7")
        journal.execute("UPDATE signals SET body = replace(body, 'macd', 'mice') WHERE seq = 7")
    with pytest.raises(JournalError, match=r"signals \d+/7 is damaged; `heqis journal verify`"):
        compare(tmp_path, tree)


def test_a_journal_of_more_events_than_memory_is_for_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_session(rule_tree(tmp_path))
    with sqlite3.connect(tmp_path / "journal.db") as journal:
        journal.execute("DELETE FROM signals")
        journal.execute("DELETE FROM refusals")
        (events,) = journal.execute("SELECT count(*) FROM events").fetchone()
    monkeypatch.setattr(diff_journal, "MAX_ROWS", events)
    assert len(diff_journal.read_told(tmp_path / "journal.db", []).events) == events
    monkeypatch.setattr(diff_journal, "MAX_ROWS", events - 1)
    with pytest.raises(JournalError, match=f"more than {events - 1:,} rows"):
        diff_journal.read_told(tmp_path / "journal.db", [])


def test_an_empty_log_is_told(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    (tmp_path / "empty.hql").write_bytes(b"")
    with pytest.raises(LogError, match="holds no whole frame"):
        diff(tmp_path / "empty.hql", tmp_path / "journal.db", blueprint_of(tree))
    with LogWriter(tmp_path / "defined.hql", market_instruments(), epoch=5):
        pass
    with pytest.raises(InputFileError, match="no records are recorded in it"):
        diff(tmp_path / "defined.hql", tmp_path / "journal.db", blueprint_of(tree))
    segment(tmp_path).write_bytes(b"")
    with pytest.raises(InputFileError, match="no records are recorded in it"):
        compare(tmp_path, tree)


def test_a_torn_tail_is_input(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    file = segment(tmp_path)
    file.write_bytes(file.read_bytes()[:-50])
    report = compare(tmp_path, tree)
    assert report.first is not None
    assert report.first.cause == "input"
    assert "ends at byte" in report.first.why


def test_a_log_of_another_stream_is_told(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    with LogWriter(tmp_path / "other.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(market_ticks(100))
    with pytest.raises(JournalError, match=r"knows nothing of .*other\.hql"):
        diff(tmp_path / "other.hql", tmp_path / "journal.db", blueprint_of(tree))


def test_the_command_exits_by_what_it_found(tmp_path: Path) -> None:
    live_session(rule_tree(tmp_path))
    config, journal = tmp_path / "heqis.toml", tmp_path / "journal.db"
    config.write_text(CONFIG, encoding="utf-8")
    recordings = tmp_path / "recordings"
    done = run(recordings, journal, "-c", config, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["clean"] is True
    assert "clean: the replay decides as live did" in run(recordings, journal, "-c", config).stdout
    config.write_text(CONFIG.replace("slow = 3", "slow = 4"), encoding="utf-8")
    done = run(recordings, journal, "-c", config, "--json")
    assert isinstance(done.exception, CheckFailedError)
    told = json.loads(done.stdout)
    assert (told["clean"], told["first"]["cause"]) == (False, "strategy")
    assert told["context"]["scene"]["ticks"][-1]["seq"] == told["first"]["tick_seq"]
    text = run(recordings, journal, "-c", config).stdout
    assert "cause    strategy" in text
    assert "because  strategies.macd.parameters.params.slow: 3 live, 4 here" in text
    assert "gates:" in text or "indicators:" in text
    allowed = run(recordings, journal, "-c", config, "--allow", "strategy", "--no-context")
    assert allowed.exit_code == 0
    wrong = run(recordings, journal, "-c", config, "--allow", "weather")
    assert isinstance(wrong.exception, ConfigError)
