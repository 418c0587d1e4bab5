"""One key that a sweep varies, as it is written on the command line: ``KEY=RANGE``.

``5:50`` and ``5:50:5`` are whole numbers, ``0.1:2.0`` and ``0.1:2.0:0.1`` are not, ``1:1000:log``
is drawn evenly over the orders of magnitude, ``a,b,c`` are choices.
"""

import math
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from engine.core.errors import ConfigError

Scalar = bool | int | float | str
"""What a key may be set to."""
MAX_VALUES: Final = 100_000
"""Most values of one key, or points of a grid, that are listed one by one."""

_OPTION: Final = "--param"
_FORMS: Final = (
    "give KEY=LOW:HIGH, KEY=LOW:HIGH:STEP, KEY=LOW:HIGH:log or KEY=A,B,C, "
    "for example strategies.macd.params.fast=5:50:5"
)


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        key: Dotted path of the key.
        low: Least value.
        high: Greatest value; with a step, the last one that the steps reach.
        step: Distance between two values, from ``low`` on; None where every number will do.
        log: Drawn evenly over the orders of magnitude.
    """

    key: str
    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether its numbers are integers."""
        return isinstance(self.low, int)

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """The values between which all others lie."""
        return (self.low, self.high)

    def listed(self) -> list[Scalar]:
        """Return every value.

        Raises:
            ConfigError: there is no end of them, or none in sight: a grid is not possible.
        """
        if self.step is None:
            fix = "a grid needs a step or choices: LOW:HIGH:STEP or A,B,C"
            raise ConfigError("command line", _OPTION, str(self), fix)
        steps = (Decimal(str(self.high)) - Decimal(str(self.low))) / Decimal(str(self.step))
        if steps >= MAX_VALUES:
            fix = (
                f"{int(steps) + 1} values are too many to list, at most {MAX_VALUES}: larger steps"
            )
            raise ConfigError("command line", _OPTION, str(self), fix)
        return [self.at(number) for number in range(int(steps) + 1)]

    def at(self, steps: int) -> Scalar:
        """Return the value so many steps above the least, without a float's rounding."""
        value = Decimal(str(self.low)) + steps * Decimal(str(self.step))
        return int(value) if self.whole else float(value)

    def __str__(self) -> str:
        last = ":log" if self.log else "" if self.step is None else f":{self.step}"
        return f"{self.key}={self.low}:{self.high}{last}"


@dataclass(frozen=True, slots=True)
class Choices:
    """One of several values; they may have an order or none."""

    key: str
    values: tuple[Scalar, ...]

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """All of them."""
        return self.values

    def listed(self) -> list[Scalar]:
        """Return every value."""
        return list(self.values)

    def __str__(self) -> str:
        told = (str(v).lower() if isinstance(v, bool) else str(v) for v in self.values)
        return f"{self.key}={','.join(told)}"


Dimension = Range | Choices


def parse_dimension(text: str) -> Dimension:
    """Read ``KEY=RANGE``.

    Raises:
        ConfigError: it cannot be read, or there is nothing in the range.
    """
    key, equals, given = text.partition("=")
    key, given = key.strip(), given.strip()
    if not equals or not key or not given:
        raise _refused(text, _FORMS)
    if ":" not in given:
        return _choices(text, key, given)
    parts = [part.strip() for part in given.split(":")]
    if len(parts) not in (2, 3):
        raise _refused(text, _FORMS)
    return _range(text, key, parts)


def _choices(text: str, key: str, given: str) -> Choices:
    values = tuple(_scalar(part.strip()) for part in given.split(","))
    if "" in values:
        raise _refused(text, "there is an empty choice in it")
    if len(set(map(repr, values))) < len(values):
        raise _refused(text, "a choice is given twice")
    if len(values) > MAX_VALUES:
        raise _refused(text, f"at most {MAX_VALUES} choices")
    return Choices(key, values)


def _range(text: str, key: str, parts: list[str]) -> Range:
    log = len(parts) == 3 and parts[2] == "log"
    numbers = [_number(text, part) for part in parts[: 2 if log else 3]]
    whole = all(isinstance(number, int) for number in numbers)
    low, high, *rest = numbers if whole else map(float, numbers)
    step = rest[0] if rest else 1 if whole and not log else None
    if low > high:
        raise _refused(text, f"the range is empty: {low} is above {high}")
    if log and low <= 0:
        raise _refused(text, "a logarithmic range begins above 0")
    if step is None:
        return Range(key, low, high, None, log)
    if step <= 0:
        raise _refused(text, "a step is above 0")
    return _stepped(Range(key, low, high, step))


def _stepped(given: Range) -> Range:
    """Return the range with the greatest value that its steps reach."""
    assert given.step is not None
    low, step = Decimal(str(given.low)), Decimal(str(given.step))
    steps = int((Decimal(str(given.high)) - low) / step)
    last = low + steps * step
    high = int(last) if given.whole else float(last)
    return Range(given.key, given.low, high, given.step)


def _number(text: str, part: str) -> int | float:
    value = _scalar(part)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refused(text, f"{part!r} is not a number; {_FORMS}")
    return value


def _scalar(text: str) -> Scalar:
    """Read a value as TOML; what is none is text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _refused(text: str, expected: str) -> ConfigError:
    return ConfigError("command line", _OPTION, text, expected)
