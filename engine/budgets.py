"""Keeps the engine within its budgets: reads what is used and takes the ladder's steps."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Protocol

from engine.budget_ladder import BudgetChange, BudgetLadder, BudgetLevel, BudgetReading
from engine.budget_readings import (
    available_bytes,
    disk_free_bytes,
    hottest_c,
    memory_limit_bytes,
    rss_bytes,
)
from engine.pipeline import Pipeline
from engine.supervision_config import BudgetsConfig

NS_PER_S: Final = 1_000_000_000
TOLD_SYMBOLS: Final = 64
Tell = Callable[[str, Mapping[str, Any]], None]


class Batches(Protocol):
    """The part of an inference that the ladder turns down."""

    @property
    def fullness(self) -> float:
        """The fullest queue, as a part of its bound."""
        ...

    def limit_batches(self, share: float) -> None:
        """Let no batch be larger than this part of the largest."""
        ...


class Budgets:
    """Owned by the loop thread; reads on other threads, because a disk may not answer.

    Of one that does not, the room it had when it last did counts; the journal raises the alarm.

    Args:
        config: The limits.
        pipeline: Whose least important instruments are left out.
        journal: Path of the journal, for the room on its file system.
        queue_frac: Returns the journal's queue as a part of its bound.
        batches: The models' inference; None without models.
        tell: Journals a step.
        halt: Ends the engine for the reason given.

    Attributes:
        ladder: The step now.
        readings: What was read last, by name.
    """

    def __init__(
        self,
        config: BudgetsConfig,
        *,
        pipeline: Pipeline,
        journal: Path,
        queue_frac: Callable[[], float],
        batches: Batches | None,
        tell: Tell,
        halt: Callable[[str], None],
    ) -> None:
        self.config = config
        self.ladder = BudgetLadder(config.hold, config.release, config.release_margin)
        self.readings: dict[str, float] = {}
        self._pipeline = pipeline
        self._journal = journal
        self._queue_frac = queue_frac
        self._batches = batches
        self._tell = tell
        self._halt = halt
        self._memory_bytes = memory_limit_bytes()
        self._free_bytes = math.nan
        self._left_out: set[int] = set()

    def take_config(self, config: BudgetsConfig) -> None:
        """Go by other limits from now on."""
        self.config = config
        self.ladder.hold_ns, self.ladder.release_ns = config.hold, config.release
        self.ladder.margin = config.release_margin

    async def run(self) -> None:
        """Look again and again."""
        loop = asyncio.get_running_loop()
        disk: asyncio.Future[float] | None = None
        while True:
            if disk is None:
                disk = loop.run_in_executor(None, disk_free_bytes, self._journal.parent)
            machine = await asyncio.to_thread(self._read_machine)
            if disk.done():
                self._free_bytes, disk = disk.result(), None
            self.look(time.monotonic_ns(), [*machine, self._read_disk(), self._read_queues()])
            await asyncio.sleep(self.config.check_interval / NS_PER_S)

    def look(self, now_ns: int, readings: list[BudgetReading]) -> None:
        """Take in what is used; take the step that is due."""
        self.readings = {one.name: one.value for one in readings}
        change = self.ladder.look(now_ns, readings)
        if change is not None:
            self._take(change)
        elif self.ladder.level >= BudgetLevel.FEWER_INSTRUMENTS:
            self._leave_out()

    def problems(self) -> list[str]:
        """Return what the engine does without."""
        level = self.ladder.level
        if level is BudgetLevel.NORMAL:
            return []
        return [f"budget: {level.name.lower().replace('_', ' ')}"]

    def status(self) -> dict[str, Any]:
        """Return step and readings."""
        return {
            "level": self.ladder.level.name.lower(),
            "left_out": len(self._left_out),
            **self.readings,
        }

    def _read_machine(self) -> list[BudgetReading]:
        config = self.config
        memory = rss_bytes() / self._memory_bytes
        return [
            BudgetReading("memory_frac", memory, config.memory_frac),
            BudgetReading(
                "memory_available_bytes",
                available_bytes(),
                config.memory_available_bytes,
                falling=True,
            ),
            BudgetReading("temperature_c", hottest_c(), config.temperature_c),
        ]

    def _read_disk(self) -> BudgetReading:
        limits = self.config.disk_free_bytes
        return BudgetReading("disk_free_bytes", self._free_bytes, limits, falling=True)

    def _read_queues(self) -> BudgetReading:
        fullest = self._queue_frac()
        if self._batches is not None:
            fullest = max(fullest, self._batches.fullness)
        return BudgetReading("queue_frac", fullest, self.config.queue_frac)

    def _take(self, change: BudgetChange) -> None:
        because = ", ".join(change.because)
        fields = {"from": change.before.name.lower(), "to": change.after.name.lower()}
        self._tell("budget", {**fields, "because": because, **self.readings})
        if self._batches is not None:
            smaller = change.after >= BudgetLevel.SMALLER_BATCHES
            self._batches.limit_batches(self.config.batch_frac if smaller else 1.0)
        if change.after >= BudgetLevel.FEWER_INSTRUMENTS:
            self._leave_out()
        else:
            self._take_back()
        if change.after is BudgetLevel.HALT:
            self._halt(f"budget used up: {because}")

    def _leave_out(self) -> None:
        """Ask no strategy about the least important instruments any more; tell which."""
        pipeline = self._pipeline
        patterns = self.config.least_important
        meant = {
            number
            for number, symbol in enumerate(pipeline.symbols)
            if symbol and any(fnmatchcase(symbol, pattern) for pattern in patterns)
        }
        rules = len(pipeline.kernel.plan.rules)
        for number in meant:
            pipeline.kernel.enabled[:rules, number] = 0
            for hosted in pipeline.host.hosted:
                hosted.watched.discard(number)
        self._tell_about("instruments_left_out", meant - self._left_out)
        self._left_out |= meant

    def _take_back(self) -> None:
        pipeline = self._pipeline
        for number in self._left_out:
            symbol = pipeline.symbols[number]
            for index in range(len(pipeline.kernel.plan.rules)):
                looks = pipeline.judge.strategies[index].looks_at(symbol)
                pipeline.kernel.enabled[index, number] = looks
            for hosted in pipeline.host.hosted:
                if pipeline.judge.strategies[hosted.number].looks_at(symbol):
                    hosted.watched.add(number)
        self._tell_about("instruments_taken_back", self._left_out)
        self._left_out = set()

    def _tell_about(self, kind: str, numbers: set[int]) -> None:
        if numbers:
            symbols = sorted(self._pipeline.symbols[number] for number in numbers)
            fields = {"count": len(symbols), "first": symbols[:TOLD_SYMBOLS]}
            self._tell(kind, fields)
