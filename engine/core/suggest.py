"""What is told to a person who wrote a name that there is not: the nearest one, and all of them."""

import difflib
from collections.abc import Iterable
from typing import Final

MOST: Final = 2
"""Names suggested for one."""
_SURE: Final = 0.85
"""Likeness, of 1, from which one name is the only one that can be meant."""
_LEAST_INSIDE: Final = 2
"""Letters from which a name is looked for inside others."""


def similar(found: object, known: Iterable[str]) -> list[str]:
    """Return the known names most like one, the likest first, at most ``MOST``; capitals are alike.

    A name inside a longer one is like it: "imbalance" is like "order_flow_imbalance".
    """
    name = str(found).lower()
    by_small = {each.lower(): each for each in sorted(set(known), reverse=True)}
    small = sorted(by_small)
    close = difflib.get_close_matches(name, small, n=1, cutoff=_SURE)
    if not close:
        close = difflib.get_close_matches(name, small, n=MOST)
    if not close and len(name) >= _LEAST_INSIDE:
        close = [each for each in small if name in each]
    return [by_small[each] for each in dict.fromkeys(close)][:MOST]


def did_you_mean(found: object, known: Iterable[str]) -> str:
    """Return ``did you mean 'rsi'? `` with a blank behind it; "" where nothing is like it."""
    close = similar(found, known)
    return f"did you mean {' or '.join(map(repr, close))}? " if close else ""


def known_names(what: str, known: Iterable[str], found: object) -> str:
    """Return what may stand where an unknown name was found.

    Args:
        what: What they are, in the plural: "rules".
        known: All of them, in the order in which they are to be told.
        found: What was written.
    """
    names = list(known)
    return f"{did_you_mean(found, names)}{what} are: {', '.join(names) or 'none'}"
