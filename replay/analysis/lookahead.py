"""Does any signal, or any indicator's value, change when only the future does?

A configuration is run on a log, and again on logs that are the same up to a cut and differ from
there on. What was proposed before the cut, and every indicator at the cut, must be the same to the
last bit. Half of the cuts lie right behind records on which strategies proposed something, where a
leak of a single record shows. Further runs tell what such comparisons could not see: the same log
twice (chance, the machine's clock, what is left of an earlier run), the same market at another
time (knowledge of this log from elsewhere), one instrument alone (state shared between
instruments); and what user code opens while it runs is noticed, since a file may hold the future.
"""

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.composition import Blueprint, resolve
from engine.config import Config
from engine.core.errors import ConfigError
from engine.python_host import overrides
from feeds.log_files import segments_of
from replay.analysis.lookahead_compare import Difference, Places, first_differences
from replay.analysis.lookahead_cuts import choose_cuts
from replay.analysis.lookahead_files import FileWatch, Reading
from replay.analysis.lookahead_futures import FUTURES, moved, only
from replay.analysis.lookahead_report import Finding, LookaheadOptions, LookaheadReport
from replay.analysis.lookahead_run import Run, fresh, run_tape, value_names
from replay.analysis.lookahead_tape import Tape, load_tape
from replay.analysis.lookahead_write import write_tape
from strategies.kernel_cache import share_modules

_DAY_NS: Final = 86_400 * 10**9
_WEEK_NS: Final = 7 * _DAY_NS
_LEAST_MOVE_NS: Final = 52 * _WEEK_NS
_MOST_MOVE_NS: Final = 20_000 * _DAY_NS
_ALONE: Final = 3
"""Most instruments that are run alone."""


def analyze_lookahead(
    logs: Sequence[Path], config: Config, options: LookaheadOptions | None = None
) -> LookaheadReport:
    """Try to show that a configuration's strategies know the future.

    Args:
        logs: Tick logs, at least one; several are merged by time.
        config: The configuration.
        options: What is tried.

    Raises:
        ConfigError, PluginError, BundleError: the configuration cannot be used.
        InputFileError, LogError: a log cannot be read, or is too long.
    """
    options = options or LookaheadOptions()
    if not config.active_strategies:
        expected = "name at least one that is enabled; there is nothing to look at"
        raise ConfigError("configuration", "strategies", [], expected)
    share_modules()
    try:
        with (
            FileWatch(config.plugins, options.trust) as watch,
            tempfile.TemporaryDirectory(prefix="heqis-") as directory,
        ):
            blueprint = resolve(config)
            tape = load_tape(logs, config.engine.burst, options.limit)
            stand_in = Path(directory).resolve() / "log.hql"
            return _Analysis(logs, blueprint, tape, options, watch, stand_in).report()
    finally:
        share_modules(shared=False)


class _Analysis:
    """All runs over one tape."""

    def __init__(
        self,
        logs: Sequence[Path],
        blueprint: Blueprint,
        tape: Tape,
        options: LookaheadOptions,
        watch: FileWatch,
        stand_in: Path,
    ) -> None:
        self.logs = logs
        self.blueprint = blueprint
        self.tape = tape
        self.options = options
        self.watch = watch
        self.stand_in = stand_in
        self.places = Places(tape)
        self.names = value_names(blueprint)
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.runs = self.values_compared = 0
        self.planned = 2 + 3 * options.cuts
        self.unsteady: set[str] = set()

    def report(self) -> LookaheadReport:
        first = self._run(self.tape)
        cuts = choose_cuts(len(self.tape), self.options.cuts, first.proposals, self.places)
        self.planned = 3 + 3 * len(cuts) + _ALONE
        base = self._run(self.tape, stops=cuts)
        self._check_repeat(first, base)
        for number, cut in enumerate(cuts):
            self._check_cut(base, number, cut)
        self._check_moved(base)
        self._check_alone(base)
        self._check_readings()
        counts = Counter(one.strategy for one in base.proposals)
        names = [entry.name for entry in self.blueprint.config.active_strategies]
        self._note(base, [name for name in names if not counts[name]])
        return LookaheadReport(
            logs=[str(path) for path in self.logs],
            records=len(self.tape),
            cuts=cuts,
            runs=self.runs,
            proposals={name: counts[name] for name in names},
            values_compared=self.values_compared,
            findings=self.findings,
            notes=self.notes,
            bad_input=self.tape.bad_input,
        )

    def _run(self, tape: Tape, until: int | None = None, stops: Sequence[int] = ()) -> Run:
        """Run a tape; strategies that are told the log's path are told one with these records."""
        found = run_tape(fresh(self.blueprint, self._params(tape)), tape, until, stops)
        self.runs += 1
        if self.options.progress is not None:
            self.options.progress(self.runs, max(self.runs, self.planned))
        return found

    def _params(self, tape: Tape) -> dict[str, Mapping[str, Any]]:
        """Return the parameters that name the log, changed to a file that is written for them.

        It is the same path for every run: a signal's id is made of its strategy's parameters, too.
        """
        named = {
            entry.name: own
            for entry, strategy in self.blueprint.python
            if (own := [name for name, value in strategy.params.items() if self._is_log(value)])
        }
        if not named or len(self.logs) > 1:
            return {}
        self.stand_in.unlink(missing_ok=True)
        write_tape(tape, self.stand_in)
        return {name: dict.fromkeys(own, str(self.stand_in)) for name, own in named.items()}

    def _is_log(self, value: object) -> bool:
        if not isinstance(value, str | Path) or not str(value):
            return False
        return any(Path(value).resolve() == path.resolve() for path in self.logs)

    def _check_repeat(self, first: Run, base: Run) -> None:
        told = first_differences(base.proposals, first.proposals, self.places)
        for one in told:
            self.unsteady.add(one.strategy)
            why = (
                "a second run of the same log differs: chance, a clock, or an earlier run's memory"
            )
            self._add("repeat", None, one, f"{why}; {one.problem}")

    def _check_cut(self, base: Run, number: int, cut: int) -> None:
        expected = self.places.before(base.proposals, cut)
        for name, future in FUTURES.items():
            spans = name == "shifted"
            run = self._run(future(self.tape, cut), cut, () if spans else (cut,))
            made = self.places.before(run.proposals, cut)
            for one in first_differences(expected, made, self.places):
                if one.strategy not in self.unsteady:
                    self._add(name, cut, one, one.problem)
            if run.values:
                self._check_values(name, cut, base.values[number], run.values[0])

    def _check_values(self, future: str, cut: int, was: Any, now: Any) -> None:
        self.values_compared += int(np.count_nonzero(~np.isnan(was)))
        differ = ~((was == now) | (np.isnan(was) & np.isnan(now)))
        if not differ.any():
            return
        row, column = (int(at) for at in np.argwhere(differ)[0])
        problem = (
            f"{self.names[column]} is {was[row, column]} with the true future, "
            f"{now[row, column]} with a {future} one"
        )
        self.findings.append(
            Finding("values", "", cut, self.tape.symbols[row], *self._origin(cut - 1), problem)
        )

    def _origin(self, place: int) -> tuple[int, int, int]:
        ticks, bars = self.tape.split(place + 1)
        before = self.tape.split(place)
        is_bar = bars > before[1]
        records, origins = (
            (self.tape.bars, self.tape.bar_origins)
            if is_bar
            else (self.tape.ticks, self.tape.tick_origins)
        )
        at = (bars if is_bar else ticks) - 1
        return int(origins["epoch"][at]), int(origins["seq"][at]), int(records["ts_event"][at])

    def _check_moved(self, base: Run) -> None:
        """Run the same market at another time; strategies that listen to signals do not count."""
        by_ns = self._move_ns()
        if self.options.dated or not by_ns:
            self.notes.append("not moved in time: " + ("--dated" if by_ns else "its bars"))
            return
        run = self._run(moved(self.tape, by_ns))
        for one in first_differences(base.proposals, run.proposals, self.places, outcomes=False):
            if one.strategy not in self.unsteady | self._listeners():
                why = (
                    f"the same market {by_ns // _WEEK_NS} weeks later gives other proposals: it "
                    "goes by the date (then say --dated), or knows this log from elsewhere"
                )
                self._add("moved", None, one, f"{why}; {one.problem}")

    def _move_ns(self) -> int:
        """Return a time of whole weeks in which every time bar fits; 0 if there is none."""
        intervals = [bar.interval for bar in self.blueprint.config.bars if bar.interval]
        step = math.lcm(_WEEK_NS, *intervals)
        by_ns = step * math.ceil(_LEAST_MOVE_NS / step)
        return by_ns if by_ns <= _MOST_MOVE_NS else 0

    def _listeners(self) -> set[str]:
        return {
            entry.name
            for entry, strategy in self.blueprint.python
            if overrides(strategy, "on_signal")
        }

    def _check_alone(self, base: Run) -> None:
        """Run instruments alone; compiled strategies must not notice."""
        compiled = {entry.name for entry in self.blueprint.rules}
        own = [one for one in base.proposals if one.strategy in compiled]
        most = Counter(one.instrument for one in own).most_common(_ALONE)
        if len(self.tape.symbols) < 2:
            return
        for symbol, _ in most:
            run = self._run(only(self.tape, self.tape.symbols.index(symbol)))
            expected = [one for one in own if one.instrument == symbol]
            made = [one for one in run.proposals if one.strategy in compiled]
            for one in first_differences(expected, made, self.places, outcomes=False):
                why = "without the other instruments it differs: state leaks between instruments"
                self._add("alone", None, one, f"{why}; {one.problem}")

    def _check_readings(self) -> None:
        files = {str(file.resolve()) for path in self.logs for file in segments_of(path)}
        files |= {str(path.resolve()) for path in (*self.logs, self.stand_in)}
        for reading in self.watch.readings:
            self.findings.append(_of_reading(reading, own=reading.target in files))

    def _add(self, check: str, cut: int | None, one: Difference, problem: str) -> None:
        place = one.epoch, one.seq, one.ts_event
        self.findings.append(Finding(check, one.strategy, cut, one.instrument, *place, problem))

    def _note(self, base: Run, silent: Sequence[str]) -> None:
        for name in silent:
            self.notes.append(
                f"strategy {name} proposed nothing on this log: nothing is shown of it"
            )
        for name, count in base.failures.items():
            self.notes.append(f"strategy {name} raised {count} times")


def _of_reading(reading: Reading, *, own: bool) -> Finding:
    if own:
        problem = f"{reading.source} reads the log itself, which holds the future: {reading.target}"
        return Finding("reads_log", "", None, "", 0, 0, 0, problem)
    problem = (
        f"{reading.source} reads {reading.target}, which no comparison can change; if it holds "
        "nothing of this time, say --trust PATH"
    )
    return Finding("reads_file", "", None, "", 0, 0, 0, problem)
