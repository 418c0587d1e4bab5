"""What every engine of the backtest comparisons has to trade, and whether all of them did.

Buy at the next price when the close is above the highest high of the samples before it and nothing
is held; sell at the next price when it is below their lowest low and something is. Always the same
number of shares, never short, commission in parts of the value, no other cost and no other rule.
Nothing of it is rounded, so that trades can be compared to the last one and not only counted.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

LENGTH: Final = 20
"""Samples of the channel."""
CASH: Final = 1e9
SHARES: Final = 100.0
COMMISSION: Final = {"daily": 2.5e-4, "ticks": 5e-5}
"""Of a fill's value, as a fraction."""

FILLED: Final = np.dtype(
    [("instrument", "i8"), ("ts", "i8"), ("row", "i8"), ("side", "i8"), ("price", "f8"),
     ("cost", "f8")],
)  # fmt: skip
"""One execution. ``row``: of the record that filled it, -1 where an engine does not tell."""

Filled = npt.NDArray[np.void]


class Played(NamedTuple):
    """What one run of an engine took, and what it traded, FILLED."""

    seconds: float
    filled: Filled


class MismatchError(Exception):
    """Engines that were to trade the same did not: their times say nothing."""


def by_instrument(filled: Filled) -> Filled:
    """Return fills by instrument, each one's in order of time as they came."""
    return filled[np.argsort(filled["instrument"], kind="stable")]


def check_equal(who: str, ours: Filled, theirs: Filled, *, cost_within: float) -> None:
    """Compare two engines' fills, one by one.

    Args:
        who: The other engine.
        ours: FILLED by instrument.
        theirs: FILLED by instrument.
        cost_within: What a fill's commission may differ by: half a cent where money is rounded.

    Raises:
        MismatchError: they differ; the first fill that does is named.
    """
    if len(ours) != len(theirs):
        raise MismatchError(f"{len(ours)} fills, {who} made {len(theirs)}{_first(ours, theirs)}")
    same = np.ones(len(ours), bool)
    for name in ("instrument", "ts", "side"):
        same &= ours[name] == theirs[name]
    same &= np.isclose(ours["price"], theirs["price"], rtol=1e-12, atol=0.0)
    same &= np.abs(ours["cost"] - theirs["cost"]) <= cost_within + 1e-9
    if not same.all():
        at = int(np.argmin(same))
        raise MismatchError(f"fill {at}: {ours[at]}, {who}: {theirs[at]}")


def _first(ours: Filled, theirs: Filled) -> str:
    count = min(len(ours), len(theirs))
    names = ("instrument", "ts", "side")
    same = np.array([[one[:count][name] for name in names] for one in (ours, theirs)])
    wrong = np.flatnonzero((same[0] != same[1]).any(axis=0))
    at = int(wrong[0]) if len(wrong) else count
    told = [str(one[at]) if at < len(one) else "none" for one in (ours, theirs)]
    return f"; the first that differs, {at}: {told[0]}, theirs {told[1]}"


def round_trips(filled: Filled) -> int:
    """Return how many buys were sold again."""
    return int(np.count_nonzero(filled["side"] < 0))
