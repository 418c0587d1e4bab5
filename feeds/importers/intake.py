"""Where every importer's rows end: cleaned, flagged, counted, and written to a new tick log.

The log is written under a temporary name beside its own and renamed at the end, so that a failed
import leaves nothing behind. Its epoch is the receive time of its first record: the same input
gives the same bytes.
"""

import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import INSTRUMENT, MAX_RAW_BYTES, Bars, Instruments
from feeds.books.depth_records import DepthRecords
from feeds.cleaning import FAULTS, Cleaner, faults_nb
from feeds.importers.merging import Batch
from feeds.importers.report import ImportReport
from feeds.log_writer import LogWriter

GATEWAY_ID: Final = 1


class LogIntake:
    """Writes one log; the only writer of its report's counts of kept rows.

    Importers ``register`` every instrument before they hand over a batch that uses it; what changes
    later in its definition rides in the batch from which it holds.

    Args:
        output: The log to make; must not exist.
        report: Counts what comes in.
    """

    def __init__(self, output: Path, report: ImportReport) -> None:
        self.report = report
        self._output = output
        self._partial = output.with_name(f".{output.name}.partial")
        self._numbers: dict[str, int] = {}
        self._pending: list[Instruments] = []
        self._defined: dict[int, bytes] = {}
        self._cleaner = Cleaner(0)
        self._writer: LogWriter | None = None

    def __enter__(self) -> Self:
        if self._output.exists():
            raise InputFileError(self._output, "exists already; name another log or remove it")
        if not self._output.parent.is_dir():
            raise InputFileError(self._output, f"no such directory as {self._output.parent}")
        self._discard()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        if kind is not None:
            self._discard()

    def finish(self) -> None:
        """Give the finished log its name.

        Raises:
            InputFileError: an input file gave nothing that could be used.
        """
        self.report.require_usable_files()
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        self._partial.replace(self._output)

    def register(self, definition: Instruments) -> int:
        """Return the id of an instrument; a new one gets the next, and is defined before its use.

        Args:
            definition: One INSTRUMENT row; its id is set here.
        """
        symbol = definition["symbol"][0].decode()
        if symbol not in self._numbers:
            self._numbers[symbol] = len(self._numbers)
            self.report.instruments.append(symbol)
            self._cleaner.grow(len(self._numbers))
            definition["id"] = self._numbers[symbol]
            self._pending.append(definition)
        definition["id"] = self._numbers[symbol]
        return self._numbers[symbol]

    def ticks(self, batch: Batch) -> None:
        """Clean and write a batch of ticks in the order given."""
        self._pending.extend(batch.definitions)
        kept, _ = self.screen(batch)
        if len(kept.ticks):
            self._open(int(kept.ticks["ts_recv"][0])).write_ticks(kept.ticks)

    def screen(self, batch: Batch) -> tuple[Batch, npt.NDArray[np.bool_]]:
        """Refuse the faulty ticks of a batch, flag and count the others; write nothing yet.

        Returns:
            The kept ticks, and which of those given they are, shape (N,).
        """
        ticks = np.ascontiguousarray(batch.ticks)
        faults = np.zeros(len(ticks), np.uint8)
        faults_nb(ticks, len(self._numbers), faults)
        good = faults == 0
        if not good.all():
            self._refuse(faults, batch)
            batch = batch._replace(rows=batch.rows[good], places=batch.places[good])
            ticks = ticks[good]
        if len(ticks):
            self._cleaner.clean(ticks)
            self.report.ticks += len(ticks)
            self.report.count_flags(ticks["flags"])
            self.report.count_times(ticks["ts_recv"])
            self.report.recognise(batch.places)
        return batch._replace(ticks=ticks), good

    def write_screened(self, batch: Batch, start: int, stop: int) -> None:
        """Write part of a screened batch."""
        if stop > start:
            ticks = batch.ticks[start:stop]
            self._open(int(ticks["ts_recv"][0])).write_ticks(ticks)

    def bars(self, bars: Bars, places: npt.NDArray[np.int32]) -> None:
        """Write checked bars, ``ts_recv`` not decreasing, shape (N,)."""
        if not len(bars):
            return
        self.report.bars += len(bars)
        self.report.count_flags(bars["flags"])
        self.report.count_times(bars["ts_recv"])
        self.report.recognise(places)
        self._open(int(bars["ts_recv"][0])).write_bars(bars)

    def depth(self, records: DepthRecords) -> None:
        """Write depth records made from a book, ``ts_recv`` not decreasing, shape (N,), N >= 1."""
        self.report.depth += len(records)
        self.report.count_times(records["ts_recv"])
        self._open(int(records["ts_recv"][0])).write_depth(records)

    def raw(self, payload: bytes, ts_recv: int, place: int, row: int, *, known: bool) -> None:
        """Keep one line as it came; ``known``: it is what its file was said to hold."""
        if len(payload) > MAX_RAW_BYTES:
            self.report.refuse("too_long", place, (row,))
            return
        self.report.raw += 1
        self.report.count_times(np.array([ts_recv]))
        if known:
            self.report.recognise(place)
        self._open(ts_recv).write_raw(payload, ts_recv)

    def _refuse(self, faults: npt.NDArray[np.uint8], batch: Batch) -> None:
        for at in np.flatnonzero(faults).tolist():
            reason = FAULTS[faults[at]].lower()
            self.report.refuse(reason, int(batch.places[at]), (int(batch.rows[at]),))

    def _open(self, first_ns: int) -> LogWriter:
        if self._writer is None:
            self._writer = LogWriter(
                self._partial, self._take_pending(), gateway=GATEWAY_ID, epoch=first_ns
            )
        elif self._pending and len(changed := self._take_pending()):
            self._writer.define(changed)
        return self._writer

    def _take_pending(self) -> Instruments:
        latest = {int(row["id"]): row for rows in self._pending for row in rows}
        latest = {
            key: row for key, row in latest.items() if self._defined.get(key) != row.tobytes()
        }
        self._defined |= {k: row.tobytes() for k, row in latest.items()}
        self._pending.clear()
        defined = np.zeros(len(latest), INSTRUMENT)
        for place, number in enumerate(sorted(latest)):
            defined[place] = latest[number]
        return defined

    def _discard(self) -> None:
        if self._partial.is_dir():
            shutil.rmtree(self._partial)
        else:
            self._partial.unlink(missing_ok=True)
