"""Live sessions that replay as they were: the comparison says so, with its counts."""

import sqlite3
from pathlib import Path

from diff_rig import TICKS, blueprint_of, compare, live_session, rule_tree

from engine.own_recording import sessions_in
from replay.analysis.diff import diff


def test_a_session_of_rules_is_clean(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    feed = live_session(tree)
    report = compare(tmp_path, tree)
    assert report.differences == 0, report.first
    assert report.records == len(feed.sent) == TICKS
    assert report.counts["signals"] > 50
    assert report.counts["checkpoints"] >= 1
    assert report.counts["sealed_bytes"] > TICKS * 80
    assert report.notes == []
    assert not report.failed()


def test_a_session_that_ended_in_disorder_is_clean(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    with sqlite3.connect(tmp_path / "journal.db") as journal:
        journal.execute("DELETE FROM events WHERE kind = 'engine_stopped'")
        journal.execute("DELETE FROM events WHERE kind = 'checkpoint'")
        journal.execute("DELETE FROM signals WHERE seq > (SELECT max(seq) - 5 FROM signals)")
    report = compare(tmp_path, tree)
    assert report.differences == 0, report.first
    assert report.counts["after_the_live_end"] == 5


def test_a_session_beside_others_is_compared_alone(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    for _ in range(3):
        live_session(tree)
    first, second, third = sessions_in(tmp_path / "recordings")
    assert compare(tmp_path, tree).differences == 0
    counts = []
    for session in (first, second, third):
        report = diff(session.path, tmp_path / "journal.db", blueprint_of(tree))
        assert report.differences == 0, report.first
        assert report.sessions == 1
        counts.append(report.counts["signals"])
    assert report.records == compare(tmp_path, tree).records, "the others lead up to it"
    assert sum(counts) == compare(tmp_path, tree).counts["signals"]


def test_a_start_without_a_snapshot_is_gone_through_as_live_did(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path, engine={"snapshot_interval": 0})
    for _ in range(2):
        live_session(tree)
    report = compare(tmp_path, tree)
    assert report.differences == 0, report.first
    assert report.counts["signals"] > 100
    assert any("has no checkpoints" in note for note in report.notes)


def test_neither_side_deciding_anything_is_told(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path) | {"strategies": []}
    live_session(tree)
    report = compare(tmp_path, tree)
    assert report.differences == 0
    assert any("no decision to compare" in note for note in report.notes)
