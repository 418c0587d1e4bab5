"""Fused streaming indicators against TA-Lib's batch functions, over the same bars in one run.

Every indicator that TA-Lib has too, at its default parameters; both sides write the same outputs.
The two take turns, a round each, and the ratio is the median of the rounds' ratios. With new
arrays both sides make and keep their outputs; with reused memory both write into what is there
already, TA-Lib because its arrays are freed one by one.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import talib
from bench.measuring import Figure, Outcome, report

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


def paired(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> list[tuple[float, float]]:
    """Return the seconds of both, round by round, taking turns."""
    ours()
    theirs()
    return [(timed(ours), timed(theirs)) for _ in range(rounds)]


def drop_each(calls: list[Call], arrays: Arrays) -> None:
    """Call one after the other, freeing each result before the next."""
    for call in calls:
        call(arrays)


def figures_of(
    case: str, pairs: list[tuple[float, float]], bars: int, at_most: float | None = None
) -> list[Figure]:
    """Return both sides' nanoseconds a bar and their ratio."""
    per_bar = 1e9 / bars
    return [
        Figure.of(f"{case}: fused streaming", [ours * per_bar for ours, _ in pairs], "ns/bar"),
        Figure.of(f"{case}: TA-Lib batch", [talib * per_bar for _, talib in pairs], "ns/bar"),
        Figure.of(f"{case}: ratio", [a / b for a, b in pairs], "x", at_most=at_most),
    ]


def measure_alone(bars: Bars, arrays: Arrays) -> str:
    """Return what each indicator takes by itself, as a sentence."""
    registry = load_registry()
    parts = []
    for name, peers in PEERS.items():
        one = IndicatorBatch([Use(name)], registry)
        row = one.run(bars)
        pairs = paired(
            lambda one=one, row=row: one.run(bars, row),  # type: ignore[misc]  # bound now
            lambda peers=peers: drop_each(list(peers), arrays),  # type: ignore[misc]  # bound now
            3,
        )
        ours, theirs = (sorted(side)[1] * 1e9 / len(bars) for side in zip(*pairs, strict=True))
        parts.append(f"{name} {ours:.1f} ({theirs:.1f})")
    return f"Alone, ns a bar, TA-Lib in brackets: {', '.join(parts)}."


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure all together, and each alone."""
    rounds = 3 if arguments.quick else ROUNDS
    bars = make_bars(arguments.bars)
    arrays = {n: np.ascontiguousarray(bars[n]) for n in ("high", "low", "close", "volume")}
    calls = [call for peers in PEERS.values() for call in peers]
    batch = IndicatorBatch([Use(name) for name in PEERS], load_registry())
    out = batch.run(bars)
    fresh = paired(lambda: batch.run(bars), lambda: [c(arrays) for c in calls], rounds)
    reused = paired(lambda: batch.run(bars, out), lambda: drop_each(calls, arrays), rounds)
    return Outcome(
        "Indicators against TA-Lib",
        [
            *figures_of("new arrays", fresh, len(bars), ALLOWED),
            *figures_of("reused memory", reused, len(bars)),
        ],
        [
            f"{len(PEERS)} indicators with {len(batch.columns)} outputs over {len(bars):,} bars: "
            f"{', '.join(PEERS)}; TA-Lib {talib.__version__}, one call after the other, whose "
            "times add up. Ours go bar by bar, all in one compiled loop, as they do live.",
            "New arrays: both sides make and keep their outputs. Reused memory: both write into "
            "memory that is there already.",
            measure_alone(bars, arrays),
        ],
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bars", type=int, default=BARS)


if __name__ == "__main__":
    report(measure, __doc__, _add_arguments)
