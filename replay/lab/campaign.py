"""A session of the lab: every speed, every repeat, the search; and which runs count."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from engine.config import Config
from engine.config_text import config_toml
from engine.core.errors import ConfigError
from latency.report import format_ns
from latency.stages import Stage
from replay.lab.measured import END_TO_END, INJECTOR
from replay.lab.results import Result, Run, host_facts
from replay.lab.schedule import Pace, due_times
from replay.lab.search import Search, Step
from replay.lab.session import Outcome, Session
from replay.lab.settings import OPTIONS, LabSettings
from replay.lab.window import load_window

FIRST_RATE: Final = 2_000.0
"""Ticks a second with which the search begins, unless a slower speed was asked for by itself."""
SEARCH_NS: Final = 5_000_000_000
"""Most that is measured of a step of the search."""
LEAST_SEARCH_NS: Final = 1_000_000_000
FEWEST: Final = 100
"""Values that a 99th percentile needs."""
ENDED_EARLY: Final = 0.9
WIRE: Final = Stage.WIRE.name.lower()
LEAST_SHARE: Final = 1 / 1024

Say = Callable[[str], None]


class Campaign:
    """Everything that one ``heqis latency run`` does.

    Args:
        config: The user's configuration.
        settings: What was asked for.
        say: Takes a line on what goes on.

    Raises:
        InputFileError: the log cannot be replayed.
        ConfigError: a speed at which the log is over before the warm-up is.
    """

    def __init__(self, config: Config, settings: LabSettings, say: Say) -> None:
        self._config = config
        self._settings = settings
        self._say = say
        self._window = load_window(settings.log, settings.skip_ns)
        for speed in settings.speeds:
            self._check_length(speed)
        if self._window.faults:
            told = ", ".join(f"{name} {count:,}" for name, count in self._window.faults.items())
            self._say(f"{settings.log}: what is damaged or missing is not sent: {told}")

    async def run(self, scratch: Path, on_run: Callable[[Run], None]) -> Result:
        """Do all of it.

        Args:
            scratch: A directory for what the processes write.
            on_run: Called with every run that was asked for, as it is done.

        Raises:
            HeqisError: a run could not be made.
        """
        session = Session(self._config, self._settings, self._window, scratch)
        result = Result(self._facts())
        for repeat in range(1, self._settings.repeats + 1):
            for speed in self._settings.speeds:
                run = await self._one(session, speed, repeat, self._settings.length_ns)
                result.runs.append(run)
                on_run(run)
        if self._settings.search:
            result.budget_ns = self._settings.budget_ns
            result.search = await self._find(session)
        return result

    async def _one(self, session: Session, speed: float, repeat: int, length_ns: int) -> Run:
        self._say(f"speed {speed:g}, run {repeat}: starting an engine")
        outcome = await session.run(speed, length_ns)
        measured_ns = outcome.measured.seconds * 1e9
        if measured_ns < ENDED_EARLY * length_ns:
            self._say(f"  the log ended after {format_ns(measured_ns)} of measuring")
        void, late = void_of(outcome, self._settings.lateness_budget_ns)
        return Run(speed, repeat, outcome, void, late, self._config.engine.stall_budget)

    async def _find(self, session: Session) -> Search:
        search = self._search()
        while search.speed is not None:
            length_ns = min(SEARCH_NS, self._settings.length_ns)
            step = await self._step(session, search.speed, length_ns)
            if step.void:
                step = await self._step(session, search.speed, length_ns)
            search.tell(step)
        return search

    async def _step(self, session: Session, speed: float, length_ns: int) -> Step:
        run = await self._one(session, speed, 1, length_ns)
        step = judge(run, self._settings.budget_ns)
        verdict = "kept" if step.kept else step.why
        self._say(f"  {step.ticks_per_s:,.0f} ticks/s: p99 {format_ns(step.p99_ns)}, {verdict}")
        return step

    def _search(self) -> Search:
        """Begin at some thousand ticks a second; the log must last at the fastest."""
        recorded_s = max(self._length_ns(1.0) / 1e9, 1e-9)
        first = FIRST_RATE * recorded_s / len(self._window.ticks)
        most = recorded_s * 1e9 / (self._settings.warm_up_ns + LEAST_SEARCH_NS)
        return Search(min([first, *self._settings.speeds]), most, first * LEAST_SHARE)

    def _length_ns(self, speed: float) -> int:
        pace = Pace(speed, 0, longest_gap_ns=self._settings.longest_gap_ns)
        return int(due_times(self._window.ticks["ts_recv"], pace)[-1])

    def _check_length(self, speed: float) -> None:
        length_ns = self._length_ns(speed)
        if length_ns <= self._settings.warm_up_ns:
            raise ConfigError(
                OPTIONS, "--speed", f"{speed:g}",
                f"a slower one, a longer log or a shorter --warm-up: at this speed the log lasts "
                f"{format_ns(length_ns)}, and the warm-up {format_ns(self._settings.warm_up_ns)}",
            )  # fmt: skip

    def _facts(self) -> dict[str, Any]:
        window, settings = self._window, self._settings
        asked = {**asdict(settings), "log": str(settings.log)}
        return {
            "log": {
                "path": str(settings.log),
                "ticks": len(window.ticks),
                "span_ns": window.span_ns,
                "steps_back": window.steps_back,
                "cut": window.cut,
                "faults": window.faults,
                "sha256": hashlib.sha256(window.ticks.tobytes()).hexdigest(),
            },
            "config_sha256": hashlib.sha256(config_toml(self._config).encode()).hexdigest(),
            "settings": asked,
            "host": host_facts(),
        }


def void_of(outcome: Outcome, lateness_budget_ns: int) -> tuple[str, bool]:
    """Return why a run's figures do not count, "" if they do, and whether that is the injector.

    What the engine never took is in no figure: those that are left would flatter it.
    """
    late_ns = int(outcome.measured.stages[INJECTOR].values_at([99.9])[0])
    if late_ns > lateness_budget_ns:
        budget = format_ns(lateness_budget_ns)
        return f"the injector's p99.9 was {format_ns(late_ns)} late, over {budget}", True
    lost = outcome.sent - outcome.taken
    untaken = [f"{lost:,} of {outcome.sent:,} ticks sent were not taken in time"]
    return "; ".join([*(untaken if lost > 0 else ()), *outcome.problems]), False


def judge(run: Run, budget_ns: int) -> Step:
    """Say whether a run kept a budget: its p99 did, and nothing of it was lost.

    Where a configuration gives too few signals for a p99, the ticks' own way to the engine counts.
    """
    stages = run.stages
    measure = END_TO_END if stages[END_TO_END].total >= FEWEST else WIRE
    counts = stages[measure]
    p99_ns = int(counts.values_at([99.0])[0])
    reasons = [
        (run.lost, f"{run.lost:,} ticks were not taken in time"),
        (run.void, f"void: {run.void}"),
        (run.refused_late, f"{run.refused_late:,} candidates were refused as late"),
        (p99_ns > budget_ns, f"p99 over {format_ns(budget_ns)}"),
    ]
    why = next((text for wrong, text in reasons if wrong), "")
    return Step(run.speed, run.ticks_per_s, measure, p99_ns, not why, why, run.late_injector)
