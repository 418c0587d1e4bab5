"""What a gateway sent, on disk: a rotated log a run, bounded as a whole, oldest segments first."""

from pathlib import Path

from engine.core.errors import LogError
from engine.core.records import Instruments
from feeds.config import SpoolConfig
from feeds.log_writer import LogWriter
from feeds.sequencer import Sequenced


class Spool:
    """Writes the frames of one stream; owned by its gateway.

    A disk that refuses costs the frames that were waiting to be written, which are counted, and
    never stops the gateway.

    Attributes:
        path: This run's log.
        failed_flushes: Writes the disk refused.
        last_error: The text of the latest refusal, "" if there was none.
        pruned_bytes: Bytes removed to keep the bound.

    Raises:
        LogError: this run's log cannot be created.
    """

    def __init__(
        self, config: SpoolConfig, instruments: Instruments, *, gateway: int, epoch: int
    ) -> None:
        self._config = config
        self.path = config.directory / f"gateway-{gateway}-{epoch}.hql"
        self._writer = LogWriter(
            self.path,
            instruments,
            gateway=gateway,
            epoch=epoch,
            rotate_bytes=config.rotate_bytes,
            rotate_ns=config.rotate_interval,
        )
        self.failed_flushes = 0
        self.last_error = ""
        self.pruned_bytes = 0
        self._unpruned_bytes = 0
        self._prune()

    def append(self, frame: Sequenced) -> None:
        """Keep one frame, exactly as it is sent."""
        self._unpruned_bytes += len(frame.frame)
        try:
            self._writer.append_frame(frame.frame)
        except LogError as error:
            self._count(error)

    def flush(self) -> None:
        """Write what waits and bring the directory back under its bound."""
        try:
            self._writer.flush()
        except LogError as error:
            self._count(error)
        if self._unpruned_bytes > self._config.rotate_bytes // 4:
            self._prune()

    def close(self) -> None:
        """Flush and close this run's log."""
        try:
            self._writer.close()
        except LogError as error:
            self._count(error)
        self._prune()

    def _count(self, error: LogError) -> None:
        self.failed_flushes += 1
        self.last_error = str(error)

    def _prune(self) -> None:
        self._unpruned_bytes = 0
        segments = sorted(
            self._config.directory.glob("gateway-*.hql/*.hql"), key=lambda path: _age_key(path)
        )
        sizes = [_size(path) for path in segments]
        excess = sum(sizes) - self._config.max_bytes
        for path, size in zip(segments[:-1], sizes, strict=False):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size
            self.pruned_bytes += size
            if not any(path.parent.iterdir()):
                path.parent.rmdir()


def _age_key(path: Path) -> tuple[int, str]:
    epoch = path.parent.stem.rpartition("-")[2]
    return (int(epoch) if epoch.isdigit() else 0, path.name)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
