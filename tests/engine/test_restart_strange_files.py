"""What a start finds of the last life may be anything: it is told, left, and the engine lives."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from lives import Life, lived, make_market
from pipeline_cases import make_pipeline

from engine.core.errors import SnapshotError
from engine.snapshot import AHEAD_NS, JournalPlace, Snapshot, check_time
from engine.snapshot_file import SnapshotFiles, read_snapshot

HOUR_NS = 3600 * 10**9
NOBODY = 65_534


async def dead(directory: Path, ticks: int = 2_000) -> Life:
    """Live, keep two snapshots, die."""
    life = await lived(directory, make_market(3_000), ticks // 2)
    assert await life.keeper.keep()
    life.feed(ticks)
    assert await life.keeper.keep()
    await life.stop()
    return life


async def born(life: Life) -> Life:
    again = Life(life.directory, life.market)
    await again.open()
    return again


def restamp(path: Path, taken_ns: int) -> None:
    """Write a snapshot again as another clock would have stamped it."""
    snapshot = msgspec.structs.replace(read_snapshot(path), taken_ns=taken_ns)
    beside = SnapshotFiles(path.parent / "beside")
    beside.write(snapshot)
    (written,) = beside.paths()
    written.replace(path)


def test_a_snapshot_of_a_clock_ahead_is_left_for_one_that_is_not(tmp_path: Path) -> None:
    async def scene() -> None:
        life = await dead(tmp_path)
        newest, older = SnapshotFiles(tmp_path / "snapshots").paths()
        restamp(newest, time.time_ns() + HOUR_NS)
        life = await born(life)
        story = life.restart.story
        assert (story.snapshot, story.replayed) == (older.name, 1_000)
        assert story.ignored.keys() == {newest.name}
        assert "s in the future" in story.ignored[newest.name]
        assert life.restart.sink.counts["recognised"] > 0
        assert life.restart.sink.ledger._horizons.keys() == {77}
        decided, _ = await life.journal.read_decisions(0, 0, 10_000)
        last = max(one.tick_seq for one in decided)
        assert life.restart.sink.ledger._horizons[77][0] == last, "it says nothing of what was due"
        await life.journal.flush()
        (event,) = await life.journal.read_fields("snapshot_ignored", 10)
        assert event["file"] == newest.name
        await life.stop()

    asyncio.run(scene())


def test_a_clock_that_was_corrected_by_little_takes_no_snapshot_away() -> None:
    pipeline, _ = make_pipeline()
    state = pipeline.export_state()

    def taken(at_ns: int) -> Snapshot:
        return Snapshot(at_ns, "", "", [], None, JournalPlace(1, 1), state)

    check_time(taken(AHEAD_NS), 0)
    check_time(taken(0), HOUR_NS)
    with pytest.raises(SnapshotError, match="61 s in the future"):
        check_time(taken(AHEAD_NS + 10**9), 0)


def draft_left(directory: Path) -> None:
    newest, *_ = SnapshotFiles(directory).paths()
    (directory / "00000009.draft").write_bytes(newest.read_bytes()[:1_000])


def newest_cut(directory: Path) -> None:
    newest, *_ = SnapshotFiles(directory).paths()
    os.truncate(newest, newest.stat().st_size // 2)


def newest_empty(directory: Path) -> None:
    newest, *_ = SnapshotFiles(directory).paths()
    newest.write_bytes(b"")


def newest_a_directory(directory: Path) -> None:
    newest, *_ = SnapshotFiles(directory).paths()
    newest.unlink()
    newest.mkdir()


@pytest.mark.parametrize(
    ("spoil", "ignored"),
    [(draft_left, 0), (newest_cut, 1), (newest_empty, 1), (newest_a_directory, 1)],
)
def test_a_half_written_snapshot_is_left_and_the_next_one_is_written(
    tmp_path: Path, spoil: Callable[[Path], None], ignored: int
) -> None:
    async def scene() -> None:
        life = await dead(tmp_path)
        spoil(tmp_path / "snapshots")
        life = await born(life)
        assert len(life.restart.story.ignored) == ignored
        assert life.restart.story.snapshot
        assert life.next_row == 2_000
        life.restart.go_live(life.market.instruments)
        assert await life.keeper.keep()
        await life.stop()
        life = await born(life)
        assert life.restart.story.ignored == {}
        await life.stop()

    asyncio.run(scene())


@contextmanager
def closed(directory: Path) -> Iterator[None]:
    """Close a directory to this process, also where it is root."""
    directory.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.chmod(directory.parent, 0o777)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o700)


def test_a_directory_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(SnapshotError, match="file: cannot be read: Not a directory"):
        SnapshotFiles(tmp_path / "file").paths()
    assert SnapshotFiles(tmp_path / "absent").paths() == []
    inner = tmp_path / "inner"
    inner.mkdir()
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    with closed(inner), pytest.raises(SnapshotError, match="cannot be read: Permission denied"):
        SnapshotFiles(inner).paths()


def test_an_engine_whose_snapshots_cannot_be_read_goes_through_its_recording(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        life = await dead(tmp_path)
        (tmp_path / "snapshots").rename(tmp_path / "away")
        (tmp_path / "snapshots").write_text("no directory")
        life = await born(life)
        assert (life.restart.story.snapshot, life.restart.story.replayed) == ("", 2_000)
        (reason,) = life.restart.story.ignored.values()
        assert "cannot be read" in reason
        assert life.restart.sink.counts["recognised"] > 0
        life.restart.go_live(life.market.instruments)
        assert not await life.keeper.keep()
        await life.journal.flush()
        for kind in ("snapshot_ignored", "snapshot_failed"):
            assert len(await life.journal.read_fields(kind, 10)) == 1
        await life.stop()

    asyncio.run(scene())


def test_a_recording_that_cannot_be_opened_again_is_told_and_the_engine_lives(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        life = await dead(tmp_path)
        (tmp_path / "recordings").rename(tmp_path / "away")
        (tmp_path / "recordings").write_text("no directory")
        life = await born(life)
        assert life.restart.story.snapshot
        assert life.recorder is not None
        assert "cannot be written" in life.recorder.failed
        life.restart.go_live(life.market.instruments)
        life.feed(3_000)
        assert await life.keeper.keep()
        await life.stop()

    asyncio.run(scene())
