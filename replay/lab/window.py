"""The part of a log that the lab replays, checked before anything is started."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from engine.core.errors import InputFileError
from engine.core.records import TICK, Instruments, Schema, TickKind, Ticks
from feeds.burst import BurstDecoder
from feeds.codec import decode_frame, merge_instruments
from feeds.log_index import SCHEMA
from feeds.log_reader import LogReader
from replay.bursts import FAULT_PREFIXES

MAX_TICKS: Final = 2_000_000
"""Most ticks of one run; they are held in memory, 80 bytes each."""
LARGEST_STEP_NS: Final = 1_000_000_000
"""A log whose receive times step back by more is not in order."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What is replayed.

    Attributes:
        ticks: TICK without heartbeats and gaps, shape (N,), N >= 2.
        instruments: As they were defined before the first of the ticks.
        steps_back: Ticks received before the one that precedes them, by less than a second.
        cut: The log goes on, but not the window: it is full.
        faults: What of the log could not be read or is missing from it, by name, as far as it was
            read.
    """

    ticks: Ticks
    instruments: Instruments
    steps_back: int
    cut: bool
    faults: dict[str, int]

    @property
    def span_ns(self) -> int:
        """Recorded time from the first tick to the latest."""
        received = self.ticks["ts_recv"]
        return int(received.max() - received[0])


def load_window(path: Path, skip_ns: int = 0, most: int = MAX_TICKS) -> Window:
    """Read the ticks of a log.

    Args:
        path: The log.
        skip_ns: Recorded time left out at its beginning.
        most: Ticks at most.

    Raises:
        InputFileError: there is no such log, no ticks in it, or they are not in order.
        LogError: it is no log, or empty.
    """
    with LogReader(path) as reader:
        place = _first_frame(reader, skip_ns)
        parts: list[Ticks] = []
        held = gaps = 0
        decoder = BurstDecoder(len(reader.instruments))
        for batch in reader.batches(place, decoder=decoder):
            kinds = batch.ticks["kind"]
            gaps += int(np.count_nonzero(kinds == TickKind.GAP))
            kept = batch.ticks[(kinds != TickKind.HEARTBEAT) & (kinds != TickKind.GAP)]
            parts.append(kept.copy())
            held += len(kept)
            if held >= most:
                break
        ticks = np.concatenate([np.zeros(0, TICK), *parts])
        if len(ticks) < 2:
            raise InputFileError(path, _why_empty(reader, len(ticks), skip_ns))
        steps_back = _check_order(path, ticks)
        faults = _faults(reader, decoder, gaps)
        return Window(ticks[:most], _defined_at(reader, place), steps_back, held > most, faults)


def _faults(reader: LogReader, decoder: BurstDecoder, gaps: int) -> dict[str, int]:
    named = decoder.count_by_name().items()
    found = {name: count for name, count in named if name.startswith(FAULT_PREFIXES)}
    damaged_bytes = sum(damage.length for _, damage in reader.damage)
    more = {"gaps": gaps, "damaged_bytes": damaged_bytes, "torn_bytes": reader.cut_bytes}
    return {**found, **{name: count for name, count in more.items() if count}}


def _first_frame(reader: LogReader, skip_ns: int) -> int:
    if not skip_ns:
        return 0
    first_ns = reader.summary()["first_ts_recv"]
    return len(reader.frames) if first_ns is None else reader.seek_time(first_ns + skip_ns)


def _why_empty(reader: LogReader, found: int, skip_ns: int) -> str:
    if skip_ns and np.any(reader.frames[:, SCHEMA] == Schema.TICK):
        return "no ticks are left after what --skip leaves out"
    schemas = {Schema(int(number)).name for number in np.unique(reader.frames[:, SCHEMA])}
    if "BAR" in schemas:
        return "it holds bars; the latency lab replays ticks, as a gateway sends them"
    held = ", ".join(sorted(schemas)) or "nothing"
    return f"{found} ticks in it, at least 2 are needed; its frames hold: {held}"


def _check_order(path: Path, ticks: Ticks) -> int:
    steps = np.diff(ticks["ts_recv"])
    if len(steps) and steps.min() < -LARGEST_STEP_NS:
        at = int(np.argmax(steps < -LARGEST_STEP_NS)) + 1
        raise InputFileError(
            path,
            f"not in order: tick {at:,} was received {-steps[at - 1] / 1e9:.1f} s before the one "
            "that precedes it; replay a log as it was recorded or imported",
        )
    if not ticks["ts_recv"].max() > ticks["ts_recv"][0]:
        raise InputFileError(path, "all its ticks were received at one moment: no gaps to replay")
    return int(np.count_nonzero(steps < 0))


def _defined_at(reader: LogReader, place: int) -> Instruments:
    """Return the definitions in force at a frame; those that come later for what is unknown."""
    table = reader.instruments
    ticks = np.flatnonzero(reader.frames[place:, SCHEMA] == Schema.TICK)
    stop = place + int(ticks[0]) if len(ticks) else place
    for at in np.flatnonzero(reader.frames[:stop, SCHEMA] == Schema.INSTRUMENTS).tolist():
        segment = next(reader.segments(at, at + 1))
        rows = decode_frame(segment.wire.data, int(segment.offsets[0])).records
        table = merge_instruments(table, rows)
    return table
