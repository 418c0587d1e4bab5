"""The rules written the plain way: over the whole series at once, with list slices for memory.

Each takes the rows on which all its indicators are ready, a row a dictionary of the sample's prices
and of ``indicator.output`` values, and returns what it would propose.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

Row = Mapping[str, float]
Params = Mapping[str, float]


class Proposed(NamedTuple):
    """A proposal on row ``at``."""

    at: int
    side: int
    strength: float
    confidence: float
    edge_bps: float = math.nan


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _gap_share(row: Row) -> float:
    line, signal = row["macd.line"], row["macd.signal"]
    return abs(line - signal) / (abs(line) + abs(signal))


def macd_cross(rows: Sequence[Row], p: Params) -> list[Proposed]:
    """Sides that the histogram takes, each different from the last."""
    taken = [
        (at, _sign(row["macd.histogram"]))
        for at, row in enumerate(rows)
        if abs(row["macd.histogram"]) > p["min_histogram_bps"] * 1e-4 * row["close"]
    ]
    made = []
    for (_, before), (at, side) in pairwise(taken):
        if before != side:
            agrees = _sign(rows[at]["macd.line"]) == side
            made.append(Proposed(at, side, _gap_share(rows[at]), 0.75 if agrees else 0.5))
    return made


def macd_rsi(rows: Sequence[Row], p: Params) -> list[Proposed]:
    """The module's two sentences."""
    made = []
    for at in range(1, len(rows)):
        before, now = rows[at - 1]["macd.histogram"], rows[at]["macd.histogram"]
        rsi, low, high = rows[at]["rsi"], p["oversold"], p["overbought"]
        if before <= 0 and now > 0 and rsi < high:
            made.append(Proposed(at, 1, _gap_share(rows[at]), 0.5 + (high - rsi) / high / 2))
        if before >= 0 and now < 0 and rsi > low:
            share = (rsi - low) / (100 - low)
            made.append(Proposed(at, -1, _gap_share(rows[at]), 0.5 + share / 2))
    return made


def kdj_macd(rows: Sequence[Row], p: Params) -> list[Proposed]:
    """All crosses first; then, for each until the next, the first agreeing sample soon enough."""
    above = [(at, _sign(row["kdj.k"] - row["kdj.d"])) for at, row in enumerate(rows)]
    above = [(at, sign) for at, sign in above if sign]
    crosses = [now for before, now in pairwise(above) if before[1] != now[1]]
    made = []
    for index, (start, side) in enumerate(crosses):
        d = rows[start]["kdj.d"]
        if not (d <= p["zone"] if side > 0 else d >= 100 - p["zone"]):
            continue
        end = crosses[index + 1][0] if index + 1 < len(crosses) else len(rows)
        for at in range(start, min(end, start + int(p["patience"]) + 1)):
            if rows[at]["macd.histogram"] * side > 0:
                confidence = 0.5 + 0.4 / (1 + at - start)
                made.append(Proposed(at, side, min(1, abs(d - 50) / 50), confidence))
                break
    return made


def bollinger_reversion(rows: Sequence[Row], p: Params) -> list[Proposed]:
    """Runs of closes beyond one band, and the first close after each."""
    zone = []
    for row in rows:
        away, sd = row["close"] - row["bollinger"], row["bollinger.sd"]
        zone.append(_sign(away) if sd > 0 and abs(away) > p["width"] * sd else 0)
    made = []
    for at in range(1, len(rows)):
        if zone[at] != 0 or zone[at - 1] == 0:
            continue
        start = at - 1
        while start > 0 and zone[start - 1] == zone[at - 1]:
            start -= 1
        outside = rows[start:at]
        furthest = max(abs(r["close"] - r["bollinger"]) / r["bollinger.sd"] for r in outside)
        row, side = rows[at], -zone[at - 1]
        away = row["bollinger"] - row["close"]
        if _sign(away) == side and row["bollinger.sd"] > 0:
            made.append(
                Proposed(
                    at,
                    side,
                    min(1, (furthest - p["width"]) / p["width"]),
                    1 - abs(away) / (p["width"] * row["bollinger.sd"]) / 2,
                    abs(away) / row["close"] * 10_000,
                )
            )
    return made


def _first_of_each(states: Sequence[int | None]) -> list[int]:
    """Return where a side (+1, -1) comes that is not the last one; 0 forgets the last, None not."""
    last, found = 0, []
    for at, state in enumerate(states):
        if state is not None:
            if state not in (0, last):
                found.append(at)
            last = state
    return found


def zscore_reversion(rows: Sequence[Row], p: Params) -> list[Proposed]:
    """Each score is beyond entry, within rearm, or neither."""
    scores = [row["zscore"] for row in rows]
    states = [
        -_sign(z) if abs(z) >= p["entry"] else 0 if abs(z) <= p["rearm"] else None for z in scores
    ]
    made = []
    for at in _first_of_each(states):
        row, side = rows[at], states[at] or 0
        edge = abs(row["close"] / row["close"] - row["sma"] / row["close"]) * 10_000
        made.append(Proposed(at, side, min(1, abs(scores[at]) / p["entry"] - 1), 0.5, edge))
    return made


def donchian_breakout(rows: Sequence[Row], _p: Params) -> list[Proposed]:
    """Closes beyond the channel one row earlier, less those that follow one the same way."""
    made = []
    last = 0
    for at in range(1, len(rows)):
        row, upper, lower = rows[at], rows[at - 1]["donchian"], rows[at - 1]["donchian.lower"]
        side = 1 if row["close"] > upper else -1 if row["close"] < lower else 0
        middle = (upper + lower) / 2
        if side == 0:
            back = row["close"] <= middle if last > 0 else row["close"] >= middle
            last = 0 if back else last
        elif side != last:
            last = side
            beyond = row["close"] - upper if side > 0 else lower - row["close"]
            strength = min(1, beyond / (upper - lower)) if upper > lower else 1
            span, inside = row["high"] - row["low"], row["close"] - row["low"]
            share = 0.0 if span == 0 else inside / span if side > 0 else 1 - inside / span
            made.append(Proposed(at, side, strength, 0.5 + share / 2))
    return made


def flow_momentum(rows: Sequence[Row], p: Params) -> list[Proposed]:
    """Each flow is beyond entry with the book's consent, within rearm, or neither."""
    states: list[int | None] = []
    for row in rows:
        flow, book = row["trade_flow.normalised"], row["order_flow_imbalance.per_depth"]
        if abs(flow) >= p["entry"]:
            states.append(_sign(flow) if _sign(flow) * book >= 0 else None)
        else:
            states.append(0 if abs(flow) <= p["rearm"] else None)
    made = []
    for at in _first_of_each(states):
        row, side = rows[at], states[at] or 0
        size = abs(row["trade_flow.normalised"])
        book = abs(row["order_flow_imbalance.per_depth"])
        edge = p["move_bps"] * size if p["move_bps"] else math.nan
        made.append(Proposed(at, side, size, 0.5 + book / (1 + book) / 2, edge))
    return made


TWINS: Mapping[str, Callable[[Sequence[Row], Params], list[Proposed]]] = {
    twin.__name__: twin
    for twin in (
        macd_cross, macd_rsi, kdj_macd, bollinger_reversion, zscore_reversion, donchian_breakout,
        flow_momentum,
    )
}  # fmt: skip
