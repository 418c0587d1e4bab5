"""What every configuration model is made of: strictness, durations, endpoints.

A room defines its own models on these; ``engine.config`` puts them together and loads files.
"""

import ipaddress
import re
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict

_UNITS_NS: Final = {
    "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}  # fmt: skip
_LEAST_BARE_NS: Final = 1_000
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|m|h|d)")


def parse_duration_ns(value: object) -> int:
    """Read a duration: ``"250ms"``, ``"1m"``, ``"1.5h"``, or whole nanoseconds as an integer.

    Raises:
        ValueError: not a duration, or an integer below a microsecond: seconds were meant.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 < value < _LEAST_BARE_NS:
            raise ValueError(f'{value} without a unit is nanoseconds; write "{value}s"')
        return value
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return round(float(match[1]) * _UNITS_NS[match[2]])
    raise ValueError(f'{value!r} is not a duration such as "250ms", "5s", "1m" or "1d"')


def is_loopback(host: str) -> bool:
    """Return whether a host can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


DurationNs = Annotated[int, BeforeValidator(parse_duration_ns)]
"""A duration in nanoseconds, written with a unit in TOML."""


class Settings(BaseModel):
    """Base of every configuration model: frozen, unknown keys refused, values not coerced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True)
