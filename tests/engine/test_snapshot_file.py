"""Snapshot files: whole or absent, the newest kept, nothing trusted that others could write."""

import os
from pathlib import Path

import msgspec
import pytest
from pipeline_cases import make_pipeline

from engine.core.errors import SnapshotError
from engine.snapshot import JournalPlace, RecordingPlace, Snapshot, StreamPlace
from engine.snapshot_file import KEPT, SnapshotFiles, read_snapshot


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    pipeline, _ = make_pipeline()
    return Snapshot(
        taken_ns=7, kernel_key=pipeline.kernel.key, identity="ours",
        streams=[StreamPlace(1, 2, 3)], recording=RecordingPlace(5, "000001.hql", 64),
        journal=JournalPlace(8, 9), pipeline=pipeline.export_state(),
    )  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path, snapshot: Snapshot) -> None:
    files = SnapshotFiles(tmp_path / "kept" / "here")
    assert files.paths() == []
    size = files.write(snapshot)
    (path,) = files.paths()
    assert read_snapshot(path) == snapshot
    assert path.stat().st_size == size
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_newest_are_kept_whatever_the_clock_says(tmp_path: Path, snapshot: Snapshot) -> None:
    files = SnapshotFiles(tmp_path)
    for taken_ns in (500, 400, 300, 200):
        files.write(msgspec.structs.replace(snapshot, taken_ns=taken_ns))
    assert [read_snapshot(path).taken_ns for path in files.paths()] == [200, 300]
    assert len(list(tmp_path.iterdir())) == KEPT


def test_a_file_cut_or_changed_anywhere_is_refused(tmp_path: Path, snapshot: Snapshot) -> None:
    files = SnapshotFiles(tmp_path)
    files.write(snapshot)
    (path,) = files.paths()
    whole = path.read_bytes()
    places = [*range(0, 64, 3), 70, 200, len(whole) // 2, len(whole) - 1]
    damaged = [whole[:at] for at in places]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
    for content in (*damaged, whole + b"x"):
        path.write_bytes(content)
        with pytest.raises(SnapshotError):
            read_snapshot(path)
    path.write_bytes(whole)
    assert read_snapshot(path) == snapshot


def test_a_file_of_another_version_says_so(tmp_path: Path, snapshot: Snapshot) -> None:
    files = SnapshotFiles(tmp_path)
    files.write(snapshot)
    (path,) = files.paths()
    whole = path.read_bytes()
    path.write_bytes(whole[:8] + (99).to_bytes(4, "little") + whole[12:])
    with pytest.raises(SnapshotError, match="of version 99, this engine reads"):
        read_snapshot(path)


def test_a_file_that_others_may_write_is_not_read(tmp_path: Path, snapshot: Snapshot) -> None:
    files = SnapshotFiles(tmp_path)
    files.write(snapshot)
    (path,) = files.paths()
    path.chmod(0o620)
    with pytest.raises(SnapshotError, match="others than its owner"):
        read_snapshot(path)


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path: Path, snapshot: Snapshot) -> None:
    files = SnapshotFiles(tmp_path / "there")
    files.write(snapshot)
    (tmp_path / "there" / "00000002.draft").mkdir()
    with pytest.raises(SnapshotError, match="cannot be written"):
        files.write(snapshot)
    assert [path.name for path in files.paths()] == ["00000001.snapshot"]


def test_a_draft_that_a_crash_left_is_no_snapshot(tmp_path: Path, snapshot: Snapshot) -> None:
    files = SnapshotFiles(tmp_path)
    (tmp_path / "00000001.draft").write_bytes(b"half")
    assert files.paths() == []
    files.write(snapshot)
    assert os.listdir(tmp_path) == ["00000001.snapshot"]
