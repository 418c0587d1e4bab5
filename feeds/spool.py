"""What a gateway sent, on disk: a rotated log a run, bounded as a whole, oldest segments first."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.core.errors import LogError
from engine.core.records import Instruments, Schema
from feeds.codec import decode_frame, merge_instruments
from feeds.config import SpoolConfig
from feeds.log_writer import LogWriter
from feeds.sequencer import Sequenced
from feeds.spool_end import MARK, EndMarks

_log = logging.getLogger(__name__)

_RETRY_FLUSHES: Final = 100
"""Flushes without a log after which a disk that refused is tried again."""


class Spool:
    """Writes the frames of one stream; owned by its gateway.

    A disk that refuses never stops the gateway: the log is left, what is not written meanwhile is
    counted, and from time to time the log is opened again. From then until a later number is in the
    log it is torn: where the stream ends is not known if the gateway dies.

    Attributes:
        path: This run's log.
        failures: Times the disk refused.
        lost_frames: Frames that came while there was no log; a failing write loses up to a
            megabyte besides.
        last_error: The text of the latest refusal, "" if there was none.
        pruned_bytes: Bytes removed to keep the bound.
        whole: The log ends where the stream does, and that would be known if this process died.

    Raises:
        LogError: this run's log cannot be created.
    """

    def __init__(
        self, config: SpoolConfig, instruments: Instruments, *, gateway: int, epoch: int
    ) -> None:
        self._config = config
        self._instruments = instruments
        self._gateway = gateway
        self._epoch = epoch
        self.path = config.directory / f"gateway-{gateway}-{epoch}.hql"
        self.failures = 0
        self.lost_frames = 0
        self.last_error = ""
        self.pruned_bytes = 0
        self._retry_in = 0
        self._unpruned_bytes = 0
        self._rotate_bytes = min(config.rotate_bytes, config.max_bytes // 4)
        self._step_bytes = self._rotate_bytes // 4
        self._last = b""
        self._torn = False
        self._ends = EndMarks(config.directory, config.memory, gateway)
        self._writer: LogWriter | None = self._open()
        self.whole = self._ends.vouch(epoch)
        self._prune()

    def append(self, frame: Sequenced) -> None:
        """Keep one frame, exactly as it is sent."""
        if not frame.consumed:
            self._learn(frame.frame)
        if self._writer is None:
            self.lost_frames += 1
            return
        self._unpruned_bytes += len(frame.frame)
        if frame.consumed:
            self._last = frame.frame
        try:
            self._writer.append_frame(frame.frame)
        except LogError as error:
            self._leave(error)

    def commit(self) -> None:
        """Bring the directory back under its bound and hand what waits to the operating system.

        That keeps it if this process is killed.
        """
        if self._writer is None:
            return
        if self._unpruned_bytes > self._step_bytes:
            self._prune()
        try:
            self._writer.flush()
        except LogError as error:
            self._leave(error)
            return
        if self._torn and self._last:
            self._torn = False
            self.whole = self._ends.vouch(self._epoch)

    def flush(self) -> None:
        """Write what waits, try a failed disk again."""
        if self._writer is None:
            self._try_again()
            return
        self.commit()

    def close(self) -> None:
        """Flush and close this run's log."""
        self.commit()
        if self._writer is not None:
            try:
                self._writer.close()
            except LogError as error:
                self._leave(error)
            else:
                self._settle()
        self._prune()

    def _settle(self) -> None:
        """Write down where the stream ended; where that fails, what was vouched for still holds."""
        end_seq = self._end_seq()
        if self._torn or end_seq is None:
            return
        try:
            self._ends.settle(self._epoch, end_seq)
        except OSError as error:
            self.failures += 1
            self.last_error = f"{self.path}: its end cannot be marked: {error.strerror}"
            return
        self._ends.withdraw(self._epoch)

    def _end_seq(self) -> int | None:
        """Return one past the last number; None where the numbers are those of another log."""
        if not self._last:
            return 1
        last = decode_frame(self._last)
        return last.first_seq + len(last.records) if last.epoch == self._epoch else None

    def _open(self) -> LogWriter:
        return LogWriter(
            self.path,
            self._instruments,
            gateway=self._gateway,
            epoch=self._epoch,
            rotate_bytes=self._rotate_bytes,
            rotate_ns=self._config.rotate_interval,
            append=True,
        )

    def _learn(self, frame: bytes) -> None:
        decoded = decode_frame(frame)
        if decoded.schema is Schema.INSTRUMENTS:
            self._instruments = merge_instruments(self._instruments, decoded.records)

    def _leave(self, error: LogError) -> None:
        self.failures += 1
        self.last_error = str(error)
        self._retry_in = _RETRY_FLUSHES
        self._torn, self._last, self.whole = True, b"", False
        self._ends.withdraw(self._epoch)
        _log.error("spool: %s", error)
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(LogError):
                writer.close()

    def _try_again(self) -> None:
        self._retry_in -= 1
        if self._retry_in > 0:
            return
        try:
            self._writer = self._open()
        except LogError as error:
            self._leave(error)

    def _prune(self) -> None:
        self._unpruned_bytes = 0
        try:
            self._remove_oldest()
            logs = self._config.directory.glob(f"gateway-{self._gateway}-*.hql")
            self._ends.tidy({_epoch_of(log) for log in logs})
        except OSError as error:
            self.failures += 1
            self.last_error = f"{self._config.directory}: cannot be pruned: {error.strerror}"

    def _remove_oldest(self) -> None:
        """Make room for what may come before the next time, so that the bound is never passed."""
        segments = sorted(self._config.directory.glob("gateway-*.hql/*.hql"), key=_age_key)
        sizes = [_size(path) for path in segments]
        excess = sum(sizes) + 2 * self._step_bytes - self._config.max_bytes
        for path, size in zip(segments[:-1], sizes, strict=False):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size
            self.pruned_bytes += size
            if not any(path.parent.glob("*.hql")):
                (path.parent / MARK).unlink(missing_ok=True)
                path.parent.rmdir()


def _age_key(path: Path) -> tuple[int, str]:
    return _epoch_of(path.parent), path.name


def _epoch_of(log: Path) -> int:
    epoch = log.stem.rpartition("-")[2]
    return int(epoch) if epoch.isdigit() else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
