"""How much history an indicator needs until its value no longer tells where it began.

The same series is run from its start and from later starts, with the live kernel's own update
functions. From some sample on, the runs that began later agree with the one that began first; that
many samples the indicator needs. An indicator over a window needs exactly what it declares; one
that averages without end is ready earlier than it has forgotten its start.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import Bars
from strategies.batch import IndicatorBatch, label_of
from strategies.registry import Registry
from strategies.spec import Use, resolve_params

TOLERANCE: Final = 1e-3
"""Default: a thousandth of how far the output itself spreads."""
STARTS: Final = 7
_SAMPLES: Final = 8_000
_PER_WARM_UP: Final = 40
_MOST_SAMPLES: Final = 2_000_000
_LEAST_SAMPLES: Final = 16
_SETTLED: Final = 0.9
"""A run that agrees only in the last tenth has not settled."""

Kind = Literal["window", "longer", "never"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class History:
    """What one indicator needs; counts are samples of its clock.

    Attributes:
        indicator: With its parameters.
        clock: What its samples are; "" for the made series.
        declared: After how many it says it is ready; ``vpin`` counts buckets, ``hawkes`` trades.
        ready: After how many it was ready, at most over the starts; None: not at all.
        needed: After how many it agreed with the longer history for good; None: not in the series.
        kind: ``window``: as soon as it is ready; ``longer``: some time after; ``never``.
        off_at_ready: Largest disagreement when it was ready, in spreads of the output.
        off_at_end: Largest disagreement in the last tenth of the series, in spreads.
        samples: How many the shortest run had.
        used_by: Strategies and models that read it.
    """

    indicator: str
    clock: str
    declared: int
    ready: int | None
    needed: int | None
    kind: Kind
    off_at_ready: float
    off_at_end: float
    samples: int
    used_by: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def samples_for(uses: Sequence[Use], registry: Registry) -> int:
    """Return how long a series should be for some indicators."""
    declared = max((declared_of(use, registry) for use in uses), default=1)
    return min(max(_SAMPLES, _PER_WARM_UP * declared), _MOST_SAMPLES)


def declared_of(use: Use, registry: Registry) -> int:
    """Return an indicator's own warm-up."""
    spec = registry.indicators[use.indicator]
    return spec.warm_up(resolve_params(spec.params, use.params))


def measure_history(
    uses: Sequence[Use],
    registry: Registry,
    samples: Bars,
    tolerance: float = TOLERANCE,
    clock: str = "",
) -> list[History]:
    """Measure indicators on a series.

    Args:
        uses: Which, at least one.
        registry: The indicators there are.
        samples: BAR, shape (N,).
        tolerance: From which disagreement on it counts, in spreads of the output.
        clock: What the samples are, for the result.

    Raises:
        ConfigError: an unknown indicator or parameter, or a bad value.
        InputFileError: the series is too short to begin it at several places.
    """
    if len(samples) < _LEAST_SAMPLES:
        problem = f"{len(samples)} samples are too few; it needs at least {_LEAST_SAMPLES}"
        raise InputFileError("the log", f"{problem} on the clock {clock!r}")
    batch = IndicatorBatch(uses, registry)
    whole = batch.run(samples)
    starts = np.linspace(len(samples) // 4, len(samples) // 2, STARTS).astype(int)
    off = _Distances(whole, len(samples) - int(starts[-1]))
    for start in starts.tolist():
        batch.reset()
        off.add(batch.run(samples[start:]), start)
    return [
        _history(use, registry, batch.columns, off, tolerance, clock)
        for use in {label_of(use): use for use in uses}.values()
    ]


class _Distances:
    """Largest distances between later starts and the first, by output and samples since."""

    def __init__(self, whole: Floats, count: int) -> None:
        self.whole = whole
        self.count = count
        self.worst = np.zeros((len(whole), count))
        self.known_from = np.zeros(len(whole), np.int64)

    def add(self, later: Floats, start: int) -> None:
        """Take a run that began at ``start``."""
        ours, theirs = self.whole[:, start : start + self.count], later[:, : self.count]
        with np.errstate(invalid="ignore"):
            off = np.abs(ours - theirs) / self._spread()[:, None]
        off[np.isnan(ours) & np.isnan(theirs)] = 0.0
        off[np.isnan(ours) != np.isnan(theirs)] = np.inf
        self.worst = np.maximum(self.worst, off)
        known = ~np.isnan(theirs)
        first = np.where(known.any(axis=1), known.argmax(axis=1), self.count)
        self.known_from = np.maximum(self.known_from, first)

    def _spread(self) -> Floats:
        spread = np.ones(len(self.whole))
        for row, values in enumerate(self.whole):
            known = values[~np.isnan(values)]
            width = float(known.std()) if len(known) else 0.0
            size = float(np.abs(known).max()) if len(known) else 0.0
            spread[row] = width if width > 1e-12 * size else size or 1.0
        return spread


def _history(
    use: Use,
    registry: Registry,
    columns: Sequence[str],
    off: _Distances,
    tolerance: float,
    clock: str,
) -> History:
    label = label_of(use)
    own = [i for i, name in enumerate(columns) if name == label or name.startswith(f"{label}.")]
    worst = off.worst[own].max(axis=0)
    known_from = int(off.known_from[own].max())
    ready = None if known_from >= off.count else known_from + 1
    bad = np.flatnonzero(worst > tolerance)
    needed: int | None = int(bad[-1]) + 2 if len(bad) else 1
    if ready is None or (needed or 0) > _SETTLED * off.count:
        needed = None
    kind: Kind = "never" if needed is None else "window" if needed == ready else "longer"
    last = worst[int(_SETTLED * off.count) :]
    return History(
        indicator=label,
        clock=clock,
        declared=declared_of(use, registry),
        ready=ready,
        needed=needed,
        kind=kind,
        off_at_ready=float(worst[known_from]) if ready is not None else float("nan"),
        off_at_end=float(last[np.isfinite(last)].max(initial=0.0)),
        samples=off.count,
    )
