"""Hawkes intensity of buys and sells: event counts that fade with time."""

import math

from numba import njit

from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Let time pass, then add one sample's trades by side; O(1).

    A sample counts ``trades`` events (1 if the count is unknown), divided between the sides as
    its volume is. One without a known side only lets time pass; event time never goes back.
    """
    elapsed_ns = x["ts_event"] - s["ts"]
    if s["ts"] == 0:
        s["ts"] = x["ts_event"]
    elif elapsed_ns > 0:
        s["ts"] = x["ts_event"]
        fade = math.exp(-1e-9 * p["beta"] * elapsed_ns)
        s["buys"] *= fade
        s["sells"] *= fade
    volume = x["buy_volume"] + x["sell_volume"]
    if volume > 0.0:
        events = max(x["trades"], 1)
        s["seen"] += events
        s["buys"] += events * (x["buy_volume"] / volume)
        s["sells"] += events * (x["sell_volume"] / volume)
    if s["seen"] >= p["events"]:
        s["net"] = s["buys"] - s["sells"]
        s["buy"] = s["buys"]
        s["sell"] = s["sells"]
        s["ready"] = 1


SPEC = IndicatorSpec(
    name="hawkes",
    title="Hawkes intensity of trades: net, buys, sells",
    params={
        "beta": Param(0.1, 1e-6, 1e6, "decay per second; the half-life is ln 2 / beta"),
        "events": Param(20, 1, 1_000_000, "trades until it is ready"),
    },
    outputs=("net", "buy", "sell"),
    state=(("ts", "i8"), ("buys", "f8"), ("sells", "f8"), ("seen", "i8")),
    update=update_nb,
    warm_up=lambda p: int(p["events"]),
    formula=(
        "R_t = R_{t-1} exp(-beta dt) + events, for buys and for sells; net = buys - sells;"
        " dt in seconds of event time; warm-up counts trades"
    ),
    reference="Hawkes (1971), Spectra of Some Self-Exciting and Mutually Exciting Point Processes",
    needs=("ts_event", "buy_volume", "sell_volume"),
)
