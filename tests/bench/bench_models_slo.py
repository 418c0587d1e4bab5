"""Deadline misses of the planner beside other batching policies: simulated, and in real time.

Poisson arrivals at 0.5, 0.9 and 1.1 of the device's capacity, bursty ones at 0.9; a quarter of the
requests have half the time. Every policy gets the same arrivals and pads to the same batch sizes.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import uvloop
from bench import batching_simulator as simulator
from bench.batching_policies import POLICIES
from bench.lane_policies import AimdPolicy, FifoPolicy, FixedWaitPolicy
from bench.measuring import Figure, Outcome, report, say
from bench.model_parts import FAR_NS, load_direct, scratch, wide_bundle
from bench.open_loop import Arrivals, Policy, Tally, run_policy

from engine.core.models import Floats
from runtime.executors import learn_latency
from runtime.latency_model import LatencyModel
from runtime.planner import Planner
from runtime.prepared import PreparedModel
from runtime.request_queue import Request

LARGEST: Final = simulator.BUCKETS[-1]
SIMULATED_S: Final = 10.0
REAL_S: Final = 5.0
ROUNDS: Final = 5
REAL_ROUNDS: Final = 3
OURS: Final = "planner"
OTHERS: Final = ("fixed wait", "work-conserving", "AIMD")
SERVE_ALL: Final = ("fixed wait", "work-conserving")
"""Policies that drop nothing and, when there is too much, run nothing but full batches."""
BACKLOG: Final = 64 * LARGEST
TRIALS: Final = 3
"""Requests served to measure the capacity, and how often: the best counts."""
BURST: Final = {"peak": 2.0, "on_ms": 1.0}
ABOVE_FLOOR: Final = 1.0


class Load(NamedTuple):
    """How requests come, and whether there are more than can be served."""

    name: str
    make: Callable[[float, int], list[Request]]
    overload: bool = False


LOADS: Final = (
    Load("Poisson 0.5", partial(simulator.poisson, 0.5)),
    Load("Poisson 0.9", partial(simulator.poisson, 0.9)),
    Load("bursty 0.9", lambda s, seed: simulator.bursty(0.9, s, seed, **BURST)),
    Load("Poisson 1.1", partial(simulator.poisson, 1.1), overload=True),
)
Missed = dict[str, list[float]]
"""Percent of every round, by policy; under FLOOR what no policy could serve."""
FLOOR: Final = "floor"


def floor_pct(requests: Sequence[Request]) -> float:
    """Return the share that cannot be served if all batches are full to the last deadline."""
    last = max(request.deadline_ns for request in requests)
    served = simulator.CAPACITY_PER_S * (last - requests[0].submitted_ns) / 1e9
    return 100 * max(0.0, 1 - served / len(requests))


def simulate_load(load: Load, rounds: int) -> Missed:
    """Return what each policy misses in virtual time."""
    missed: Missed = {FLOOR: []}
    for seed in range(rounds):
        missed[FLOOR].append(floor_pct(load.make(SIMULATED_S, seed)))
        for make in POLICIES:
            policy = make()
            requests = load.make(SIMULATED_S, seed)
            tally = simulator.simulate(policy, requests)
            missed.setdefault(_short(policy.name), []).append(tally.missed_pct)
    return missed


def _short(name: str) -> str:
    return "fixed wait" if name.startswith("fixed") else name


class Device(NamedTuple):
    """A real model on a real thread."""

    loaded: PreparedModel
    latency: Callable[[], LatencyModel]
    windows: Floats
    stretch: float
    """How much slower it is than the simulated one."""

    @property
    def slo_ns(self) -> int:
        """What three quarters of the requests are given."""
        return int(simulator.SLO_NS * self.stretch)

    async def timed(self) -> "Device":
        """Measure its capacity: static full batches through the same lane, nothing else."""
        nothing = np.zeros(BACKLOG, np.int64)
        arrivals = Arrivals(nothing, nothing + FAR_NS)
        policy = self.policies()["work-conserving"]
        taken_ns = [
            (
                await run_policy(
                    self.loaded, self.latency(), policy, self.windows, arrivals, FAR_NS
                )
            ).taken_ns
            for _ in range(TRIALS)
        ]
        per_batch_ns = min(taken_ns) / (BACKLOG / LARGEST)
        return self._replace(stretch=per_batch_ns / simulator.service_ns(LARGEST))

    def arrivals(self, load: Load, seconds: float, seed: int) -> Arrivals:
        """Return the simulator's arrivals, all times stretched to this device."""
        requests = load.make(seconds / self.stretch, seed)
        times = np.array([one.submitted_ns for one in requests], np.float64)
        slacks = np.array([one.deadline_ns - one.submitted_ns for one in requests], np.float64)
        stretch = self.stretch
        return Arrivals((times * stretch).astype(np.int64), (slacks * stretch).astype(np.int64))

    def policies(self) -> dict[str, Policy]:
        """Return the policies by name."""
        wait_ns = int(5 * simulator.MS * self.stretch)
        return {
            "fixed wait": lambda: FixedWaitPolicy(LARGEST, wait_ns),
            "work-conserving": lambda: FifoPolicy(LARGEST),
            "AIMD": lambda: AimdPolicy(LARGEST, self.slo_ns),
            OURS: lambda: Planner(1 << 20),
        }


def open_device(directory: Path) -> Device:
    """Load the wide model and time it."""
    bundle = wide_bundle(directory)
    loaded = load_direct(bundle, LARGEST)
    learnt = learn_latency(loaded, runs=15)
    windows, _ = bundle.parity()
    return Device(loaded, partial(_again, learnt), windows, 1.0)


def _again(learnt: LatencyModel) -> LatencyModel:
    """Return a latency model that knows what another learnt at the start."""
    fresh = LatencyModel(learnt.buckets)
    for _ in range(5):
        for bucket in learnt.buckets:
            fresh.observe(bucket, learnt.predict(bucket))
    return fresh


class RealRuns(NamedTuple):
    """What one load gave on the real device."""

    tallies: dict[str, list[Tally]]
    floors: list[float]
    alone: list[float]
    """The floors, if the device could do as much as it does when nobody asks meanwhile."""
    stretches: list[float]


def busy_floor_pct(arrivals: Arrivals, whole: Sequence[Tally]) -> float:
    """Return the share that cannot be served by a device that is also being asked.

    Args:
        arrivals: When requests come.
        whole: Runs over them of policies that serve everybody, in overload in full batches; the
            fastest tells what the device can do while the same requests come.
    """
    last_ns = int((arrivals.times_ns + arrivals.slacks_ns).max() - arrivals.times_ns[0])
    fastest_ns = min(tally.taken_ns for tally in whole)
    return 100 * max(0.0, 1 - last_ns / fastest_ns)


async def run_load(device: Device, load: Load, rounds: int) -> RealRuns:
    """Let the policies take turns on the real device, whose capacity is measured every round."""
    runs = RealRuns({}, [], [], [])
    tallies = runs.tallies
    for seed in range(rounds):
        device = await device.timed()
        runs.stretches.append(device.stretch)
        runs.alone.append(floor_pct(load.make(REAL_S / device.stretch, seed)))
        arrivals = device.arrivals(load, REAL_S, seed)
        for name, policy in device.policies().items():
            tally = await run_policy(
                device.loaded, device.latency(), policy, device.windows, arrivals, device.slo_ns
            )
            tallies.setdefault(name, []).append(tally)
        runs.floors.append(busy_floor_pct(arrivals, [tallies[name][-1] for name in SERVE_ALL]))
        told = ", ".join(f"{name} {one[-1].missed_pct:.2f} %" for name, one in tallies.items())
        say(f"{load.name}, {LARGEST / device.stretch / 2.4:,.1f} a ms: {told}")
    return runs


def figures_of(kind: str, load: Load, missed: Missed) -> list[Figure]:
    """Return one load's rows: the others, ours, and ours against floor and the best of them."""
    best = min(statistics.median(missed[name]) for name in OTHERS)
    figures = [
        Figure.of(f"{kind}, {load.name}: {name}", missed[name], "%", at_most=_bound(name, best))
        for name in missed
        if name != FLOOR or load.overload
    ]
    if load.overload:
        above = [ours - floor for ours, floor in zip(missed[OURS], missed[FLOOR], strict=True)]
        case = f"{kind}, {load.name}: {OURS}, above the floor"
        figures.append(Figure.of(case, above, "points", at_most=ABOVE_FLOOR))
    return figures


def _bound(name: str, best: float) -> float | None:
    return best if name == OURS else None


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure both."""
    rounds, real_rounds = (2, 2) if arguments.quick else (ROUNDS, REAL_ROUNDS)
    figures: list[Figure] = []
    for load in LOADS:
        figures += figures_of("simulated", load, simulate_load(load, rounds))
        say(f"{load.name}: simulated")
    with scratch() as directory:
        device = open_device(Path(directory))
        late_us: list[float] = []
        stretches: list[float] = []
        for load in LOADS:
            runs = uvloop.run(run_load(device, load, real_rounds))
            missed = {name: [t.missed_pct for t in some] for name, some in runs.tallies.items()}
            figures += figures_of("real", load, {**missed, FLOOR: runs.floors})
            if load.overload:
                case = f"real, {load.name}: {FLOOR} of a device that nobody asks meanwhile"
                figures.append(Figure.of(case, runs.alone, "%"))
            late_us += [t.lateness_us for some in runs.tallies.values() for t in some]
            stretches += runs.stretches
    device = device._replace(stretch=statistics.median(stretches))
    return Outcome("Models: deadline misses by batching policy", figures, _notes(device, late_us))


def _notes(device: Device, late_us: Sequence[float]) -> list[str]:
    capacity = simulator.CAPACITY_PER_S / device.stretch
    predicted = device.latency().predict
    return [
        "Missed: not answered by the deadline; what was refused or dropped counts as missed. No "
        "worse than any of the others is the target everywhere, and at 1.1 of capacity at most "
        f"{ABOVE_FLOOR:g} point above the floor, the share that no policy can serve. In a real run "
        "that is what the faster of fixed wait and work-conserving, which serve everybody in full "
        "batches, had not served when the last deadline passed: loop, arrivals and device share "
        "two cores, so that a device does less while it is asked.",
        f"Simulated: a batch takes 0.8 + 0.05·b ms, at most {LARGEST}; "
        f"{simulator.SLO_NS // simulator.MS} ms to answer, a quarter of the requests "
        f"{simulator.TIGHT_NS // simulator.MS} ms; {SIMULATED_S:g} s a round, the same arrivals "
        "for all.",
        f"Bursty: on and off in turns of random length, on {BURST['on_ms']:g} ms in the mean at "
        f"{BURST['peak']:g} times the capacity, off so long that the mean is 0.9 of it: bursts of "
        "about a batch. Fixed wait: for a full batch, at most "
        "5 ms. Work-conserving: all that waits, at once. AIMD: as Clipper. These three serve in "
        "the order of arrival and drop nothing, as they are described.",
        f"Real: a dense network in ONNX Runtime on its device's thread, {predicted(1) / 1e6:.2f} "
        f"ms alone and {predicted(LARGEST) / 1e6:.2f} ms for {LARGEST}. Its capacity is what the "
        "same lane does with a backlog in full static batches, measured before every round: "
        f"{capacity:,.0f} requests a second in the mean. Deadlines, waits and bursts are those of "
        f"the simulation times {device.stretch:.2f}. Only the policy differs, the lane is the "
        "same.",
        f"Real arrivals are open loop: a process of its own wakes the loop, deadlines count from "
        f"when a request was meant to come. {REAL_S:g} s a run, {REAL_ROUNDS} rounds, policies in "
        "turns. "
        f"Requests were asked late by at most {max(late_us):,.0f} µs in 99 % of all cases.",
    ]


if __name__ == "__main__":
    report(measure, __doc__)
