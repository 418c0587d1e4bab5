"""Volume-weighted average price of the trading day."""

from numba import njit

from strategies.spec import IndicatorSpec


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one sample's trading; O(1).

    A new ``session`` starts from nothing: until its first trade the average is not ready. A sample
    without volume changes nothing.
    """
    volume = x["volume"]
    if x["session"] != s["session"]:
        s["session"] = x["session"]
        s["amount"] = 0.0
        s["volume"] = 0.0
        s["ready"] = 0
    if not volume > 0.0:
        return
    amount = x["turnover"]
    if not amount > 0.0:
        amount = (x["high"] + x["low"] + x["close"]) * (volume * (1.0 / 3.0))
    s["amount"] += amount
    s["volume"] += volume
    s["value"] = s["amount"] / s["volume"]
    s["ready"] = 1


SPEC = IndicatorSpec(
    name="vwap",
    title="Volume-weighted average price since the trading day began",
    params={},
    outputs=("value",),
    state=(("amount", "f8"), ("volume", "f8"), ("session", "i8")),
    update=update_nb,
    warm_up=lambda p: 1,
    formula=(
        "VWAP = sum(turnover) / sum(V) since the session began; a sample without turnover counts"
        " V (H + L + C) / 3"
    ),
    reference=(
        "Berkowitz, Logue and Noser (1988), The Total Cost of Transactions on the NYSE;"
        " TA-Lib 0.8, VWAP within one session"
    ),
    needs=("high", "low", "close", "volume"),
)
