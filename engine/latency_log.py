"""Stage latencies over time: the ``.hlog``, and what the last minute was like."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from latency.counts import StageCounts, StageSummary, merge_all
from latency.histogram import StageHistograms
from latency.hlog import HlogWriter
from latency.stages import model_stage
from latency.stall import StallMeter
from latency.steady import steady_ns

_log = logging.getLogger(__name__)
RECENT_NS: Final = 60_000_000_000
_NS_PER_S: Final = 1_000_000_000

Parts = dict[str, StageCounts]
ModelTimes = Mapping[tuple[str, str], StageHistograms]
"""Histograms by model and device."""


def no_models() -> ModelTimes:
    """Return nothing: there are no models."""
    return {}


class LatencyLog:
    """Takes what was recorded, an interval at a time; belongs to the loop thread.

    A disk that refuses ends the ``.hlog``, not the measuring.

    Args:
        path: The ``.hlog``; None for none.
        interval_ns: Length of an interval.
        histograms: The stages.
        meter: The loop's lateness.
        models: Returns the histograms of models, which may become more while the engine runs;
            their stages are told as ``queue:MODEL@DEVICE`` and ``inference:MODEL@DEVICE``.

    Attributes:
        recent: Each stage over about the last minute, as of the last interval.
        failed: Why the ``.hlog`` ended, "" while it goes on.
    """

    def __init__(
        self,
        path: Path | None,
        interval_ns: int,
        histograms: StageHistograms,
        meter: StallMeter,
        models: Callable[[], ModelTimes] = no_models,
    ) -> None:
        self.recent: dict[str, StageSummary] = {}
        self.failed = ""
        self._path = path
        self._interval_ns = interval_ns
        self._histograms = histograms
        self._meter = meter
        self._models = models
        self._kept: deque[Parts] = deque(maxlen=max(1, RECENT_NS // interval_ns))

    async def run(self) -> None:
        """Take intervals until cancelled; the last one is written then."""
        began = steady_ns()
        writer = self._open(began)
        try:
            while True:
                await asyncio.sleep(self._interval_ns / _NS_PER_S)
                parts, ended = self._take(), steady_ns()
                recent: dict[str, StageSummary] = {}
                for stage, counts in parts.items():
                    self._append(writer, stage, counts, (began, ended))
                    recent[stage] = self._recent(stage)
                    await asyncio.sleep(0)
                self.recent, began = recent, ended
        finally:
            for stage, counts in self._take().items():
                self._append(writer, stage, counts, (began, steady_ns()))
            self._close(writer)

    def _take(self) -> Parts:
        parts = {
            **self._histograms.take_interval(),
            **self._meter.take_interval(),
            **self._take_models(),
        }
        self._kept.append(parts)
        return parts

    def _recent(self, stage: str) -> StageSummary:
        return merge_all([kept[stage] for kept in self._kept if stage in kept]).summary()

    def _take_models(self) -> Parts:
        return {
            model_stage(stage, model, device): counts
            for (model, device), histograms in self._models().items()
            for stage, counts in histograms.take_interval().items()
        }

    def _open(self, began_ns: int) -> HlogWriter | None:
        if self._path is None:
            return None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return HlogWriter(self._path, began_ns)
        except OSError as error:
            self._fail(error)
            return None

    def _append(
        self, writer: HlogWriter | None, stage: str, counts: StageCounts, span: tuple[int, int]
    ) -> None:
        if writer is None or self.failed:
            return
        try:
            writer.append(stage, counts, *span)
        except OSError as error:
            self._fail(error)

    def _close(self, writer: HlogWriter | None) -> None:
        if writer is None:
            return
        try:
            writer.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failed = f"{self._path}: {error.strerror}"
        _log.error("no latency is logged any more: %s", self.failed)
