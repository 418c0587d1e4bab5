"""The numbers that hftbacktest documents for the events of its arrays."""

from enum import IntEnum, IntFlag


class EventKind(IntEnum):
    """What an event is: the lowest eight bits of ``ev``."""

    DEPTH = 1
    TRADE = 2
    CLEAR = 3
    SNAPSHOT = 4
    BEST = 5
    ADD = 10
    CANCEL = 11
    MODIFY = 12
    FILL = 13


class EventFlag(IntFlag):
    """Facts about an event: single bits of ``ev``."""

    SELL = 1 << 28
    """Of the ask side; of a trade, that the seller was the aggressor."""
    BUY = 1 << 29
    LOCAL = 1 << 30
    """It happens at ``local_ts`` for whoever listens."""
    EXCHANGE = 1 << 31
    """It happens at ``exch_ts`` for the exchange."""
