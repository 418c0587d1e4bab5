"""Fused streaming indicators against TA-Lib's batch functions, over the same bars in one run.

``python tests/bench/bench_indicators.py [--json] [--bars N] [--rounds N]``. Every indicator that
TA-Lib has too, at its default parameters; both sides write the same outputs. The two take turns, a
round each, and the ratio is the median of the rounds' ratios. ``ratio`` has both sides make and
keep their output arrays; ``ratio_reused`` has both write into memory that is there already, TA-Lib
because its arrays are freed one by one.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import talib

from engine.core.records import Bars, empty_bars
from strategies.batch import IndicatorBatch
from strategies.registry import load_registry
from strategies.spec import Use

BARS: Final = 1_000_000
ROUNDS: Final = 7
ALLOWED: Final = 0.75

SMA: Final[Any] = 0
EMA: Final[Any] = 1
"""TA-Lib's numbers of its averages."""

Arrays = dict[str, Any]
Call = Callable[[Arrays], object]


def stochastic(arrays: Arrays) -> object:
    """Call KDJ, or before TA-Lib 0.8 its equal in two of three outputs."""
    prices = (arrays["high"], arrays["low"], arrays["close"])
    if hasattr(talib, "KDJ"):
        return talib.KDJ(*prices)
    return talib.STOCH(*prices, 9, 5, EMA, 5, EMA)


def average_price(arrays: Arrays) -> object:
    """Call VWAP, which TA-Lib has from 0.8."""
    return talib.VWAP(arrays["high"], arrays["low"], arrays["close"], arrays["volume"])


PEERS: Final[dict[str, tuple[Call, ...]]] = {
    "sma": (lambda a: talib.SMA(a["close"], 20),),
    "ema": (lambda a: talib.EMA(a["close"], 20),),
    "wma": (lambda a: talib.WMA(a["close"], 20),),
    "macd": (lambda a: talib.MACD(a["close"], 12, 26, 9),),
    "rsi": (lambda a: talib.RSI(a["close"], 14),),
    "kdj": (lambda a: stochastic(a),),
    "bollinger": (lambda a: talib.BBANDS(a["close"], 20, 2.0, 2.0, SMA),),
    "atr": (lambda a: talib.ATR(a["high"], a["low"], a["close"], 14),),
    "adx": (
        lambda a: talib.ADX(a["high"], a["low"], a["close"], 14),
        lambda a: talib.PLUS_DI(a["high"], a["low"], a["close"], 14),
        lambda a: talib.MINUS_DI(a["high"], a["low"], a["close"], 14),
    ),
    "cci": (lambda a: talib.CCI(a["high"], a["low"], a["close"], 14),),
    "obv": (lambda a: talib.OBV(a["close"], a["volume"]),),
    "donchian": (lambda a: talib.MAX(a["high"], 20), lambda a: talib.MIN(a["low"], 20)),
    "roc": (lambda a: talib.ROC(a["close"], 10),),
}
"""TA-Lib's calls for the outputs of each indicator; for a Donchian channel its cheapest ones."""
if hasattr(talib, "VWAP"):
    PEERS["vwap"] = (average_price,)


def make_bars(count: int) -> Bars:
    """Make a random walk in ticks of 0.01, as one minute of many days would be."""
    rng = np.random.default_rng(1)
    closes = np.round(100 * np.exp(np.cumsum(rng.normal(0, 1e-4, count))), 2)
    opens = np.concatenate([closes[:1], closes[:-1]])
    bars = empty_bars(count)
    bars["open"], bars["close"] = opens, closes
    bars["high"] = np.maximum(opens, closes) + np.round(np.abs(rng.normal(0, 0.02, count)), 2)
    bars["low"] = np.minimum(opens, closes) - np.round(np.abs(rng.normal(0, 0.02, count)), 2)
    bars["volume"] = rng.integers(1, 1000, count)
    return bars


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of one call; what it returns is freed outside of them."""
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    del result
    return seconds


def paired(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> list[float]:
    """Return median seconds of both and the median of the ratios, taking turns."""
    ours()
    theirs()
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    return [
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    ]


def drop_each(calls: list[Call], arrays: Arrays) -> None:
    """Call one after the other, freeing each result before the next."""
    for call in calls:
        call(arrays)


def measure(bars: Bars, rounds: int) -> dict[str, Any]:
    """Measure all together, and each alone."""
    registry = load_registry()
    arrays = {n: np.ascontiguousarray(bars[n]) for n in ("high", "low", "close", "volume")}
    calls = [call for peers in PEERS.values() for call in peers]
    batch = IndicatorBatch([Use(name) for name in PEERS], registry)
    out = batch.run(bars)
    fresh = paired(lambda: batch.run(bars), lambda: [c(arrays) for c in calls], rounds)
    reused = paired(lambda: batch.run(bars, out), lambda: drop_each(calls, arrays), rounds)
    per_bar = 1e9 / len(bars)
    alone = {}
    for name, peers in PEERS.items():
        one = IndicatorBatch([Use(name)], registry)
        row = one.run(bars)
        result = paired(
            lambda one=one, row=row: one.run(bars, row),  # type: ignore[misc]  # bound now
            lambda peers=peers: drop_each(list(peers), arrays),  # type: ignore[misc]  # bound now
            3,
        )
        alone[name] = {"ours_ns": result[0] * per_bar, "talib_ns": result[1] * per_bar}
    return {
        "bars": len(bars),
        "indicators": len(PEERS),
        "outputs": len(batch.columns),
        "ours_ns": fresh[0] * per_bar,
        "talib_ns": fresh[1] * per_bar,
        "ratio": fresh[2],
        "ours_reused_ns": reused[0] * per_bar,
        "talib_reused_ns": reused[1] * per_bar,
        "ratio_reused": reused[2],
        "allowed": ALLOWED,
        "alone": alone,
        "talib": talib.__version__,
    }


def main() -> int:
    """Measure, print, and fail if a ratio is above the allowed one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--bars", type=int, default=BARS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args()
    result = measure(make_bars(chosen.bars), chosen.rounds)
    if chosen.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.write(
            f"{result['indicators']} indicators, {result['outputs']} outputs, ns a bar:\n"
            f"  new arrays     fused {result['ours_ns']:6.1f}   TA-Lib {result['talib_ns']:6.1f}"
            f"   ratio {result['ratio']:.3f} (allowed {ALLOWED})\n"
            f"  reused memory  fused {result['ours_reused_ns']:6.1f}"
            f"   TA-Lib {result['talib_reused_ns']:6.1f}   ratio {result['ratio_reused']:.3f}\n"
        )
        for name, one in result["alone"].items():
            sys.stdout.write(
                f"  {name:10} alone {one['ours_ns']:6.1f}   TA-Lib {one['talib_ns']:6.1f}\n"
            )
    return 0 if result["ratio"] <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
