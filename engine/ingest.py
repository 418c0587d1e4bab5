"""The duty cycle: one burst from the socket through decoder and pipeline, onto the recording."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.clock import WallClock
from engine.core.errors import FrameError
from engine.core.records import INSTRUMENT, Instruments, Schema, id_bound
from engine.pipeline import Pipeline
from engine.recorder import Recorder
from feeds.burst import HELD, BurstDecoder
from feeds.codec import decode_frame, merge_instruments
from latency.histogram import StageHistograms

_log = logging.getLogger(__name__)

Run = Callable[[npt.NDArray[np.void], npt.NDArray[np.void], int, int], int]
"""``Pipeline.run_ticks`` or ``run_bars``."""

_TICK: Final = int(Schema.TICK)
_BAR: Final = int(Schema.BAR)
_INSTRUMENTS: Final = int(Schema.INSTRUMENTS)

Held = Callable[
    [npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64], int, int, int], None
]
"""Takes wire, offsets, lengths, the first message not taken, the number of messages and the
monotonic time of the wake, ns."""


class Ingest:
    """Owns the decoder; belongs to the loop thread.

    Args:
        pipeline: Takes the ticks.
        decoder: Checks and unpacks the messages.
        clock: The wall clock, corrected to the gateway's.
        histograms: Gets the stages wire, ingest and compute.
        on_fault: Called with a text when the duty cycle itself failed; must halt the engine.
        recorder: Keeps the accepted frames.

    Attributes:
        bursts: Bursts taken.
        last_data_ns: Monotonic time at which data last came, sent again or not, 0 before the first.
        faults: Bursts that ended in an error of ours.
        rehearse: Called after every burst.
        on_hold: Called when decoding stopped before a gap, with what was not taken.
        divert: Takes whole bursts, from message 0 on, instead of the decoder; None: it does.
        on_gap: Called with the facts of every gap opened.
        gap_facts: Why a gap that is opened now is one; goes into its facts.
        refused_definitions: Why definitions of the stream were refused, "" if none were. What an
            instrument id means is no longer certain then, so the engine is halted.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        decoder: BurstDecoder,
        clock: WallClock,
        histograms: StageHistograms,
        on_fault: Callable[[str], None],
        recorder: Recorder | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.decoder = decoder
        self.recorder = recorder
        self.bursts = 0
        self.last_data_ns = 0
        self.faults = 0
        self.refused_definitions = ""
        self.rehearse: Callable[[], None] = _nothing
        self.on_hold: Held | None = None
        self.divert: Held | None = None
        self.on_gap: Callable[[Mapping[str, Any]], None] | None = None
        self.gap_facts: Mapping[str, Any] = {}
        self._clock = clock
        self._histograms = histograms
        self._intended = decoder.origins["ts_intended"]
        self._defined: Instruments = np.zeros(0, INSTRUMENT)
        self._gaps = 0
        self._on_fault = on_fault

    def define(self, instruments: Instruments) -> None:
        """Take definitions that did not come with the stream, and record them too."""
        if self.recorder is not None:
            self.recorder.define(instruments)
        self.learn(instruments)

    @property
    def defined(self) -> Instruments:
        """All definitions so far, INSTRUMENT, shape (I,), by id."""
        return self._defined

    def adopt(self, instruments: Instruments) -> None:
        """Take over definitions that the pipeline has already, from a snapshot."""
        self._defined = instruments
        self.decoder.known_instruments = len(instruments)

    def forget(self) -> None:
        """Know no instrument any more."""
        self.adopt(self._defined[:0])

    def learn(self, instruments: Instruments) -> None:
        """Take definitions that are recorded already, or are not to be.

        Ticks of instruments beyond the kernel's capacity stay unknown, and are refused.

        Raises:
            FrameError: they contradict those before; nothing was taken.
        """
        self._defined = merge_instruments(self._defined, instruments)
        self.pipeline.define(instruments)
        known = min(id_bound(instruments), self.pipeline.kernel.instruments)
        self.decoder.known_instruments = max(self.decoder.known_instruments, known)

    def on_burst(
        self,
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        count: int,
        woken_ns: int,
    ) -> None:
        """Take the messages that the receiver drained; ``woken_ns`` is monotonic."""
        self.bursts += 1
        self.last_data_ns = woken_ns
        try:
            if self.divert is not None:
                self.divert(wire, offsets, lengths, 0, count, woken_ns)
            else:
                reached = self.take(wire, offsets, lengths, 0, count, woken_ns)
                if reached < count and self.on_hold is not None:
                    self.on_hold(wire, offsets, lengths, reached, count, woken_ns)
            self.rehearse()
        except Exception as error:  # noqa: BLE001 - the duty cycle's guard: fail closed, stay up
            self._fail(error)

    def guard(self, act: Callable[[], None]) -> None:
        """Do work of the duty cycle that no burst has set off."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the duty cycle's guard: fail closed, stay up
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.faults += 1
        _log.critical("the duty cycle failed", exc_info=error)
        self._on_fault(f"{type(error).__name__}: {error}")

    def take(
        self,
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        at: int,
        count: int,
        woken_ns: int,
    ) -> int:
        """Take messages ``at`` to ``count - 1``; return the first not taken, before a gap."""
        decoder = self.decoder
        while at < count:
            segment = decoder.decode(wire, offsets, lengths, at, count)
            if self.recorder is not None:
                self.recorder.keep(wire, offsets, lengths, at, at + segment.consumed)
            at += segment.consumed
            if segment.schema == _TICK:
                self._run(self.pipeline.run_ticks, decoder.ticks, segment.count, woken_ns)
                if self.pipeline.gaps != self._gaps:
                    self._tell_gaps()
            elif segment.schema == _BAR:
                self._run(self.pipeline.run_bars, decoder.bars, segment.count, woken_ns)
            elif segment.schema == _INSTRUMENTS:
                self._learn(wire, int(offsets[at - 1]))
            elif segment.schema == HELD:
                return at
        return at

    def _tell_gaps(self) -> None:
        """Journal the records that did not come; beyond the decoder's bound they are counted."""
        self._gaps = self.pipeline.gaps
        for gap in self.decoder.take_gaps():
            facts = {**gap._asdict(), **self.gap_facts}
            self.pipeline.judge.sink.on_event("gap", 0, facts)
            if self.on_gap is not None:
                self.on_gap(facts)

    def _run(self, run: Run, records: npt.NDArray[np.void], count: int, woken_ns: int) -> None:
        arrived_ns = self._clock.now_ns()
        ingest_ns = time.perf_counter_ns() - woken_ns
        compute_ns = run(records, self.decoder.origins, 0, count)
        self._histograms.record_burst(arrived_ns, self._intended, ingest_ns, compute_ns, count)

    def _learn(self, wire: npt.NDArray[np.uint8], offset: int) -> None:
        try:
            self.learn(decode_frame(wire.data, offset).records)
        except FrameError as error:
            self.refused_definitions = f"instrument definitions refused: {error}"
            _log.error(
                "%s; if the gateway's are right, restart, then `heqis state active`",
                self.refused_definitions,
            )
            self._on_fault(self.refused_definitions)


def _nothing() -> None:
    return
