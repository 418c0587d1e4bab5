"""What a bar is, as data; the compiled aggregation is in ``strategies.bars``."""

from dataclasses import dataclass
from enum import IntEnum


class BarKind(IntEnum):
    """What fills a bar."""

    TIME = 0
    TICK = 1
    VOLUME = 2
    TURNOVER = 3


class PriceBasis(IntEnum):
    """Which samples give a bar its prices."""

    AUTO = 0
    TRADE = 1
    MID = 2


@dataclass(frozen=True, slots=True)
class BarSpec:
    """One kind of bar; ``interval_ns`` for time bars, ``size`` for the others."""

    name: str
    kind: BarKind
    interval_ns: int = 0
    size: float = 0.0
    basis: PriceBasis = PriceBasis.AUTO
