"""Commodity channel index."""

from numba import njit

from strategies.indicators._rolling import SUM, sum_add_nb, sum_renew_nb
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def sum_and_deviation_nb(window, mean):
    """Return the sum of a window, added from the front, and the sum of its |value - mean|.

    The index is a difference from the mean, so that near 0 another order of summation than
    TA-Lib's would show. The deviation does not care, and is four sums, so that none waits.
    """
    total = a = b = c = d = 0.0
    length = len(window)
    whole = length & ~3
    for i in range(0, whole, 4):
        total = total + window[i] + window[i + 1] + window[i + 2] + window[i + 3]
        a += abs(window[i] - mean)
        b += abs(window[i + 1] - mean)
        c += abs(window[i + 2] - mean)
        d += abs(window[i + 3] - mean)
    for i in range(whole, length):
        total += window[i]
        a += abs(window[i] - mean)
    return total, (a + b) + (c + d)


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one high, low and close; O(length): the mean deviation has no shorter way.

    Where all typical prices of the window are equal the index is 0.
    """
    length = p["length"]
    typical = (x["high"] + x["low"] + x["close"]) / 3.0
    s["same"] = (s["same"] + 1) * int(typical == s["last"])
    s["last"] = typical
    at = s["next"]
    sum_add_nb(s["sum"], ring, base + at, typical)
    at += 1
    if at == length:
        at = 0
        sum_renew_nb(s["sum"])
        s["share"] = 1.0 / length
        s["ready"] = 1
    s["next"] = at
    if s["ready"] == 0:
        return
    mean = s["sum"]["total"] * s["share"]
    total, deviation = sum_and_deviation_nb(ring[base : base + length], mean)
    s["value"] = 0.0
    if deviation > 0.0 and s["same"] < length - 1:
        s["value"] = (typical - total / length) * length / (0.015 * deviation)


SPEC = IndicatorSpec(
    name="cci",
    title="Commodity channel index",
    params={"length": Param(14, 2, 10_000, "samples of mean and mean deviation")},
    outputs=("value",),
    state=(("sum", SUM), ("share", "f8"), ("last", "f8"), ("same", "i8"), ("next", "i8")),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula=(
        "TP = (H + L + C) / 3; CCI = (TP - mean_n(TP)) / (0.015 mean_n(|TP - mean_n(TP)|));"
        " 0 where all TP are equal"
    ),
    reference="Lambert (1980), Commodity Channel Index; TA-Lib 0.6, CCI",
    needs=("high", "low", "close"),
)
