"""A log whose last write was torn, at every byte of it: cut exactly, appended to correctly."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from frame_cases import frame_of, make_bars, make_instruments, make_ticks

from engine.core.records import INSTRUMENT, Instruments, Schema, Ticks
from feeds.codec import encode_instruments
from feeds.config import SpoolConfig
from feeds.log_files import segment_path
from feeds.log_reader import LogReader
from feeds.log_verify import verify
from feeds.log_writer import LogWriter
from feeds.recording import Recording, RecordLimits
from feeds.sequencer import Sequencer
from feeds.spool import Spool

KEPT = make_ticks(5)
MORE = make_ticks(3, first=400)
LARGEST = 256


def tails() -> Iterator[tuple[str, bytes]]:
    """Yield what may be written last: a frame of every kind, numbered from 6 on."""
    [definitions] = encode_instruments(
        make_instruments(3), gateway=1, epoch=7, next_seq=6, ts_send=1
    )
    yield "one tick", frame_of(Schema.TICK, make_ticks(1), 6)
    yield "some ticks", frame_of(Schema.TICK, make_ticks(3), 6)
    yield "bars", frame_of(Schema.BAR, make_bars(2), 6)
    yield "raw bytes", frame_of(Schema.RAW, b"as a venue sent it", 6)
    yield "definitions", definitions


def read_ticks(path: Path) -> bytes:
    with LogReader(path) as log:
        return b"".join(batch.ticks.tobytes() for batch in log.batches())


def write_kept(path: Path, **how: int) -> None:
    with LogWriter(path, make_instruments(), epoch=7, **how) as writer:  # type: ignore[arg-type] # by name
        writer.write_ticks(KEPT)


def torn_at(tail: bytes, step: int = 1) -> Iterator[tuple[int, bytes]]:
    """Yield each length to which a write may have been cut, and what then is there."""
    for cut in range(0, len(tail), step):
        yield cut, tail[:cut]


@pytest.mark.parametrize("tail", [pytest.param(tail, id=kind) for kind, tail in tails()])
def test_a_log_torn_anywhere_in_its_last_frame_is_cut_there_and_goes_on(
    tmp_path: Path, tail: bytes
) -> None:
    path = tmp_path / "log.hql"
    write_kept(path)
    whole = path.read_bytes()
    for cut, torn in torn_at(tail):
        path.write_bytes(whole + torn)
        with LogWriter(path, make_instruments(), epoch=7, append=True) as writer:
            assert (writer.cut_bytes, writer.next_seq) == (cut, 6)
            writer.write_ticks(MORE)
        assert path.read_bytes().startswith(whole)
        assert read_ticks(path) == KEPT.tobytes() + MORE.tobytes()
        assert verify(path).ok


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_the_largest_frame_torn_anywhere_is_cut_there(tmp_path: Path, step: int) -> None:
    path = tmp_path / "log.hql"
    write_kept(path)
    whole = path.read_bytes()
    tail = frame_of(Schema.TICK, make_ticks(LARGEST), 6)
    for cut, torn in torn_at(tail, step):
        path.write_bytes(whole + torn)
        with LogWriter(path, make_instruments(), epoch=7, append=True) as writer:
            assert (writer.cut_bytes, writer.next_seq) == (cut, 6)
            writer.write_ticks(MORE)
        with LogReader(path) as log:
            assert (log.cut_bytes, log.damage) == (0, [])
            assert len(log.frames) == 2 + 2  # definitions and ticks, before and after


def test_a_flipped_bit_anywhere_in_the_last_frame_costs_that_frame_only(tmp_path: Path) -> None:
    path = tmp_path / "log.hql"
    write_kept(path)
    whole = path.read_bytes()
    tail = frame_of(Schema.TICK, make_ticks(2), 6)
    for place in range(len(tail)):
        damaged = bytearray(tail)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(whole + damaged)
        with LogWriter(path, make_instruments(), epoch=7, append=True) as writer:
            assert (writer.cut_bytes, writer.next_seq) == (len(tail), 6)
            writer.write_ticks(MORE)
        assert read_ticks(path) == KEPT.tobytes() + MORE.tobytes()


def test_zeros_after_the_last_frame_are_cut(tmp_path: Path) -> None:
    """A file system may have made the file longer and not written the rest."""
    path = tmp_path / "log.hql"
    write_kept(path)
    whole = path.read_bytes()
    for count in (1, 7, 8, 63, 64, 4_096, 70_000):
        path.write_bytes(whole + bytes(count))
        with LogWriter(path, make_instruments(), epoch=7, append=True) as writer:
            assert (writer.cut_bytes, writer.next_seq) == (count, 6)
            writer.write_ticks(MORE)
        assert read_ticks(path) == KEPT.tobytes() + MORE.tobytes()


def test_a_new_segment_torn_anywhere_in_its_first_frames_goes_on_with_the_numbers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    write_kept(path, rotate_bytes=1 << 20)
    definitions = b"".join(
        encode_instruments(make_instruments(), gateway=1, epoch=7, next_seq=6, ts_send=1)
    )
    start = definitions + frame_of(Schema.TICK, MORE, 6)
    second = segment_path(path, 2)
    for cut, torn in torn_at(start):
        second.write_bytes(torn)
        with LogWriter(
            path, make_instruments(), epoch=7, rotate_bytes=1 << 20, append=True
        ) as writer:
            assert writer.next_seq == 6, f"torn after {cut} bytes"
            writer.write_ticks(MORE)
        assert read_ticks(path) == KEPT.tobytes() + MORE.tobytes()
        report = verify(path)
        assert (report.ok, report.records) == (True, len(KEPT) + len(MORE))


def spool_config(directory: Path) -> SpoolConfig:
    return SpoolConfig(
        directory=directory, rotate_bytes=1 << 16, max_bytes=1 << 20, memory=directory.parent
    )


def spooled(sequencer: Sequencer, ticks: Ticks) -> list[bytes]:
    return [frame.frame for frame in sequencer.ticks(ticks, 1_000)]


def test_a_spool_torn_anywhere_in_its_last_frame_is_cut_there_and_goes_on(tmp_path: Path) -> None:
    instruments: Instruments = np.zeros(0, INSTRUMENT)
    sequencer = Sequencer(1, 7)
    spool = Spool(spool_config(tmp_path), instruments, gateway=1, epoch=7)
    for frame in sequencer.ticks(KEPT, 1_000):
        spool.append(frame)
    spool.close()
    file = segment_path(spool.path, 1)
    whole = file.read_bytes()
    last, later = list(sequencer.ticks(make_ticks(4), 1_000)), list(sequencer.ticks(MORE, 1_000))
    for cut, torn in torn_at(b"".join(frame.frame for frame in last)):
        file.write_bytes(whole + torn)
        again = Spool(spool_config(tmp_path), instruments, gateway=1, epoch=7)
        for frame in (*last, *later):  # the gateway still has in its ring what was torn
            again.append(frame)
        again.close()
        assert again.failures == 0, f"torn after {cut} bytes"
        report = verify(again.path)
        assert (report.ok, report.records) == (True, len(KEPT) + 4 + len(MORE))


def test_a_recording_torn_anywhere_is_read_up_to_the_last_whole_frame(tmp_path: Path) -> None:

    async def record(path: Path, frames: list[bytes]) -> None:
        recording = Recording(path, epoch=7, limits=RecordLimits(), done=asyncio.Event())
        recording.define(make_instruments())
        wire = np.frombuffer(b"".join(frames), np.uint8)
        lengths = np.array([len(frame) for frame in frames], np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        recording.on_burst(wire, offsets, lengths, len(frames), 0)
        recording.close()

    sequencer = Sequencer(1, 7)
    path = tmp_path / "log.hql"
    asyncio.run(record(path, spooled(sequencer, KEPT) + spooled(sequencer, MORE)))
    whole = path.read_bytes()
    tail_bytes = len(spooled(Sequencer(1, 7), MORE)[0])
    for missing in range(1, tail_bytes + 1):
        path.write_bytes(whole[:-missing])
        assert read_ticks(path) == KEPT.tobytes()
        with LogReader(path) as log:
            assert log.cut_bytes == tail_bytes - missing


@pytest.mark.parametrize("keep", [0, 1, 3, 4, 63, 64, 100])
def test_a_log_torn_in_its_very_first_frame_begins_anew(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "log.hql"
    write_kept(path)
    path.write_bytes(path.read_bytes()[:keep])
    with LogWriter(path, make_instruments(), epoch=7, append=True) as writer:
        assert (writer.cut_bytes, writer.next_seq) == (keep, 1)
        writer.write_ticks(KEPT)
    assert read_ticks(path) == KEPT.tobytes()
    assert verify(path).ok
