"""The plan that kernel tests share: bars, rules on every clock, one across clocks, one careless.

Run as a program it prints a digest of everything that comes out of 2,000 ticks and 500 bars, so
that a test can compare the compiled kernel with the interpreted one.
"""

import hashlib
import sys
from dataclasses import replace

import kernel_runs
import numpy as np
from kernel_runs import Records
from numba import njit

from engine.core.records import BAR, instrument_row
from strategies.bar_spec import BarKind, BarSpec
from strategies.kernel import Kernel
from strategies.plan import KernelPlan, RuleRequest, Watch, make_plan
from strategies.registry import load_registry
from strategies.spec import RuleSpec, Use

INSTRUMENTS = 3
BARS = (
    BarSpec("1s", BarKind.TIME, interval_ns=10**8),
    BarSpec("3t", BarKind.TICK, size=3),
)
MACD = {"fast": 2, "slow": 4, "signal": 2}


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, mean):  # type: ignore[no-untyped-def] # compiled
    """Propose where the close crosses a mean of another clock; set nothing but the side."""
    side = 1 if x["close"] > mean["value"] else -1
    before = s["side"]
    s["side"] = side
    if before == 0 or before == side:
        return False
    out["side"] = side
    return True


ACROSS = RuleSpec(
    name="across",
    version="1",
    title="Close against a mean of 3-tick bars",
    params={},
    uses=lambda _p: (Use("sma", {"length": 2}, on="3t"),),
    decide=decide_nb,
    state=(("side", "i8"),),
)
RULES = (
    RuleRequest("macd", "macd_cross", "tick", MACD),
    RuleRequest("slow macd", "macd_cross", "1s", MACD),
    RuleRequest("twin of slow macd", "macd_cross", "1s", MACD),
    RuleRequest("breakout", "donchian_breakout", "3t", {"length": 3}),
    RuleRequest("trades", "zscore_reversion", "trade", {"length": 6, "entry": 1.2}),
    RuleRequest("quotes", "donchian_breakout", "quote", {"length": 4}),
    RuleRequest("across", "across", "tick"),
)
EMIT = frozenset(["1s", "3t"])


def shared_plan() -> KernelPlan:
    """Return the plan."""
    registry = load_registry()
    registry = replace(registry, rules={**registry.rules, "across": ACROSS})
    watches = [Watch("3t", "mean", Use("sma", {"length": 2})), Watch("1s", "m", Use("macd", MACD))]
    return make_plan(registry, BARS, RULES, watches)


def shared_kernel(emit: frozenset[str] = EMIT, *, pause: bool = False) -> Kernel:
    """Return a new kernel of the plan, with its instruments defined; loaded, if it was built."""
    kernel = Kernel(shared_plan(), INSTRUMENTS, emit, pause=pause)
    for at in range(INSTRUMENTS):
        kernel.define(instrument_row("A.X", id=at, day_offset_s=3600 * at, pre_close=99.0))
    kernel.warm_up(bars=True)
    return kernel


def random_bars(count: int) -> Records:
    """Make recorded bars of one second for the instruments in turn."""
    rng = np.random.default_rng(5)
    bars = np.zeros(count, BAR)
    bars["instrument"] = np.arange(count) % INSTRUMENTS
    bars["ts_open"] = 10**18 + np.arange(count) // INSTRUMENTS * 3 * 10**7
    bars["ts_event"] = bars["ts_recv"] = bars["ts_open"] + 3 * 10**7
    for name in ("open", "close"):
        bars[name] = 100.0 + np.cumsum(rng.normal(0.0, 0.1, count))
    bars["high"] = np.maximum(bars["open"], bars["close"]) + 0.1
    bars["low"] = np.minimum(bars["open"], bars["close"]) - 0.1
    bars["volume"] = rng.integers(0, 4, count)
    for name in ("bid", "ask", "pre_close"):
        bars[name] = np.nan
    return bars


def two_closes(count: int) -> Records:
    """Make recorded bars of which every second ends one bar of "1s" and fills another."""
    bars, step = random_bars(count), 10**8
    second = np.arange(count) % 2
    bars["instrument"], bars["volume"] = 0, 1.0
    bars["ts_open"] = 10**18 + np.arange(count) * step
    bars["ts_event"] = bars["ts_recv"] = bars["ts_open"] + np.where(second, step, step // 2)
    return bars


def digest() -> str:
    """Return a digest of every output, with how many candidates and bars there were."""
    kernel = shared_kernel()
    ticks = kernel_runs.run(kernel, kernel_runs.random_ticks(2000, INSTRUMENTS))
    kernel_runs.reset(kernel)
    bars = kernel_runs.run(kernel, random_bars(500), bars=True)
    counts = [len(ticks.candidates), len(ticks.bars), len(bars.candidates), len(bars.bars)]
    sums = [hashlib.sha256(out.digest()).hexdigest() for out in (ticks, bars)]
    return " ".join([*map(str, counts), *sums])


if __name__ == "__main__":
    sys.stdout.write(digest())
