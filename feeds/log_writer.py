"""Writes tick logs: the frames of the wire, one after the other, in one file or rotated segments.

A log without rotation is one file. With rotation it is a directory of segments 000001.hql,
000002.hql and so on, each opening with the instrument definitions, so that each explains itself.
Frames wait in memory until a megabyte is together or ``flush`` is called.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from engine.core.errors import FrameError, LogError
from engine.core.records import (
    MAX_RAW_BYTES,
    SEQUENCED,
    Bars,
    Instruments,
    Schema,
    Ticks,
)
from feeds.books.depth_records import DepthRecords, schema_of
from feeds.codec import (
    decode_frame,
    encode_frame,
    encode_instruments,
    max_records,
    merge_instruments,
)
from feeds.log_files import SUFFIX, LogEnd, find_end, segment_path, segments_of

_FLUSH_BYTES: Final = 1 << 20


class LogWriter:
    """The one writer of one log; not shared between threads.

    Args:
        path: The log: a file, or with rotation a directory. Parents are made.
        instruments: Definitions, INSTRUMENT, shape (I,); may be empty and defined later.
        gateway: The gateway's id, in every frame made here.
        epoch: The stream epoch, in every frame made here.
        rotate_bytes: Start a new segment before one grows beyond this.
        rotate_ns: Start a new segment when this much receive time is in one.
        keep_segments: Delete the oldest segments beyond this many; all are kept by default.
        first_seq: Sequence number of the first record.
        fsync: Have the disk confirm every flush.
        append: Go on with an existing log: its torn tail is cut first, and if it ends in the same
            epoch its numbering goes on.
        overwrite: Delete an existing log.

    Raises:
        LogError: the log exists and neither ``append`` nor ``overwrite`` was asked for, is not a
            tick log, or cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        instruments: Instruments,
        *,
        gateway: int = 1,
        epoch: int,
        rotate_bytes: int | None = None,
        rotate_ns: int | None = None,
        keep_segments: int | None = None,
        first_seq: int = 1,
        fsync: bool = False,
        append: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.gateway = gateway
        self.epoch = epoch
        self.next_seq = first_seq
        self.instruments = instruments.copy()
        self.cut_bytes = 0
        self.segments_deleted = 0
        self._rotates = rotate_bytes is not None or rotate_ns is not None
        self._rotate_bytes = rotate_bytes or 1 << 62
        self._rotate_ns = rotate_ns or 1 << 62
        self._keep = keep_segments
        self._fsync = fsync
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._good_bytes = 0
        self._opened_ns: int | None = None
        self._last_ts = 0
        self._number = 1
        self._fd = -1
        try:
            self._open_log(append=append, overwrite=overwrite)
        except BlockingIOError as error:
            raise LogError(self.path, "is being written by another process") from error
        except OSError as error:
            raise LogError(self.path, f"cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def bytes_written(self) -> int:
        """Size of the current segment, what is not flushed yet included."""
        return self._good_bytes + self._pending_bytes

    @property
    def segment(self) -> str:
        """Name of the current file."""
        return (segment_path(self.path, self._number) if self._rotates else self.path).name

    def write_ticks(self, ticks: Ticks) -> None:
        """Append ticks, shape (N,), in frames of at most MAX_FRAME_RECORDS; numbers them.

        Raises:
            LogError: the disk refuses.
        """
        self._write_records(Schema.TICK, ticks)

    def write_bars(self, bars: Bars) -> None:
        """Append bars, shape (N,), like ticks.

        Raises:
            LogError: the disk refuses.
        """
        self._write_records(Schema.BAR, bars)

    def write_depth(self, records: DepthRecords) -> None:
        """Append depth records, DEPTH5 or DEPTH10, shape (N,), like ticks.

        Raises:
            LogError: the disk refuses.
            ValueError: they are of another dtype.
        """
        self._write_records(schema_of(records), records)

    def write_raw(self, payload: bytes, ts_recv: int) -> None:
        """Append bytes as a venue sent them, received at ``ts_recv`` ns; split if very long.

        Raises:
            LogError: the disk refuses.
        """
        for at in range(0, len(payload), MAX_RAW_BYTES):
            self._append(
                self._encode(Schema.RAW, payload[at : at + MAX_RAW_BYTES], ts_recv), ts_recv
            )

    def define(self, instruments: Instruments) -> None:
        """Append definitions, new or changed, INSTRUMENT, shape (N,).

        Raises:
            FrameError: ids would not be dense from 0, or a known id would change its symbol.
            LogError: the disk refuses.
        """
        self.instruments = merge_instruments(self.instruments, instruments)
        self._append_definitions(instruments)

    def append_frame(self, frame: bytes | memoryview) -> None:
        """Append one frame as it is, checked whole.

        Raises:
            FrameError: it is not one whole, good frame.
            LogError: the disk refuses.
        """
        self.append_frames((frame,))

    def append_frames(self, frames: Iterable[bytes | memoryview]) -> None:
        """Append frames as they are, in order; see ``append_frame``."""
        for frame in frames:
            whole = decode_frame(frame)
            if whole.length != len(frame):
                raise FrameError(f"{len(frame)} bytes hold a frame of {whole.length}")
            if whole.schema is Schema.INSTRUMENTS:
                self.instruments = merge_instruments(self.instruments, whole.records)
            self._append(bytes(frame), whole.ts_send)
            if whole.schema in SEQUENCED:
                self.next_seq = whole.first_seq + len(whole.records)

    def flush(self) -> None:
        """Hand everything to the operating system, in one write.

        Raises:
            LogError: the disk refuses; what was not written whole is cut again and lost.
        """
        if not self._pending:
            return
        if self._fd < 0:
            raise LogError(self.path, "is closed")
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        try:
            self._write_all(data)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._good_bytes)
            raise LogError(
                self.path, f"cannot be written, {len(data)} bytes are lost: {error.strerror}"
            ) from error
        self._good_bytes += len(data)

    def close(self) -> None:
        """Flush and close; closing twice does nothing.

        Raises:
            LogError: the disk refuses.
        """
        if self._fd < 0:
            return
        try:
            self.flush()
        finally:
            os.close(self._fd)
            self._fd = -1

    def _write_records(self, schema: Schema, records: Ticks | Bars | DepthRecords) -> None:
        most = max_records(schema)
        for at in range(0, len(records), most):
            part = records[at : at + most]
            ts_recv = int(part["ts_recv"][-1])
            self._append(self._encode(schema, part, ts_recv), ts_recv)
            self.next_seq += len(part)

    def _encode(
        self, schema: Schema, records: Ticks | Bars | DepthRecords | bytes, ts_send: int
    ) -> bytes:
        return encode_frame(
            schema,
            records,
            gateway=self.gateway,
            epoch=self.epoch,
            first_seq=self.next_seq,
            ts_send=ts_send,
        )

    def _append(self, frame: bytes, ts_recv: int) -> None:
        if self._rotates and self._is_full(len(frame), ts_recv):
            self._rotate()
        if self._opened_ns is None:
            self._opened_ns = ts_recv
        self._last_ts = ts_recv
        self._pending.append(frame)
        self._pending_bytes += len(frame)
        if self._pending_bytes >= _FLUSH_BYTES:
            self.flush()

    def _is_full(self, more_bytes: int, ts_recv: int) -> bool:
        if self._opened_ns is None:
            return False
        return (
            self.bytes_written + more_bytes > self._rotate_bytes
            or ts_recv - self._opened_ns >= self._rotate_ns
        )

    def _rotate(self) -> None:
        self.close()
        self._number += 1
        try:
            self._open_segment(segment_path(self.path, self._number))
            self._delete_oldest()
        except OSError as error:
            raise LogError(self.path, f"cannot be written: {error.strerror}") from error
        self._append_definitions(self.instruments)

    def _delete_oldest(self) -> None:
        if self._keep is None:
            return
        for old in segments_of(self.path)[: -self._keep]:
            old.unlink()
            self.segments_deleted += 1

    def _append_definitions(self, instruments: Instruments) -> None:
        for frame in encode_instruments(
            instruments,
            gateway=self.gateway,
            epoch=self.epoch,
            next_seq=self.next_seq,
            ts_send=self._last_ts,
        ):
            self._pending.append(frame)
            self._pending_bytes += len(frame)

    def _open_log(self, *, append: bool, overwrite: bool) -> None:
        if self.path.exists() and not append:
            if not overwrite:
                raise LogError(self.path, "exists already; append to it, overwrite it or move it")
            _delete_log(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._rotates:
            self.path.mkdir(exist_ok=True)
            found = segments_of(self.path)
            self._number = int(found[-1].stem) if found else 1
            self._resume(segment_path(self.path, self._number), found[:-1])
        else:
            self._resume(self.path, [])

    def _resume(self, file: Path, earlier: list[Path]) -> None:
        self._open_segment(file)
        end = find_end(file)
        if end is not None:
            self._cut_after(end)
        # A segment that was begun and holds no number yet goes on with those of the one before.
        while earlier and (end is None or end.first_ts is None):
            end = find_end(earlier.pop())
            if end is not None:
                self._take_up(end)
        self._append_definitions(self.instruments)

    def _cut_after(self, end: LogEnd) -> None:
        self.cut_bytes = end.torn_bytes
        if end.torn_bytes:
            os.ftruncate(self._fd, end.good_bytes)
        self._good_bytes = end.good_bytes
        self._opened_ns = end.first_ts
        self._take_up(end)

    def _take_up(self, end: LogEnd) -> None:
        if end.epoch == self.epoch and end.gateway == self.gateway:
            self.next_seq = end.next_seq
        try:
            self.instruments = merge_instruments(end.instruments, self.instruments)
        except FrameError as error:
            raise LogError(self.path, f"cannot be appended to: {error}") from error

    def _open_segment(self, file: Path) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._good_bytes = 0
        self._opened_ns = None

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        if self._fsync:
            os.fdatasync(self._fd)


def _delete_log(path: Path) -> None:
    """Delete a log, but no directory that holds anything else."""
    if not path.is_dir():
        path.unlink()
        return
    strange = [entry.name for entry in path.iterdir() if entry.suffix != SUFFIX]
    if strange:
        raise LogError(path, f"is not a log: holds {strange[0]}")
    shutil.rmtree(path)
