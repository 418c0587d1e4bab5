"""What the gate has let through: booked positions, today's purchases, rates and cool-downs.

A booked position is counted in units: a BUY is one unit up, a SELL one unit down, whatever the
strength, for the sizes traded on a signal are not known here. Where nothing may be sold short a
position stops at flat: a SELL beyond that concerns holdings of which the gate knows nothing.
Every table is bounded by the instruments or strategies, every ring by its limit.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from engine.core.candidates import Candidate


class Position:
    """One instrument's booked units, positive if long."""

    __slots__ = ("bought_session", "bought_units", "units")

    def __init__(self) -> None:
        self.units = 0
        self.bought_units = 0
        self.bought_session: int | None = None

    def sellable_units(self, session: int) -> int:
        """Return the units held that were not bought in this session."""
        bought = self.bought_units if self.bought_session == session else 0
        return self.units - bought


FLAT: Final = Position()
"""The position of an instrument in which nothing was booked; never written to."""


class BookingsState(msgspec.Struct, frozen=True):
    """All that ``Bookings`` knows, as plain values: for a snapshot."""

    positions: list[tuple[int, int, int, int | None]]
    """Instrument, units, units bought in a session, the session."""
    last: list[tuple[int, int, int, int]]
    """Instrument, strategy, side, when it was last given, ns."""
    per_instrument: dict[int, list[int]]
    per_strategy: dict[int, list[int]]
    in_all: list[int]
    """Times of the last signals, ns, oldest first."""


class Ring:
    """The times of the last ``limit`` events: tells whether one more exceeds the rate.

    Attributes:
        full: There have been ``limit`` events, so that one more may exceed it.
    """

    __slots__ = ("_limit", "_times", "full")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: deque[int] = deque(maxlen=limit)
        self.full = False

    def is_full(self, ts_ns: int, window_ns: int) -> bool:
        """Tell whether ``limit`` events lie within the window before this time.

        A time that stepped back by more than a window begins anew.
        """
        return self.full and abs(ts_ns - self._times[0]) < window_ns

    def add(self, ts_ns: int) -> None:
        """Note one event."""
        self._times.append(ts_ns)
        self.full = len(self._times) == self._limit

    def take(self, times: Iterable[int]) -> None:
        """Forget everything and note these events, oldest first."""
        self._times.clear()
        self._times.extend(times)
        self.full = len(self._times) == self._limit

    def times(self) -> list[int]:
        """Return what it holds, oldest first."""
        return list(self._times)


class Bookings:
    """Everything let through that a later rule asks about; written only by ``book``.

    Args:
        per_instrument: Signals of one instrument that a ring holds; 0: none is kept.
        per_strategy: Likewise of one strategy.
        in_all: Likewise of all together.
    """

    __slots__ = (
        "_in_all", "_instruments", "_last", "_per_instrument", "_per_strategy", "_positions",
        "_strategies", "gross_units",
    )  # fmt: skip

    def __init__(self, per_instrument: int, per_strategy: int, in_all: int) -> None:
        self._per_instrument = per_instrument
        self._per_strategy = per_strategy
        self._in_all = Ring(in_all) if in_all else None
        self._instruments: dict[int, Ring] = {}
        self._strategies: dict[int, Ring] = {}
        self._positions: dict[int, Position] = {}
        self._last: dict[tuple[int, int, int], int] = {}
        self.gross_units = 0

    def position(self, instrument: int) -> Position:
        """Return an instrument's booked position."""
        return self._positions.get(instrument, FLAT)

    def last_ts_recv(self, candidate: Candidate) -> int | None:
        """Return when this strategy last gave this side of this instrument."""
        return self._last.get((candidate.instrument, candidate.strategy, candidate.side))

    def full_ring(self, candidate: Candidate, window_ns: int) -> str | None:
        """Return whose rate one more signal would exceed, None if nobody's."""
        ts = candidate.ts_recv
        ring = self._instruments.get(candidate.instrument)
        if ring is not None and ring.full and ring.is_full(ts, window_ns):
            return "instrument"
        ring = self._strategies.get(candidate.strategy)
        if ring is not None and ring.full and ring.is_full(ts, window_ns):
            return "strategy"
        ring = self._in_all
        if ring is not None and ring.full and ring.is_full(ts, window_ns):
            return "all"
        return None

    def book(self, candidate: Candidate, *, long_only: bool) -> None:
        """Note a signal that was let through."""
        self._move(candidate, long_only=long_only)
        ts = candidate.ts_recv
        self._last[candidate.instrument, candidate.strategy, candidate.side] = ts
        if self._per_instrument:
            _ring(self._instruments, candidate.instrument, self._per_instrument).add(ts)
        if self._per_strategy:
            _ring(self._strategies, candidate.strategy, self._per_strategy).add(ts)
        if self._in_all is not None:
            self._in_all.add(ts)

    def export_state(self) -> BookingsState:
        """Return a copy of all of it."""
        return BookingsState(
            positions=[
                (instrument, one.units, one.bought_units, one.bought_session)
                for instrument, one in self._positions.items()
            ],
            last=[(*key, ts) for key, ts in self._last.items()],
            per_instrument={key: ring.times() for key, ring in self._instruments.items()},
            per_strategy={key: ring.times() for key, ring in self._strategies.items()},
            in_all=[] if self._in_all is None else self._in_all.times(),
        )

    def import_state(self, kept: BookingsState) -> None:
        """Forget everything and take up what was exported."""
        self._positions = {}
        for instrument, units, bought_units, session in kept.positions:
            position = self._positions[instrument] = Position()
            position.units, position.bought_units = units, bought_units
            position.bought_session = session
        self.gross_units = sum(abs(one.units) for one in self._positions.values())
        self._last = {(key[0], key[1], key[2]): ts for *key, ts in kept.last}
        self._instruments = _rings(kept.per_instrument, self._per_instrument)
        self._strategies = _rings(kept.per_strategy, self._per_strategy)
        if self._in_all is not None:
            self._in_all.take(kept.in_all)

    def _move(self, candidate: Candidate, *, long_only: bool) -> None:
        position = self._positions.get(candidate.instrument)
        if position is None:
            position = self._positions[candidate.instrument] = Position()
        before = position.units
        position.units = moved(before, candidate.side, long_only=long_only)
        self.gross_units += abs(position.units) - abs(before)
        if candidate.side > 0:
            if position.bought_session != candidate.session:
                position.bought_session, position.bought_units = candidate.session, 0
            position.bought_units += 1


def moved(units: int, side: int, *, long_only: bool) -> int:
    """Return the units after one more signal."""
    after = units + side
    return max(after, 0) if long_only else after


def _ring(rings: dict[int, Ring], key: int, limit: int) -> Ring:
    ring = rings.get(key)
    if ring is None:
        ring = rings[key] = Ring(limit)
    return ring


def _rings(kept: dict[int, list[int]], limit: int) -> dict[int, Ring]:
    """Return the rings of a table; none where the limit is off by now."""
    rings: dict[int, Ring] = {}
    for key, times in kept.items() if limit else ():
        _ring(rings, key, limit).take(times)
    return rings
