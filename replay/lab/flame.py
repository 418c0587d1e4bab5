"""Where the time of a signal goes, as nested parts for a flame of stages; pure."""

from typing import Final, NamedTuple

from replay.lab.measured import Parts
from replay.lab.results import Run

ROOT: Final = "end to end"
QUEUEING: Final = "queueing"
SERVICE: Final = "service"


class Part(NamedTuple):
    """One box: its name, the box it stands on, its time in ns."""

    name: str
    parent: str
    value: float


def flame_of_all(run: Run) -> list[Part]:
    """Return the mean of all signals: what queues, what serves, and the way to the client.

    Decoder and kernel are known by tick, not by signal; what they leave of the time before the risk
    gate is time on the link, and in callbacks of Python strategies, which have no stage.
    """
    everything = run.outcome.measured.parts[0]
    if not everything.signals:
        return _of_ticks(run)
    decode, kernel = _mean(run, "ingest"), _mean(run, "compute")
    gate, publish = _mean(run, "gate"), _mean(run, "publish")
    link = max(0.0, everything.before - decode - kernel)
    client = max(0.0, everything.after - gate - publish)
    return _stacked(
        {
            "link, callbacks": (QUEUEING, link),
            "model queue": (QUEUEING, everything.model_queue),
            "decode": (SERVICE, decode),
            "kernel": (SERVICE, kernel),
            "model": (SERVICE, everything.model_service),
            "risk gate": (SERVICE, gate),
            "publish": (SERVICE, publish),
            "network and client": (ROOT, client),
        }
    )


def flame_of_slowest(run: Run) -> list[Part]:
    """Return the mean of the slowest hundredth of the signals."""
    slowest: Parts = run.outcome.measured.parts[1]
    return _stacked(
        {
            "link, decode, kernel": (ROOT, slowest.before),
            "model queue": (ROOT, slowest.model_queue),
            "model": (ROOT, slowest.model_service),
            "risk gate to client": (ROOT, slowest.after),
        }
    )


def _of_ticks(run: Run) -> list[Part]:
    return _stacked(
        {
            "link": (QUEUEING, _mean(run, "wire")),
            "decode": (SERVICE, _mean(run, "ingest")),
            "kernel": (SERVICE, _mean(run, "compute")),
        }
    )


def _mean(run: Run, stage: str) -> float:
    counts = run.outcome.stages.get(stage)
    return counts.mean if counts is not None else 0.0


def _stacked(leaves: dict[str, tuple[str, float]]) -> list[Part]:
    """Return the leaves under their parents, each parent as long as its leaves together.

    In whole nanoseconds: where a sum is off by the least, plotly draws nothing.
    """
    whole = {name: (parent, float(round(value))) for name, (parent, value) in leaves.items()}
    kept = {name: leaf for name, leaf in whole.items() if leaf[1] > 0}
    parents = dict.fromkeys(parent for parent, _ in kept.values() if parent != ROOT)
    boxes = [Part(ROOT, "", sum(value for _, value in kept.values()))]
    boxes += [Part(one, ROOT, sum(v for p, v in kept.values() if p == one)) for one in parents]
    return boxes + [Part(name, parent, value) for name, (parent, value) in kept.items()]
