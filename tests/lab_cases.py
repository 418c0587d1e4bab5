"""What the lab's processes would note of an engine that stalls once, and runs made of it."""

from typing import Any

import numpy as np

from latency.counts import StageCounts
from latency.hlog_reader import Interval
from latency.stages import STAGES
from replay.lab.measured import Heard, Measured, Sent, counts_of, measure
from replay.lab.results import Result, Run, host_facts
from replay.lab.session import Outcome

MS = 1_000_000
BASE = 1_700_000_000_000_000_000


def stalled(count: int = 4_000, every_ns: int = MS, stall_ns: int = 200 * MS) -> tuple[Any, Any]:
    """Return when ticks were due and answered by a server that takes 20 us and stalls once."""
    due = BASE + np.arange(count) * every_ns
    answered = np.zeros(count, np.int64)
    free = 0
    for row in range(count):
        free = max(int(due[row]), free) + (stall_ns if row == count // 2 else 20_000)
        answered[row] = free
    return due, answered


def measured_of(due: Any, answered: Any, from_ns: int = BASE, clients: int = 1) -> Measured:
    count = len(due)
    sent = Sent(np.arange(count), due, due + 5_000, count)
    seqs = np.tile(np.arange(1, count + 1), clients)
    nothing = np.full(count * clients, -1)
    heard = Heard(
        np.repeat(np.arange(clients), count), np.tile(answered, clients),
        np.full(count * clients, 9), seqs, np.tile(answered - 8_000, clients), nothing, nothing,
    )  # fmt: skip
    noise = {"due_ns": due, "late_ns": np.full(count, 40_000)}
    return measure(sent, heard, noise, from_ns)


def run_of(
    measured: Measured, speed: float = 1.0, void: str = "", status: dict[str, Any] | None = None
) -> Run:
    """Return a run whose engine logged every stage once a tick, and one stalled turn."""
    ticks = 4_000
    stages: dict[str, StageCounts] = {
        name: counts_of(np.arange(1, ticks + 1) * 10) for name in STAGES
    }
    stages["loop"] = counts_of(np.array([*([100_000] * 99), 199 * MS]))
    stages["queue:tiny@cpu"] = counts_of(np.full(50, 30_000))
    stages["inference:tiny@cpu"] = counts_of(np.full(50, 70_000))
    end = BASE + 4_000 * MS
    intervals = tuple(Interval(name, BASE, end, counts) for name, counts in stages.items())
    told = {"refusals": {"RISK_RATE": 12}, "input": {}, "problems": [], **(status or {})}
    outcome = Outcome(measured, stages, intervals, BASE, ticks, ticks, ticks, "real-time", told, ())
    return Run(speed, 1, outcome, void, bool(void), 20 * MS)


def result_of_runs(*runs: Run) -> Result:
    """Return a session of these runs."""
    facts = {
        "log": {"path": "market.hql", "ticks": 4_000, "sha256": "0"},
        "config_sha256": "0",
        "settings": {},
        "host": host_facts(),
    }
    return Result(facts, list(runs))
