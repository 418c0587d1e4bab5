"""Plans with models that tests share: windows on several clocks, scored and confirmed.

Run as a program it prints a digest of all that a stream asks for, so that a test can compare the
compiled kernel with the interpreted one.
"""

import hashlib
import sys

import kernel_runs
import numpy as np
import numpy.typing as npt
from kernel_plans import BARS, INSTRUMENTS, MACD
from kernel_runs import Records

from engine.core.models import Floats
from engine.core.records import instrument_row
from strategies.kernel import Kernel
from strategies.model_spec import FeatureColumn, ModelWindow, read_columns
from strategies.plan import KernelPlan, RuleRequest, make_plan
from strategies.registry import load_registry

TEXTS = (
    ("return_1", "roc(length=1)", ""),
    ("histogram", "macd(fast=2,slow=4,signal=2)", "histogram"),
    ("flow", "order_flow_imbalance(length=3)", ""),
)


def columns(*texts: tuple[str, str, str]) -> tuple[FeatureColumn, ...]:
    """Read features; without any, those of TEXTS."""
    return read_columns(texts or TEXTS, load_registry(), "a test")


FAST = ModelWindow("fast", "tick", columns(), 5)
SLOW = ModelWindow("slow", "1s", columns(*TEXTS[:2]), 3)
MODELS = (FAST, SLOW)
RULES = (
    RuleRequest("plain", "macd_cross", "1s", MACD),
    RuleRequest("scored", "", "", {"every": 3}, model="fast"),
    RuleRequest("scored too", "", "1s", model="slow"),
    RuleRequest("confirmed", "macd_cross", "1s", MACD, confirm="slow"),
    RuleRequest("confirmed elsewhere", "macd_cross", "trade", MACD, confirm="fast"),
)
NAMES = tuple(rule.name for rule in RULES)


def model_plan() -> KernelPlan:
    """Return a plan of all MODELS and RULES."""
    return make_plan(load_registry(), BARS, RULES, models=MODELS)


def model_kernel(plan: KernelPlan | None = None) -> Kernel:
    """Return a new kernel with its instruments defined."""
    kernel = Kernel(plan or model_plan(), INSTRUMENTS)
    for at in range(INSTRUMENTS):
        kernel.define(instrument_row("A.X", id=at, day_offset_s=3600 * at, pre_close=99.0))
    kernel.warm_up(bars=True)
    return kernel


def gather(
    kernel: Kernel, model: int, instruments: object, windows: object
) -> tuple[Floats, npt.NDArray[np.uint8], int]:
    """Gather windows into an array of their own; return it, which were whole, and how many."""
    ids = np.array(instruments, np.int64, ndmin=1)
    numbers = np.array(windows, np.int64, ndmin=1)
    one = kernel.plan.models[model]
    out = np.full((len(ids) + 1, one.window, len(one.columns)), 7.0, np.float32)
    ok = np.full(len(ids), 9, np.uint8)
    found = kernel.gather(model, ids, numbers, out, ok)
    return out, ok, found


def by(candidates: Records, name: str) -> Records:
    """Return the candidates of one of RULES."""
    found: Records = candidates[candidates["strategy"] == NAMES.index(name)]
    return found


def digest() -> str:
    """Return a digest of every candidate and window that a stream with models gives."""
    kernel = model_kernel()
    kernel.set_normalisation(1, (0.5, -0.5), (2.0, 3.0))
    ticks, at = kernel_runs.random_ticks(2000, INSTRUMENTS), 0
    parts, counts = hashlib.sha256(), [0, 0]
    while at < len(ticks):
        at = kernel.run_ticks(ticks, at, len(ticks))
        made = kernel.candidates[: kernel.n_candidates]
        parts.update(kernel_runs.as_bytes(made))
        counts[0] += len(made)
        for model in range(len(MODELS)):
            mine = made[made["model"] == model]
            out, ok, found = gather(kernel, model, mine["instrument"], mine["window"])
            parts.update(out.tobytes() + ok.tobytes())
            counts[1] += found
    return " ".join([*map(str, counts), parts.hexdigest()])


if __name__ == "__main__":
    sys.stdout.write(digest())
