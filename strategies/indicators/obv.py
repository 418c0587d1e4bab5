"""On-balance volume."""

from numba import njit

from strategies.spec import IndicatorSpec


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close and volume; O(1)."""
    close = x["close"]
    volume = x["volume"]
    if s["ready"] == 0:
        s["value"] = volume
        s["ready"] = 1
    else:
        up = volume if close > s["last"] else 0.0
        down = volume if close < s["last"] else 0.0
        s["value"] += up - down
    s["last"] = close


SPEC = IndicatorSpec(
    name="obv",
    title="On-balance volume",
    params={},
    outputs=("value",),
    state=(("last", "f8"),),
    update=update_nb,
    warm_up=lambda p: 1,
    formula="OBV_t = OBV_{t-1} + V sign(C_t - C_{t-1}); OBV_1 = V_1",
    reference="Granville (1963), New Key to Stock Market Profits; TA-Lib 0.6, OBV",
    needs=("close", "volume"),
)
