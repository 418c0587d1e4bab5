"""Verifying a log: whole ones pass, and what is wrong is counted exactly."""

from pathlib import Path

import pytest
from frame_cases import make_instruments, make_ticks, tick_frame, write_log

from engine.core.errors import InputFileError, LogError
from feeds.log_verify import NumberGap, verify
from feeds.log_writer import LogWriter


def test_a_whole_log_is_whole(tmp_path: Path) -> None:
    report = verify(write_log(tmp_path / "a.hql", make_ticks(300)))
    assert report.ok
    assert (report.frames, report.records, report.files) == (3, 300, 1)


def test_nothing_is_no_whole_log(tmp_path: Path) -> None:
    (tmp_path / "empty.hql").touch()
    for path in (tmp_path / "empty.hql", tmp_path / "no_segments"):
        if not path.suffix:
            path.mkdir()
        with pytest.raises(LogError, match="holds no whole frame"):
            verify(path)


def test_every_damaged_frame_is_listed_with_its_place(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.hql", make_ticks(1024))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    report = verify(path)
    assert not report.ok
    assert [(place.offset, place.problem) for place in report.bad_places] == [
        (64 + 2 * 112, "CRC is wrong")
    ]
    assert report.records == 768


def test_gaps_and_duplicates_are_counted_exactly(tmp_path: Path) -> None:
    frames = [
        tick_frame(make_ticks(n), seq, gateway=gateway)
        for n, seq, gateway in ((5, 1, 1), (5, 9, 1), (5, 12, 1), (2, 1, 2), (2, 1, 2), (1, 17, 1))
    ]
    with LogWriter(tmp_path / "a.hql", make_instruments(), epoch=7) as writer:
        writer.append_frames(frames)
    report = verify(tmp_path / "a.hql")
    assert report.gap_list == [NumberGap(1, 7, 6, 3)]
    assert (report.gaps, report.missing_records, report.duplicate_records) == (1, 3, 4)
    assert not report.ok


def test_a_torn_tail_and_a_hole_are_told_apart(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.hql", make_ticks(1024))
    data = bytearray(path.read_bytes())
    data[15_000:25_000] = bytes(10_000)
    path.write_bytes(data[:-10])
    report = verify(path)
    assert report.torn_bytes == 64 + 256 * 80 - 10
    assert [place.problem for place in report.bad_places] == ["no frame"]
    assert (report.records, report.missing_records) == (256, 0)


def test_gaps_between_segments_are_found(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.hql", make_ticks(3000), rotate_bytes=30_000)
    sorted(path.iterdir())[1].unlink()
    report = verify(path)
    assert (report.gaps, report.missing_records) == (1, 256)


def test_no_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        verify(tmp_path / "none.hql")
    (tmp_path / "other.hql").write_bytes(b"x" * 100)
    with pytest.raises(LogError, match="is not a tick log"):
        verify(tmp_path / "other.hql")
