"""What a lab session leaves: runs, the search, the machine; as JSON and as ``.hlog`` files."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson
import psutil

from engine.core.errors import InputFileError
from engine.core.reasons import TIME_DEPENDENT
from latency.counts import StageCounts, StageSummary
from latency.hlog import HlogWriter
from latency.report import summary_fields
from latency.stages import STAGES, Stage
from latency.stall import LOOP
from replay.lab.measured import DELIVERY, END_TO_END, INJECTOR, NAIVE, NOISE
from replay.lab.search import Search, Step
from replay.lab.session import Outcome

FORMAT: Final = 1
RESULT: Final = "result.json"
LATE_REASONS: Final = (*sorted(TIME_DEPENDENT), "MODEL_LATE")
_READ: Final = frozenset({"speed", "repeat", "void", "latency"})
_BESIDE: Final = (LOOP, INJECTOR, NOISE)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run at one speed.

    Attributes:
        speed: Recorded seconds a second.
        repeat: Its number among the runs of the speed, from 1.
        outcome: What it left.
        void: Why its figures do not count, "" if they do: the injector was late, or what the engine
            did not take or clients did not receive is not in them.
        late_injector: It is void for the injector's sake.
        stall_budget_ns: From which lateness on a turn of the engine's loop counts as a stall.
    """

    speed: float
    repeat: int
    outcome: Outcome
    void: str
    late_injector: bool
    stall_budget_ns: int

    @property
    def stages(self) -> dict[str, StageCounts]:
        """Every stage: end to end first, then the engine's, then what stands beside."""
        lab, own = self.outcome.measured.stages, self.outcome.stages
        models = [name for name in own if name not in (*STAGES, LOOP)]
        order = [END_TO_END, NAIVE, *STAGES[: Stage.GATE], *models]
        order += [*STAGES[Stage.GATE :], DELIVERY, *_BESIDE]
        return {name: ({**own, **lab})[name] for name in order if name in own or name in lab}

    @property
    def summaries(self) -> dict[str, StageSummary]:
        """The same in numbers."""
        return {name: counts.summary() for name, counts in self.stages.items()}

    @property
    def ticks_per_s(self) -> float:
        """Ticks sent a second."""
        return self.outcome.ticks / max(self.outcome.measured.seconds, 1e-9)

    @property
    def stalls(self) -> int:
        """Turns of the engine's loop that were later than its stall budget."""
        loop = self.outcome.stages.get(LOOP)
        if loop is None:
            return 0
        late = loop.scale.lowest_values(loop.indices) > self.stall_budget_ns
        return int(loop.counts[late].sum())

    @property
    def lost(self) -> int:
        """Ticks sent that the engine did not take."""
        return max(0, self.outcome.sent - self.outcome.taken)

    @property
    def refused_late(self) -> int:
        """Candidates that the engine refused because they came too late."""
        refusals: Mapping[str, int] = self.outcome.status.get("refusals", {})
        return sum(refusals.get(reason, 0) for reason in LATE_REASONS)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        outcome, measured = self.outcome, self.outcome.measured
        return {
            "speed": self.speed,
            "repeat": self.repeat,
            "void": self.void,
            "seconds": measured.seconds,
            "ticks": outcome.ticks,
            "ticks_per_s": self.ticks_per_s,
            "lost_ticks": self.lost,
            "injector_priority": outcome.injector_priority,
            "signals": measured.signals,
            "received": measured.received,
            "refusals": dict(outcome.status.get("refusals", {})),
            "stalls": self.stalls,
            "problems": list(outcome.problems),
            "latency": summary_fields(self.summaries),
            "series": measured.series.as_dict(),
        }


@dataclass(slots=True, eq=False)
class Result:
    """A session of the lab.

    Attributes:
        facts: Log, configuration, options and machine, as JSON has them.
        runs: In the order they were made.
        search: For the highest speed that can be sustained; None: it was not asked for.
        budget_ns: Its budget.
    """

    facts: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    search: Search | None = None
    budget_ns: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "format": FORMAT,
            **self.facts,
            "runs": [run.as_dict() for run in self.runs],
            "max_sustainable": self._found(),
        }

    def _found(self) -> dict[str, Any] | None:
        search = self.search
        if search is None:
            return None
        best, crossed = search.best, search.crossed
        return {
            "budget_ns": self.budget_ns,
            "best": _step(best),
            "crossed": _step(crossed),
            "limited_by": search.limited_by,
            "steps": [_step(step) for step in search.steps],
        }


def _step(step: Step | None) -> dict[str, Any] | None:
    return None if step is None else asdict(step)


def host_facts() -> dict[str, Any]:
    """Return what is worth knowing of the machine."""
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": psutil.cpu_count() or 0,
        "memory_bytes": psutil.virtual_memory().total,
        "heqis": version("heqis"),
    }


def hlog_name(run: Run) -> str:
    """Return the name of a run's latency log."""
    return f"speed-{run.speed:g}-{run.repeat}.hlog"


def write_hlog(path: Path, run: Run) -> None:
    """Write every stage of a run: the engine's over its intervals, the lab's as one.

    Raises:
        OSError: it cannot be written.
    """
    outcome = run.outcome
    begin_ns = outcome.from_wall_ns
    end_ns = begin_ns + int(outcome.measured.seconds * 1e9)
    with HlogWriter(path, begin_ns) as writer:
        writer.append_all(outcome.measured.stages, begin_ns, end_ns)
        for interval in outcome.intervals:
            writer.append(
                interval.stage, interval.counts, interval.start_wall_ns, interval.end_wall_ns
            )


def write_result(path: Path, result: Result) -> None:
    """Write a session's result.

    Raises:
        OSError: it cannot be written.
    """
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
    path.write_bytes(orjson.dumps(result.as_dict(), option=options) + b"\n")


def read_result(path: Path) -> dict[str, Any]:
    """Read what ``write_result`` wrote.

    Args:
        path: The file, or the directory it is in.

    Raises:
        InputFileError: it is not there, or is no result of the lab.
    """
    file = path / RESULT if path.is_dir() else path
    try:
        fields = orjson.loads(file.read_bytes())
    except OSError as error:
        raise InputFileError(file, f"cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise InputFileError(file, f"is no JSON: {error}") from error
    known = isinstance(fields, dict) and {"format", "runs", "log"} <= fields.keys()
    if known and fields["format"] != FORMAT:
        found = fields["format"]
        raise InputFileError(file, f"has format {found!r}; this program reads {FORMAT}")
    if not (known and _is_whole(fields)):
        raise InputFileError(file, "is no result of `heqis latency run`, or not all of one")
    return dict(fields)


def _is_whole(fields: Mapping[str, Any]) -> bool:
    """Tell whether there is what a comparison reads."""
    runs, log = fields["runs"], fields["log"]
    tables = [fields.get(name) for name in ("settings", "host")]
    return (
        isinstance(runs, list)
        and all(isinstance(run, dict) and run.keys() >= _READ for run in runs)
        and isinstance(log, dict)
        and {"path", "sha256"} <= log.keys()
        and all(isinstance(table, dict) for table in tables)
        and "config_sha256" in fields
    )
