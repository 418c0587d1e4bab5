"""Live sessions that replay as they were: the comparison says so, with its counts."""

from pathlib import Path

from diff_rig import TICKS, compare, live_session, rule_tree


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
