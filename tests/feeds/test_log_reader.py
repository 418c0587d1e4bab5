"""The log reader: seeking, segments, damage, and files that are no logs."""

from pathlib import Path

import numpy as np
import pytest
from frame_cases import (
    START_NS,
    STEP_NS,
    frame_of,
    make_bars,
    make_instruments,
    make_ticks,
    tick_frame,
    write_log,
)
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import InputFileError, LogError
from engine.core.records import Schema, TickKind
from feeds.log_counts import count_ticks_nb
from feeds.log_reader import LogReader
from feeds.log_writer import LogWriter


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> LogReader:
    path = tmp_path_factory.mktemp("logs") / "a.hql"
    with LogWriter(path, make_instruments(), epoch=7, rotate_bytes=20_000) as writer:
        for at in range(0, 1000, 50):
            writer.write_ticks(make_ticks(50, first=at))
    return LogReader(path)


@given(seq=st.integers(0, 1100))
def test_seeking_a_number_finds_its_frame(log: LogReader, seq: int) -> None:
    place = log.seek_seq(seq)
    if seq > 1000:
        assert place == len(log.frames)
        return
    batch = next(iter(log.batches(place)))
    assert int(batch.origins["seq"][0]) == max(1, (seq - 1) // 50 * 50 + 1)


@given(step=st.integers(-5, 1100))
def test_seeking_a_time_finds_the_first_frame_that_reaches_it(log: LogReader, step: int) -> None:
    place = log.seek_time(START_NS + step * STEP_NS)
    if step > 999:
        assert place == len(log.frames)
        return
    seqs = [int(batch.origins["seq"][0]) for batch in log.batches(place)]
    assert seqs[0] == max(0, step) // 50 * 50 + 1


def test_seeking_in_an_epoch_that_is_not_there_finds_nothing(log: LogReader) -> None:
    assert log.seek_seq(1, epoch=8) == len(log.frames)
    assert log.epochs == [7]


def test_a_range_of_frames_is_read_across_segments(log: LogReader) -> None:
    start, stop = log.seek_seq(301), log.seek_seq(701)
    parts = [batch.ticks.copy() for batch in log.batches(start, stop)]
    assert np.concatenate(parts).tobytes() == make_ticks(400, first=300).tobytes()
    assert len({segment.file for segment in log.segments(start, stop)}) > 1


def test_summary_counts_everything(log: LogReader) -> None:
    summary = log.summary()
    assert summary["records"]["TICK"] == 1000
    assert summary["ticks"] == {"HEARTBEAT": 250, "TRADE": 250, "QUOTE": 250, "SNAPSHOT": 250}
    assert (summary["first_ts_recv"], summary["last_ts_recv"]) == (
        START_NS, START_NS + 999 * STEP_NS,
    )  # fmt: skip
    assert (summary["first_seq"], summary["last_seq"], summary["gaps"]) == (1, 1000, 0)
    assert [(row["symbol"], row["ticks"]) for row in summary["instruments"]] == [
        ("SYM0.X", 500), ("SYM1.X", 250),
    ]  # fmt: skip
    assert summary["bytes"] == sum(file.stat().st_size for file in log.files)


def test_compiled_counting_equals_its_python_self(log: LogReader) -> None:
    segment = next(log.segments())
    rows = log.frames[: len(segment.offsets)]
    rows = rows[rows[:, 2] == Schema.TICK]
    arguments = (segment.wire, rows[:, 0].copy(), rows[:, 4].copy())
    found = [np.zeros(256, np.int64), np.zeros(2, np.int64)]
    twin = [np.zeros(256, np.int64), np.zeros(2, np.int64)]
    count_ticks_nb(found[0], found[1], *arguments)
    count_ticks_nb.py_func(twin[0], twin[1], *arguments)
    assert [part.tolist() for part in found] == [part.tolist() for part in twin]


def test_a_log_of_bars_and_raw_bytes_is_summed_up(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "a.hql", make_instruments(), epoch=7) as writer:
        writer.write_raw(b"abc", 1)
        writer.write_bars(make_bars(3))
    summary = LogReader(tmp_path / "a.hql").summary()
    assert summary["records"] == {"INSTRUMENTS": 2, "BAR": 3, "RAW": 1}
    assert (summary["first_ts_recv"], summary["last_ts_recv"]) == (START_NS, START_NS + 2 * STEP_NS)


def test_a_log_without_records_has_no_times(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "a.hql", make_instruments(), epoch=7):
        pass
    summary = LogReader(tmp_path / "a.hql").summary()
    assert (summary["first_ts_recv"], summary["last_seq"], summary["epochs"]) == (None, None, [])


@given(place=st.integers(0, 4 * 144 - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_costs_one_frame_at_most(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("bits") / "a.hql"
    ticks = make_ticks(6)
    frames = [tick_frame(ticks[i : i + 1], i + 1) for i in range(6)]
    opening = frame_of(Schema.INSTRUMENTS, make_instruments(), 1)
    data = bytearray(opening + b"".join(frames))
    data[len(opening) + place] ^= 1 << bit
    path.write_bytes(data)
    kept = [
        tick.tobytes()
        for batch in LogReader(path).batches()
        for tick in batch.ticks
        if tick["kind"] != TickKind.GAP
    ]
    lost = place // 144
    assert kept == [ticks[i].tobytes() for i in range(6) if i != lost]


def test_a_hole_in_the_middle_is_stepped_over_and_named(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.hql", make_ticks(1024))
    data = bytearray(path.read_bytes())
    data[25_000:45_000] = bytes(20_000)
    path.write_bytes(data)
    reader = LogReader(path)
    seqs = np.concatenate([batch.origins["seq"].copy() for batch in reader.batches()])
    assert (seqs[0], seqs[-1]) == (1, 1024)
    assert reader.summary()["damaged_bytes"] > 20_000
    assert reader.summary()["missing_records"] == 512


def test_files_that_are_no_logs_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"none\.hql: there is no such log"):
        LogReader(tmp_path / "none.hql")
    (tmp_path / "empty.hql").touch()
    with pytest.raises(LogError, match=r"empty\.hql: holds no whole frame"):
        LogReader(tmp_path / "empty.hql")
    (tmp_path / "other.hql").write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(LogError, match=r"other\.hql: at byte 0: is not a tick log"):
        LogReader(tmp_path / "other.hql")
    (tmp_path / "short.hql").write_bytes(b"HEQ1")
    with pytest.raises(LogError, match="holds no whole frame"):
        LogReader(tmp_path / "short.hql")
    (tmp_path / "folder.hql").mkdir()
    with pytest.raises(LogError, match="holds no whole frame"):
        LogReader(tmp_path / "folder.hql")


def test_contradicting_definitions_are_an_error_with_their_place(tmp_path: Path) -> None:
    frames = [frame_of(Schema.INSTRUMENTS, make_instruments(1, prefix=p), 1) for p in "AB"]
    (tmp_path / "a.hql").write_bytes(b"".join(frames))
    with pytest.raises(LogError, match=r"at byte 176: .* another symbol"):
        LogReader(tmp_path / "a.hql")


def test_a_closed_reader_lets_go_of_its_files(tmp_path: Path) -> None:
    with LogReader(write_log(tmp_path / "a.hql", make_ticks(3))) as reader:
        assert sum(len(batch.ticks) for batch in reader.batches()) == 3
    with pytest.raises(ValueError, match="shorter"):
        next(reader.batches())
