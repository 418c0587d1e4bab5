"""Moving average convergence divergence, in TA-Lib's and in the Chinese terminals' convention."""

from numba import njit

from strategies.spec import IndicatorSpec, Param, Params


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close, as TA-Lib: both averages are seeded by simple ones that end together."""
    close = x["close"]
    signal = p["signal"]
    slow = max(p["slow"], p["fast"])
    fast = min(p["slow"], p["fast"])
    n = s["count"] + 1
    s["count"] = n
    if n <= slow:
        s["slow_sum"] += close
        if n > slow - fast:
            s["fast_sum"] += close
        if n < slow:
            return
        s["slow_alpha"] = 2.0 / (slow + 1)
        s["fast_alpha"] = 2.0 / (fast + 1)
        s["signal_alpha"] = 2.0 / (signal + 1)
        s["slow_ema"] = s["slow_sum"] / slow
        s["fast_ema"] = s["fast_sum"] / fast
    else:
        s["slow_ema"] += (close - s["slow_ema"]) * s["slow_alpha"]
        s["fast_ema"] += (close - s["fast_ema"]) * s["fast_alpha"]
    line = s["fast_ema"] - s["slow_ema"]
    seen = n - slow + 1
    if seen <= signal:
        s["signal_sum"] += line
        if seen < signal:
            return
        s["signal_ema"] = s["signal_sum"] / signal
    else:
        s["signal_ema"] += (line - s["signal_ema"]) * s["signal_alpha"]
    s["line"] = line
    s["signal"] = s["signal_ema"]
    s["histogram"] = line - s["signal_ema"]
    s["ready"] = 1


@njit(error_model="numpy", forceinline=True)
def update_cn_nb(s, p, ring, base, x):
    """Add one close, as Chinese terminals: averages start at the first close."""
    close = x["close"]
    slow = max(p["slow"], p["fast"])
    fast = min(p["slow"], p["fast"])
    n = s["count"] + 1
    s["count"] = n
    if n == 1:
        s["slow_ema"] = close
        s["fast_ema"] = close
    else:
        s["slow_ema"] += (close - s["slow_ema"]) * (2.0 / (slow + 1))
        s["fast_ema"] += (close - s["fast_ema"]) * (2.0 / (fast + 1))
    line = s["fast_ema"] - s["slow_ema"]
    if n == 1:
        s["signal_ema"] = line
    else:
        s["signal_ema"] += (line - s["signal_ema"]) * (2.0 / (p["signal"] + 1))
    if n >= slow + p["signal"] - 1:
        s["line"] = line
        s["signal"] = s["signal_ema"]
        s["histogram"] = 2.0 * (line - s["signal_ema"])
        s["ready"] = 1


PARAMS = {
    "fast": Param(12, 1, 100_000, "samples of the fast average"),
    "slow": Param(26, 2, 100_000, "samples of the slow average; swapped with fast if smaller"),
    "signal": Param(9, 1, 100_000, "samples of the signal line"),
}


def _warm_up(p: Params) -> int:
    return int(max(p["slow"], p["fast"]) + p["signal"] - 1)


SPEC = IndicatorSpec(
    name="macd",
    title="MACD (TA-Lib): line, signal and histogram",
    params=PARAMS,
    outputs=("line", "signal", "histogram"),
    state=(
        ("count", "i8"),
        ("slow_sum", "f8"),
        ("fast_sum", "f8"),
        ("slow_alpha", "f8"),
        ("fast_alpha", "f8"),
        ("signal_alpha", "f8"),
        ("slow_ema", "f8"),
        ("fast_ema", "f8"),
        ("signal_sum", "f8"),
        ("signal_ema", "f8"),
    ),
    update=update_nb,
    warm_up=_warm_up,
    formula="line = EMA(fast) - EMA(slow); signal = EMA(line); histogram = line - signal",
    reference="Appel (1979), The Moving Average Convergence-Divergence Method; TA-Lib 0.6, MACD",
)

SPEC_CN = IndicatorSpec(
    name="macd_cn",
    title="MACD (Chinese terminals): DIF, DEA and the doubled histogram",
    params=PARAMS,
    outputs=("line", "signal", "histogram"),
    state=(("count", "i8"), ("slow_ema", "f8"), ("fast_ema", "f8"), ("signal_ema", "f8")),
    update=update_cn_nb,
    warm_up=_warm_up,
    formula="DIF = EMA(12) - EMA(26); DEA = EMA(DIF, 9); MACD = 2 (DIF - DEA); EMA_1 = C_1",
    reference="Chinese terminals (Tongdaxin, Tonghuashun) convention",
)
