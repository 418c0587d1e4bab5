"""The log writer: what it refuses, rotates, cuts and goes on with."""

import resource
import signal
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

from engine.core.errors import FrameError, LogError
from engine.core.records import INSTRUMENT, MAX_RAW_BYTES, Schema
from feeds.codec import decode_frame, iter_frames
from feeds.log_reader import LogReader
from feeds.log_verify import verify
from feeds.log_writer import LogWriter


def read_all(path: Path) -> bytes:
    return b"".join(batch.ticks.tobytes() for batch in LogReader(path).batches())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    ticks = make_ticks(1000)
    path = write_log(tmp_path / "new" / "a.hql", ticks)
    assert read_all(path) == ticks.tobytes()
    first, *rest = iter_frames(path.read_bytes())
    assert first.schema is Schema.INSTRUMENTS
    assert [len(frame.records) for frame in rest] == [256, 256, 256, 232]
    assert [frame.ts_send for frame in rest] == [int(f.records["ts_recv"][-1]) for f in rest]


def test_bars_raw_bytes_and_definitions_go_in_between(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "a.hql", make_instruments(1), epoch=7) as writer:
        writer.write_ticks(make_ticks(2, instruments=1))
        writer.write_raw(b"as it came", START_NS)
        writer.write_raw(bytes(MAX_RAW_BYTES + 1), START_NS)
        writer.define(make_instruments(2))
        writer.write_bars(make_bars(3))
        assert writer.next_seq == 6
    frames = list(iter_frames((tmp_path / "a.hql").read_bytes()))
    assert [frame.schema.name for frame in frames] == [
        "INSTRUMENTS", "TICK", "RAW", "RAW", "RAW", "INSTRUMENTS", "BAR",
    ]  # fmt: skip
    assert [frame.first_seq for frame in frames] == [1, 1, 3, 3, 3, 3, 3]
    assert frames[2].records.tobytes() == b"as it came"
    assert verify(tmp_path / "a.hql").ok


def test_an_existing_log_is_not_touched_unless_asked_for(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.hql", make_ticks(3))
    with pytest.raises(LogError, match=r"a\.hql: exists already"):
        write_log(path, make_ticks(1))
    write_log(path, make_ticks(1), overwrite=True)
    assert verify(path).records == 1


def test_overwriting_spares_a_directory_that_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(LogError, match=r"is not a log: holds precious\.txt"):
        write_log(tmp_path, make_ticks(1), overwrite=True, rotate_bytes=1)
    assert (tmp_path / "precious.txt").exists()


def test_appending_goes_on_with_the_numbers_of_the_same_epoch(tmp_path: Path) -> None:
    ticks = make_ticks(20)
    path = write_log(tmp_path / "a.hql", ticks[:10])
    write_log(path, ticks[10:], append=True)
    assert read_all(path) == ticks.tobytes()
    assert verify(path).ok
    with LogWriter(path, make_instruments(), epoch=8, append=True) as writer:
        assert writer.next_seq == 1


def test_a_tail_torn_at_any_byte_is_cut_and_appending_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.hql"
    ticks = make_ticks(5)
    whole = write_log(path, ticks[:3]).read_bytes()
    tail = tick_frame(ticks[3:], 4)
    for cut in range(len(tail)):
        path.write_bytes(whole + tail[:cut])
        with LogReader(path) as reader:
            assert (reader.cut_bytes, len(reader.frames)) == (cut, 2)
        with LogWriter(path, make_instruments(), epoch=7, append=True) as writer:
            assert (writer.cut_bytes, writer.next_seq) == (cut, 4)
            writer.write_ticks(ticks[3:])
        assert read_all(path) == ticks.tobytes()
        assert verify(path).ok


def test_a_flipped_bit_in_the_last_frame_is_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "a.hql"
    ticks = make_ticks(4)
    whole = write_log(path, ticks[:3]).read_bytes()
    tail = bytearray(tick_frame(ticks[3:], 4))
    for place in range(len(tail)):
        tail[place] ^= 16
        path.write_bytes(whole + tail)
        assert LogReader(path).cut_bytes == len(tail)
        tail[place] ^= 16


def test_damage_in_the_middle_is_kept_when_appending(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.hql", make_ticks(600))
    damaged = bytearray(path.read_bytes())
    damaged[30_000] ^= 1
    path.write_bytes(damaged)
    with LogWriter(path, make_instruments(), epoch=7, append=True) as writer:
        assert (writer.cut_bytes, writer.next_seq) == (0, 601)


def test_segments_rotate_by_size_and_each_explains_itself(tmp_path: Path) -> None:
    ticks = make_ticks(3000)
    path = write_log(tmp_path / "a.hql", ticks, rotate_bytes=50_000)
    files = sorted(path.iterdir())
    assert [file.name for file in files[:2]] == ["000001.hql", "000002.hql"]
    assert max(file.stat().st_size for file in files) <= 50_000
    assert {decode_frame(file.read_bytes()).schema for file in files} == {Schema.INSTRUMENTS}
    assert read_all(path) == ticks.tobytes()
    assert verify(path).ok


def test_segments_rotate_by_receive_time(tmp_path: Path) -> None:
    ticks = make_ticks(2560)
    path = write_log(tmp_path / "a.hql", ticks, rotate_ns=512 * STEP_NS)
    counts = [verify(file).records for file in sorted(path.iterdir())]
    assert counts == [512] * 5
    assert read_all(path) == ticks.tobytes()


def test_appending_to_segments_goes_on_in_the_last(tmp_path: Path) -> None:
    ticks = make_ticks(2000)
    path = tmp_path / "a.hql"
    for part in (ticks[:1000], ticks[1000:]):
        write_log(path, part, rotate_bytes=30_000, append=True)
        with sorted(path.iterdir())[-1].open("ab") as last:
            last.write(b"HEQ1 torn")
    assert LogReader(path).cut_bytes == 9
    assert read_all(path) == ticks.tobytes()


def test_old_segments_are_deleted_when_only_some_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.hql"
    with LogWriter(
        path, make_instruments(), epoch=7, rotate_bytes=30_000, keep_segments=2
    ) as writer:
        writer.write_ticks(make_ticks(3000))
        assert writer.segments_deleted > 0
    assert len(list(path.iterdir())) == 2
    assert LogReader(path).summary()["last_seq"] == 3000


def test_frames_are_appended_as_they_are(tmp_path: Path) -> None:
    frames = [tick_frame(make_ticks(n), seq, gateway=4) for n, seq in ((3, 10), (2, 13))]
    with LogWriter(tmp_path / "a.hql", make_instruments(), epoch=7) as writer:
        writer.append_frames([frames[0], memoryview(frames[1])])
        assert writer.next_seq == 15
    assert (tmp_path / "a.hql").read_bytes().endswith(b"".join(frames))


def test_frames_that_are_none_are_not_appended(tmp_path: Path) -> None:
    frame = tick_frame(make_ticks(1), 1)
    with LogWriter(tmp_path / "a.hql", make_instruments(), epoch=7) as writer:
        for wrong in (frame[:-1], frame + bytes(8), b"", frame[:-1] + b"x"):
            with pytest.raises(FrameError):
                writer.append_frame(wrong)
    assert verify(tmp_path / "a.hql").records == 0


def test_definitions_in_appended_frames_open_the_next_segment(tmp_path: Path) -> None:
    table = make_instruments(3)
    path = tmp_path / "a.hql"
    with LogWriter(path, table[:1], epoch=7, rotate_bytes=2_000) as writer:
        writer.append_frame(frame_of(Schema.INSTRUMENTS, table, 1))
        writer.write_ticks(make_ticks(200))
        writer.write_ticks(make_ticks(200))
    last = sorted(path.iterdir())[-1]
    assert decode_frame(last.read_bytes()).records.tobytes() == table.tobytes()


def test_nothing_is_on_disk_before_flush_and_all_is_after(tmp_path: Path) -> None:
    path = tmp_path / "a.hql"
    with LogWriter(path, make_instruments(), epoch=7, fsync=True) as writer:
        writer.write_ticks(make_ticks(3))
        assert path.stat().st_size == 0
        writer.flush()
        assert path.stat().st_size == writer.bytes_written
        assert verify(path).records == 3


def test_two_writers_of_one_log_are_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "a.hql"
    with (
        LogWriter(path, make_instruments(), epoch=7),
        pytest.raises(LogError, match="being written by another"),
    ):
        LogWriter(path, make_instruments(), epoch=7, append=True)


def test_a_disk_that_refuses_is_an_error_and_leaves_no_torn_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.hql"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with LogWriter(path, make_instruments(), epoch=7) as writer:
            writer.write_ticks(make_ticks(10))
            writer.flush()
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
            writer.write_ticks(make_ticks(100))
            with pytest.raises(LogError, match=r"a\.hql: cannot be written, \d+ bytes are lost"):
                writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert verify(path).records == 10
    assert verify(path).ok


def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "a.hql", make_instruments(), epoch=7)
    writer.close()
    writer.close()
    writer.write_ticks(make_ticks(1))
    with pytest.raises(LogError, match="is closed"):
        writer.flush()


def test_paths_that_cannot_be_logs_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a log at all, whatever it is")
    with pytest.raises(LogError, match="is not a tick log: begins with b'not '"):
        write_log(tmp_path / "file", make_ticks(1), append=True)
    with pytest.raises(LogError, match="cannot be written"):
        write_log(tmp_path / "file" / "a.hql", make_ticks(1))
    with pytest.raises(LogError, match="cannot be written"):
        write_log(tmp_path, make_ticks(1), append=True)


def test_other_instruments_under_the_same_ids_are_refused(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.hql", make_ticks(1))
    with pytest.raises(LogError, match="another symbol"):
        write_log(path, make_ticks(1), instruments=make_instruments(prefix="OTHER"), append=True)


def test_a_log_may_begin_without_instruments(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "a.hql", np.zeros(0, INSTRUMENT), epoch=7) as writer:
        writer.define(make_instruments())
        writer.write_ticks(make_ticks(4))
    assert len(LogReader(tmp_path / "a.hql").instruments) == 2
