"""Writes a tape as a log again, with the numbers that its records have."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.core.records import INSTRUMENT, Schema, TickKind
from feeds.log_writer import LogWriter
from replay.analysis.lookahead_tape import Span, Tape

Records = npt.NDArray[np.void]


def write_tape(tape: Tape, path: Path) -> None:
    """Write the records and definitions of a tape; GAP ticks become missing numbers.

    Raises:
        LogError: the disk refuses.
    """
    writer = _TapeWriter(path)
    for span in tape.spans:
        if span.schema == Schema.INSTRUMENTS:
            writer.define(span)
        else:
            writer.write(tape, span)
    writer.close()


class _TapeWriter:
    """One log in the making; a new epoch, or another gateway, goes on in the same file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: LogWriter | None = None
        self._defined = np.zeros(0, INSTRUMENT)

    def define(self, span: Span) -> None:
        if self._writer is not None:
            self._writer.define(span.defined)
        else:
            self._defined = span.defined

    def write(self, tape: Tape, span: Span) -> None:
        stop = min(span.stop, len(tape.of(span.schema)))
        records = tape.of(span.schema)[span.start : stop]
        origins = tape.origins_of(span.schema)[span.start : stop]
        if not len(records):
            return
        step = np.diff(origins["seq"].astype(np.int64)) != 1
        other = np.diff(origins["epoch"].astype(np.int64)) != 0
        gap = np.zeros(len(records), bool)
        if span.schema == Schema.TICK:
            gap = records["kind"] == TickKind.GAP
        breaks = np.flatnonzero(step | other | gap[1:] | gap[:-1]) + 1
        for part in np.split(np.arange(len(records)), breaks):
            if not gap[part[0]]:
                self._append(span.schema, records[part], origins[part])

    def _append(self, schema: Schema, records: Records, origins: Records) -> None:
        epoch, gateway = int(origins["epoch"][0]), int(origins["gateway"][0])
        writer = self._writer
        if writer is None or (writer.epoch, writer.gateway) != (epoch, gateway):
            self.close()
            writer = LogWriter(
                self._path, self._defined, gateway=gateway, epoch=epoch, append=self._path.exists()
            )
            self._writer = writer
        writer.next_seq = int(origins["seq"][0])
        if schema == Schema.BAR:
            writer.write_bars(records)
        else:
            writer.write_ticks(records)

    def close(self) -> None:
        if self._writer is not None:
            self._defined = self._writer.instruments
            self._writer.close()
            self._writer = None
