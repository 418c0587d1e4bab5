"""Average directional index, with the directional indicators behind it."""

from numba import njit

from strategies.indicators.atr import true_range_nb
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one high, low and close; O(1).

    A sample at which no direction has been seen yet leaves the index as it is, and does not make
    it ready.
    """
    n = s["count"]
    rise = x["high"] - s["high"]
    fall = s["low"] - x["low"]
    up = rise if rise > 0.0 and rise > fall else 0.0
    down = fall if fall > 0.0 and fall > rise else 0.0
    span = true_range_nb(x["high"], x["low"], s["close"])
    s["high"] = x["high"]
    s["low"] = x["low"]
    s["close"] = x["close"]
    length = p["length"]
    if n < length:
        s["count"] = n + 1
        s["alpha"] = 1.0 / length
        if n > 0:
            s["up"] += up
            s["down"] += down
            s["span"] += span
        return
    alpha = s["alpha"]
    up += s["up"] - s["up"] * alpha
    down += s["down"] - s["down"] * alpha
    span += s["span"] - s["span"] * alpha
    s["up"] = up
    s["down"] = down
    s["span"] = span
    directed = up + down
    index = 0.0
    if directed > 0.0:
        index = 100.0 * (abs(up - down) / directed)
    if n < 2 * length:
        s["count"] = n + 1
        s["average"] += index * alpha
        if n + 1 < 2 * length:
            return
    elif directed > 0.0:
        s["average"] += (index - s["average"]) * alpha
    if directed > 0.0 and span > 0.0:
        s["adx"] = s["average"]
        percent = 100.0 / span
        s["plus_di"] = up * percent
        s["minus_di"] = down * percent
        s["ready"] = 1


SPEC = IndicatorSpec(
    name="adx",
    title="Average directional index, +DI and -DI",
    params={"length": Param(14, 2, 100_000, "samples of Wilder's smoothing")},
    outputs=("adx", "plus_di", "minus_di"),
    state=(
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("up", "f8"),
        ("down", "f8"),
        ("span", "f8"),
        ("average", "f8"),
        ("alpha", "f8"),
        ("count", "i8"),
    ),
    update=update_nb,
    warm_up=lambda p: 2 * int(p["length"]),
    formula=(
        "+DM = H_t - H_{t-1} where positive and above L_{t-1} - L_t, else 0; -DM likewise;"
        " S_t = S_{t-1} (1 - 1/n) + . of +DM, -DM, TR; ±DI = 100 S(±DM) / S(TR);"
        " DX = 100 |+DI - -DI| / (+DI + -DI); ADX_t = ADX_{t-1} + (DX - ADX_{t-1}) / n;"
        " first = mean of the first n DX"
    ),
    reference="Wilder (1978), New Concepts in Technical Trading Systems; TA-Lib 0.6, ADX",
    needs=("high", "low", "close"),
)
