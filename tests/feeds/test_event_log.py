"""The gateway's own journal is on disk at once, bounded, and harms nothing when it cannot be."""

import asyncio
import json
import os
import time
from pathlib import Path

from feeds.event_log import KEPT, MOST_WAITING, SLOW_S, EventLog


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_each_event_is_a_line_on_disk_once_it_has_settled(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "events.jsonl"
    log = EventLog(file, 1 << 20)
    log.append("peer_lost", 5, {"peer": "engine"})
    assert log.wait()
    assert lines(file) == [{"ts": 5, "kind": "peer_lost", "peer": "engine"}]
    log.close()
    log.append("peer_back", 6, {})
    assert asyncio.run(log.settle())
    assert [line["kind"] for line in lines(file)] == ["peer_lost", "peer_back"]
    assert (log.written, log.failures) == (2, 0)
    log.close()


def test_it_is_bounded_on_disk_and_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    log = EventLog(file, 1000)
    for number in range(500):
        log.append("step", number, {"text": "x" * 20})
    log.close()
    assert file.stat().st_size < 1100
    assert (tmp_path / "events.jsonl.1").stat().st_size < 1100
    assert lines(file)[-1]["ts"] == 499
    assert len(log.newest) == KEPT


def test_without_a_file_the_newest_are_kept() -> None:
    log = EventLog(None, 1000)
    log.append("step", 1, {})
    assert list(log.newest) == [{"ts": 1, "kind": "step"}]
    assert (log.written, log.failures) == (0, 0)


def test_a_disk_that_refuses_is_counted_told_and_tried_again(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a directory is wanted")
    log = EventLog(blocked / "events.jsonl", 1000)
    log.append("step", 1, {})
    assert log.wait()
    assert (log.written, log.failures) == (0, 1)
    assert log.error
    blocked.unlink()
    log.append("step", 2, {})
    assert log.wait()
    assert (log.written, log.error) == (1, "")
    log.close()


def test_a_full_disk_is_no_error_of_the_gateways() -> None:
    log = EventLog(Path("/dev/full"), 1000)
    log.append("step", 1, {})
    log.append("step", 2, {})
    log.close()
    assert log.failures == 2
    assert log.error == "No space left on device"


def test_a_disk_that_does_not_answer_holds_nobody_up_and_is_told(tmp_path: Path) -> None:
    silent = tmp_path / "events.jsonl"
    os.mkfifo(silent)  # to open it hangs until somebody reads
    log = EventLog(silent, 1 << 20)
    log.append("step", 0, {})
    began_s = time.monotonic()
    assert not asyncio.run(log.settle(limit_s=0.1))
    for number in range(MOST_WAITING + 1):
        log.append("step", number, {})
    assert time.monotonic() - began_s < SLOW_S
    assert log.failures == 1
    assert "wait for the disk" in log.error
    assert not log.wait(SLOW_S)
    assert log.error == "the disk does not answer"
    log.close(limit_s=0.1)
    reader = os.open(silent, os.O_RDONLY | os.O_NONBLOCK)
    assert log.wait(10)
    assert b'"kind":"step"' in os.read(reader, 1 << 20)
    os.close(reader)
