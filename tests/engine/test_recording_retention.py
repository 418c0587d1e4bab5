"""The recording is bounded, and what a restart may go on from is never removed."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from lives import Life, lived, make_market
from pipeline_cases import make_pipeline

from engine.own_recording import Piece, pieces_of
from engine.recording_retention import Bounds, RecordingRetention, removable
from engine.snapshot import JournalPlace, RecordingPlace, Snapshot
from engine.snapshot_file import KEPT, SnapshotFiles

NOW = 10**18
S = 1_000_000_000


def pieces(*sizes: int) -> list[Piece]:
    """Return segments, two a session, each written a second after the one before."""
    return [
        Piece(k // 2, Path(f"{k // 2}/{k % 2 + 1:06d}.hql"), size, NOW - (len(sizes) - k) * S)
        for k, size in enumerate(sizes)
    ]


def test_the_oldest_go_until_the_rest_fits() -> None:
    kept = pieces(10, 10, 10, 10, 10)
    assert removable(kept, None, Bounds(50), NOW) == []
    assert removable(kept, None, Bounds(49), NOW) == kept[:1]
    assert removable(kept, None, Bounds(25), NOW) == kept[:3]
    assert removable(kept, None, Bounds(1), NOW) == kept[:4], "the last is written to"
    assert removable(kept, None, Bounds(0), NOW) == []
    assert removable([], None, Bounds(1), NOW) == []


def test_what_is_too_old_goes_whatever_its_size() -> None:
    kept = pieces(10, 10, 10, 10)
    assert removable(kept, None, Bounds(0, 3 * S), NOW) == kept[:1]
    assert removable(kept, None, Bounds(30, 3 * S), NOW) == kept[:1]
    assert removable(kept, None, Bounds(15, 3 * S), NOW) == kept[:3]


def test_what_a_snapshot_goes_on_from_stays() -> None:
    kept = pieces(10, 10, 10, 10, 10)
    assert removable(kept, (1, "000001.hql"), Bounds(1, 1), NOW) == kept[:2]
    assert removable(kept, (0, "000001.hql"), Bounds(1, 1), NOW) == []


class Told:
    """Events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []

    def __call__(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.events.append((kind, fields))


def write_segments(directory: Path) -> None:
    for session in (1, 2, 3):
        path = directory / f"session-{session}.hql"
        path.mkdir(parents=True)
        for number in (1, 2):
            (path / f"{number:06d}.hql").write_bytes(bytes(100))


def snapshot_at(place: RecordingPlace | None) -> Snapshot:
    pipeline, _ = make_pipeline()
    return Snapshot(
        taken_ns=7, kernel_key="", identity="", streams=[], recording=place,
        journal=JournalPlace(8, 9), pipeline=pipeline.export_state(),
    )  # fmt: skip


def left_in(directory: Path) -> list[tuple[int, str]]:
    return [piece.place for piece in pieces_of(directory)]


def test_files_and_empty_sessions_are_removed_counted_and_told(tmp_path: Path) -> None:
    write_segments(tmp_path)
    told = Told()
    retention = RecordingRetention(tmp_path, None, Bounds(300), told)
    asyncio.run(retention.apply(NOW))
    assert left_in(tmp_path) == [(2, "000002.hql"), (3, "000001.hql"), (3, "000002.hql")]
    assert not (tmp_path / "session-1.hql").exists()
    (event,) = told.events
    expected = {"segments": 3, "freed_bytes": 300, "kept_bytes": 300, "over_bytes": 0}
    assert event == ("recording_pruned", expected)
    assert retention.counters == {
        "segments": 3, "bytes": 300, "failed": 0, "kept_bytes": 300, "over_bytes": 0,
    }  # fmt: skip
    asyncio.run(retention.apply(NOW))
    assert len(told.events) == 1


def test_the_older_of_the_two_newest_snapshots_counts(tmp_path: Path) -> None:
    write_segments(tmp_path)
    files, told = SnapshotFiles(tmp_path / "snapshots"), Told()
    places = [(1, "000001.hql"), (2, "000001.hql"), (3, "000002.hql")]
    for session, file in places:
        files.write(snapshot_at(RecordingPlace(session, file, 64)))
    assert len(files.paths()) == KEPT
    retention = RecordingRetention(tmp_path, files, Bounds(50), told)
    asyncio.run(retention.apply(NOW))
    assert left_in(tmp_path)[0] == (2, "000001.hql")
    assert retention.counters["over_bytes"] == 300, "all but the last could go by the bound"
    assert [kind for kind, _ in told.events] == ["recording_pruned", "recording_kept"]
    asyncio.run(retention.apply(NOW))
    assert len(told.events) == 2, "told once"
    for _ in range(KEPT):
        files.write(snapshot_at(None))
    asyncio.run(retention.apply(NOW))
    assert left_in(tmp_path) == [(3, "000002.hql")]
    assert retention.counters["over_bytes"] == 0


def test_a_snapshot_that_does_not_say_what_it_needs_keeps_all(tmp_path: Path) -> None:
    write_segments(tmp_path)
    files, told = SnapshotFiles(tmp_path / "snapshots"), Told()
    files.write(snapshot_at(RecordingPlace(3, "000002.hql", 64)))
    (path,) = files.paths()
    path.write_bytes(b"HEQIS")
    retention = RecordingRetention(tmp_path, files, Bounds(50), told)
    asyncio.run(retention.apply(NOW))
    assert len(left_in(tmp_path)) == 6
    assert retention.counters["failed"] == 1
    ((kind, fields),) = told.events
    assert kind == "recording_kept"
    assert "it is none" in fields["reason"]


def test_a_label_of_an_earlier_program_keeps_all(tmp_path: Path) -> None:
    class Earlier(msgspec.Struct):
        taken_ns: int
        kernel_key: str
        identity: str

    from engine.snapshot_file import Label

    body = msgspec.json.encode(Earlier(1, "", ""))
    assert msgspec.json.decode(body, type=Label).recording is msgspec.UNSET


def test_a_restart_goes_on_from_either_snapshot_after_pruning(tmp_path: Path) -> None:
    async def scene(directory: Path) -> None:
        market = make_market(16_000)
        life = await lived(directory, market, 6_000)
        for stop in (10_000, 16_000):
            assert await life.keeper.keep()
            life.feed(stop)
        await life.journal.flush()
        assert life.recorder is not None
        life.recorder.flush()
        files = SnapshotFiles(directory / "snapshots")
        told = Told()
        before = len(left_in(directory / "recordings"))
        retention = RecordingRetention(directory / "recordings", files, Bounds(1), told)
        await retention.apply(NOW)
        assert 1 < len(left_in(directory / "recordings")) < before
        await life.stop()
        newest, _ = files.paths()
        os.truncate(newest, 100)
        life = Life(directory, market)
        await life.open()
        assert life.next_row == 16_000
        assert life.restart.story.snapshot
        assert life.restart.sink.counts["recognised"] > 0
        assert life.restart.sink.counts["late"] + life.restart.sink.counts["expired"] == 0
        await life.stop()

    asyncio.run(scene(tmp_path))
