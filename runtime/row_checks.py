"""Whether windows and answers are what they may be: one compiled pass over each batch."""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import boolean, config, float32, float64, int64, njit

from engine.core.models import Floats


@njit(error_model="numpy", cache=True, nogil=True)
def all_finite_nb(rows: Floats, count: int) -> bool:
    """Return whether the first ``count`` of ``rows``, float32 (N, W, F), hold no NaN or infinity.

    A difference to itself that is not 0 is what both have in common; no value ends it early, for
    so the compiler takes many at once.
    """
    flat = rows[:count].reshape(-1)
    odd = 0
    for place in range(len(flat)):
        value = flat[place]
        odd |= value - value != 0
    return odd == 0


@njit(error_model="numpy", cache=True, nogil=True)
def all_within_nb(
    rows: Floats, count: int, low: float, high: float, total: float, slack: float
) -> bool:
    """Return whether the first ``count`` of ``rows``, float32 (N, O), are answers.

    Args:
        rows: As above.
        count: As above.
        low: Least value of each output.
        high: Greatest value of each output.
        total: What each row adds up to, NaN for nothing in particular.
        slack: By how much the sum may be off.
    """
    for place in range(count):
        added = 0.0
        for value in rows[place]:
            if not low <= value <= high:
                return False
            added += value
        if abs(added - total) > slack:
            return False
    return True


@cache
def finite_check() -> Callable[[Floats, int], bool]:
    """Compile ``all_finite_nb``, or load it from the cache; it takes no other types then."""
    check: Callable[[Floats, int], bool]
    check = _compiled(all_finite_nb, boolean(float32[:, :, ::1], int64))
    return check


@cache
def answer_check() -> Callable[[Floats, int, float, float, float, float], bool]:
    """Compile ``all_within_nb``, or load it from the cache; it takes no other types then."""
    floats = (float64, float64, float64, float64)
    check: Callable[[Floats, int, float, float, float, float], bool]
    check = _compiled(all_within_nb, boolean(float32[:, ::1], int64, *floats))
    return check


def _compiled(kernel: Any, signature: Any) -> Any:
    if not getattr(config, "DISABLE_JIT", 0):
        kernel.compile(signature)
        kernel.disable_compile()
    return kernel
