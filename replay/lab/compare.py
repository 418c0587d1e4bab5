"""Whether one session of the lab is slower than another: paired ratios and a noise band; pure.

A ratio is taken of runs at the same speed with the same number, so what changes slowly on a machine
touches both. The judgement is on the median of the ratios. The noise band is the percentile
bootstrap's 95 % interval of that median (Efron, 1979): while it holds 1, the difference may as well
be chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from engine.core.errors import ConfigError, UserError

JUDGED: Final = ("end_to_end.p50", "end_to_end.p99")
"""What is judged unless told otherwise."""
SHOWN: Final = (
    "end_to_end.p50", "end_to_end.p99", "end_to_end.p99_9", "wire.p99", "ingest.p99", "compute.p99",
    "gate.p99", "publish.p99", "total.p99",
)  # fmt: skip
LEAST_PAIRS: Final = 3
"""Fewer say nothing about noise."""
LEAST_VALUES: Final = {"p50": 10, "p90": 10, "p99": 100, "p99_9": 1_000, "p99_99": 10_000}
"""Values that a percentile needs in a run; with fewer it is another name of the maximum."""
_RESAMPLES: Final = 4_000
_BAND: Final = (2.5, 97.5)
_MOST_THRESHOLD: Final = 10.0

Verdict = Literal["slower", "faster", "same", "too few"]


@dataclass(frozen=True, slots=True)
class Change:
    """How one percentile of one stage changed at one speed.

    Attributes:
        speed: Recorded seconds a second.
        metric: ``stage.percentile``.
        pairs: Pairs of runs that both count.
        base_ns: Median of the first session's runs.
        new_ns: Median of the second's.
        ratio: Median of the pairs' ratios, new by base.
        low: Lower end of the noise band.
        high: Upper end.
        judged: Whether it decides.
        verdict: What is to be thought of it.
    """

    speed: float
    metric: str
    pairs: int
    base_ns: float
    new_ns: float
    ratio: float
    low: float
    high: float
    judged: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """All changes.

    Attributes:
        threshold: As a fraction: 0.1 is a tenth slower.
        changes: By speed, then metric.
        notes: What a reader must know, each a sentence.
        sustainable: Both sessions' highest sustainable rates, ticks/s; None where one has none.
    """

    threshold: float
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    sustainable: tuple[float, float] | None

    @property
    def regressions(self) -> list[str]:
        """What was judged and is slower: texts."""
        return [
            f"{change.metric} at speed {change.speed:g} by {change.ratio - 1:.0%}"
            for change in self.changes
            if change.judged and change.verdict == "slower"
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "regressions": self.regressions}


def parse_threshold(text: str) -> float:
    """Read ``10%`` or ``0.1``.

    Raises:
        ConfigError: it is neither, or out of range.
    """
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _MOST_THRESHOLD:
        expected = f"a share from 0 to {_MOST_THRESHOLD:g}, such as 10% or 0.1"
        raise ConfigError("command line", "--threshold", text, expected)
    return value


def noise_band(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the ratios' median; the same ratios give the same interval."""
    drawn = np.random.default_rng(0).choice(np.asarray(ratios), (_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), _BAND).tolist()
    return float(low), float(high)


def judge_ratios(ratios: Sequence[float], threshold: float) -> tuple[Verdict, float, float, float]:
    """Return the verdict, the median ratio and the noise band."""
    if len(ratios) < LEAST_PAIRS:
        middle = float(np.median(ratios)) if ratios else math.nan
        return "too few", middle, math.nan, math.nan
    middle = float(np.median(ratios))
    low, high = noise_band(ratios)
    if middle > 1 + threshold and low > 1:
        return "slower", middle, low, high
    if middle < 1 / (1 + threshold) and high < 1:
        return "faster", middle, low, high
    return "same", middle, low, high


def compare_results(
    base: Mapping[str, Any], new: Mapping[str, Any], threshold: float, judged: Sequence[str]
) -> Comparison:
    """Compare two results as ``read_result`` gives them.

    Raises:
        UserError: they are of different logs or options, or too few runs can be paired.
        ConfigError: a metric that is none.
    """
    _check_alike(base, new)
    for metric in judged:
        _check_metric(metric, base)
    metrics = list(dict.fromkeys((*judged, *SHOWN)))
    changes = [
        change
        for speed in _speeds(base, new)
        for metric in metrics
        if (change := _change(base, new, speed, metric, threshold, metric in judged)) is not None
    ]
    missing = _unjudged(base, new, judged)
    notes = [*_notes(base, new), *(f"not judged: {one}" for one in missing)]
    found = Comparison(threshold, tuple(changes), tuple(notes), _sustainable(base, new))
    if missing and not found.regressions:
        raise UserError(_why_not(base, new, missing))
    return found


def _change(
    base: Mapping[str, Any],
    new: Mapping[str, Any],
    speed: float,
    metric: str,
    threshold: float,
    judged: bool,
) -> Change | None:
    before, after = _values(base, speed, metric), _values(new, speed, metric)
    both = sorted(set(before) & set(after))
    if not both:
        return None
    ratios = [after[repeat] / before[repeat] for repeat in both]
    verdict, ratio, low, high = judge_ratios(ratios, threshold)
    return Change(
        speed, metric, len(both),
        float(np.median([before[repeat] for repeat in both])),
        float(np.median([after[repeat] for repeat in both])),
        ratio, low, high, judged, verdict,
    )  # fmt: skip


def _values(result: Mapping[str, Any], speed: float, metric: str) -> dict[int, float]:
    """Return a metric by repeat, of the runs that count and have values enough."""
    stage, _, percentile = metric.partition(".")
    found = {}
    for run in result["runs"]:
        summary = run["latency"].get(stage)
        if run["void"] or run["speed"] != speed or summary is None:
            continue
        value = summary[f"{percentile}_ns"]
        if summary["count"] >= LEAST_VALUES.get(percentile, 1) and value > 0:
            found[run["repeat"]] = float(value)
    return found


def _speeds(base: Mapping[str, Any], new: Mapping[str, Any]) -> list[float]:
    other = {run["speed"] for run in new["runs"]}
    return [s for s in dict.fromkeys(run["speed"] for run in base["runs"]) if s in other]


def _check_alike(base: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if base["log"]["sha256"] != new["log"]["sha256"]:
        before, after = base["log"]["path"], new["log"]["path"]
        raise UserError(f"the sessions replayed different ticks: {before} and {after}")
    for name in ("clients", "slot_ns", "longest_gap_ns", "warm_up_ns", "length_ns", "market_times"):
        before, after = base["settings"][name], new["settings"][name]
        if before != after:
            raise UserError(f"the sessions were run with different options: {name} was {before} "
                            f"and is {after}")  # fmt: skip
    if not _speeds(base, new):
        before, after = (_speeds_text(result) for result in (base, new))
        raise UserError(f"the sessions have no speed in common, {before} and {after}; make both "
                        "with the same --speed, and --repeats 5")  # fmt: skip


def _speeds_text(result: Mapping[str, Any]) -> str:
    speeds = dict.fromkeys(f"{run['speed']:g}" for run in result["runs"])
    return ",".join(speeds) or "max-sustainable alone"


def _check_metric(metric: str, base: Mapping[str, Any]) -> None:
    stage, _, percentile = metric.partition(".")
    stages = list(base["runs"][0]["latency"])
    if stage not in stages or percentile not in (*LEAST_VALUES, "mean", "max"):
        expected = f"stage.percentile; stages: {', '.join(stages)}; {', '.join(LEAST_VALUES)}"
        raise ConfigError("command line", "--metric", metric, expected)


def _unjudged(base: Mapping[str, Any], new: Mapping[str, Any], judged: Sequence[str]) -> list[str]:
    """Return what cannot be judged for want of data: ``metric at speed S (N pairs)``."""
    found = []
    for speed in _speeds(base, new):
        for metric in judged:
            both = _values(base, speed, metric).keys() & _values(new, speed, metric).keys()
            if len(both) < LEAST_PAIRS:
                found.append(f"{metric} at speed {speed:g} ({len(both)} pairs)")
    return found


def _why_not(base: Mapping[str, Any], new: Mapping[str, Any], missing: Sequence[str]) -> str:
    voids = [
        f"a run of the {name} session at speed {run['speed']:g} is void: {run['void']}"
        for name, result in (("first", base), ("second", new))
        for run in result["runs"]
        if run["void"]
    ]
    text = (
        f"no judgement without {LEAST_PAIRS} pairs of valid runs, each with values enough; there "
        f"are too few for {', '.join(missing)}: make them with --repeats 5, and see that enough "
        "signals are made, or judge another --metric"
    )
    return "; ".join((text, *voids[:1]))


def _notes(base: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    notes = []
    for name, result in (("first", base), ("second", new)):
        void = sum(bool(run["void"]) for run in result["runs"])
        if void:
            notes.append(f"{void} runs of the {name} session are void and left out")
    hosts = [{**result["host"], "heqis": ""} for result in (base, new)]
    if hosts[0] != hosts[1]:
        notes.append("the sessions were run on different machines or systems")
    if base["config_sha256"] != new["config_sha256"]:
        notes.append("the sessions were run with different configurations")
    return notes


def _sustainable(base: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[float, float] | None:
    found = [(result.get("max_sustainable") or {}).get("best") for result in (base, new)]
    rates = [float(best["ticks_per_s"]) for best in found if best]
    return (rates[0], rates[1]) if len(rates) == len(found) else None
