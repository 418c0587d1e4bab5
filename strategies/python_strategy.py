"""The plain Python strategy: a class with callbacks, called only for what it subscribes to.

Its price: each callback is a Python call with a freshly made record, some microseconds, where a
compiled rule costs some nanoseconds. Subscribe to bars rather than ticks where bars will do.

Callbacks come in the order of the tick log, so a replay calls them in the same order with the same
values; a strategy that reads nothing else gives the same signals again. Indicator values are those
at the close of the bar that is handed over.
"""

import math
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from engine.core.signals import Signal
from strategies.spec import Use


class TradeTick(msgspec.Struct, frozen=True, gc=False):
    """One trade. Times in ns; ``side`` +1 buyer, -1 seller, 0 unknown aggressor."""

    instrument: str
    ts_event: int
    ts_recv: int
    price: float
    size: float
    side: int


class QuoteTick(msgspec.Struct, frozen=True, gc=False):
    """The top of book after a change. Times in ns; NaN where a side is unknown."""

    instrument: str
    ts_event: int
    ts_recv: int
    bid: float
    ask: float
    bid_size: float
    ask_size: float

    @property
    def mid(self) -> float:
        """Half of bid plus ask."""
        return 0.5 * (self.bid + self.ask)


class DataGap(msgspec.Struct, frozen=True, gc=False):
    """Records that were lost before what comes next, of any instruments.

    Times in ns, those of the next record. ``missing`` records; 0: nobody knows how many, since the
    stream began anew.
    """

    ts_event: int
    ts_recv: int
    missing: int


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One closed bar of the strategy's clock, with the indicators it asked for.

    ``indicators``: by the names of ``Strategy.indicators``, each output as ``name`` (the main one)
    or ``name.output``; an indicator that is not ready is absent, never a guess.
    """

    instrument: str
    spec: str
    ts_open: int
    ts_event: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    turnover: float
    buy_volume: float
    sell_volume: float
    bid: float
    ask: float
    indicators: Mapping[str, float]


class Proposal(NamedTuple):
    """What a Python strategy proposes; it becomes a candidate for the risk gate."""

    instrument: str
    side: int
    strength: float
    confidence: float
    edge_bps: float


MAX_PROPOSALS: Final = 64
"""Most proposals of one callback; more are refused with an error in the log."""


class Strategy:
    """Base of Python strategies.

    Class attributes say what it is and what it wants; instances get ``params`` (the configured
    ones over ``defaults``). Call ``buy`` or ``sell`` inside a callback to propose. The clock of
    ``on_bar`` is the ``on`` of the configuration.

    Attributes:
        name: What configurations call it.
        version: Goes into the signal id.
        defaults: Parameters and their default values.
        wants_trades, wants_quotes: Subscribe to ticks.
    """

    name: ClassVar[str] = ""
    version: ClassVar[str] = "1"
    defaults: ClassVar[Mapping[str, Any]] = {}
    wants_trades: ClassVar[bool] = False
    wants_quotes: ClassVar[bool] = False

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params: dict[str, Any] = {**self.defaults, **params}
        self._proposals: list[Proposal] = []

    def indicators(self) -> Mapping[str, Use]:
        """Return the indicators it wants with every bar, by a name of its own choosing."""
        return {}

    def on_start(self) -> None:
        """Called once before the first callback."""

    def on_bar(self, bar: Bar) -> None:
        """Called for every closed bar of its clock."""

    def on_trade_tick(self, tick: TradeTick) -> None:
        """Called for every trade if ``wants_trades``."""

    def on_quote_tick(self, tick: QuoteTick) -> None:
        """Called for every quote if ``wants_quotes``."""

    def on_gap(self, gap: DataGap) -> None:
        """Called where data are missing; what it remembers of prices may not join what comes.

        Indicators begin anew there and are absent until they are ready again. Nothing may be
        proposed: what the market did meanwhile is not known.
        """

    def on_signal(self, signal: Signal) -> None:
        """Called for every signal of another strategy that passed the risk gate."""

    def on_stop(self) -> None:
        """Called once at the end."""

    def snapshot(self) -> bytes:
        """Return all that it knows, for an engine that goes on after a restart.

        By default its attributes, pickled. One that keeps what cannot be pickled, an open file or
        a lock, defines this and ``restore``.
        """
        return pickle.dumps(self.__dict__, pickle.HIGHEST_PROTOCOL)

    def restore(self, kept: bytes) -> None:
        """Take up what ``snapshot`` gave; called after ``on_start``."""
        attributes = pickle.loads(kept)
        self.__dict__.clear()
        self.__dict__.update(attributes)

    def buy(
        self, instrument: str, strength: float, confidence: float, edge_bps: float = math.nan
    ) -> None:
        """Propose a buy; strength and confidence within 0 and 1, edge in basis points."""
        self._propose(Proposal(instrument, 1, strength, confidence, edge_bps))

    def sell(
        self, instrument: str, strength: float, confidence: float, edge_bps: float = math.nan
    ) -> None:
        """Propose a sell; strength and confidence within 0 and 1, edge in basis points."""
        self._propose(Proposal(instrument, -1, strength, confidence, edge_bps))

    def take_proposals(self) -> list[Proposal]:
        """Return and forget what the last callback proposed."""
        proposals, self._proposals = self._proposals, []
        return proposals

    def _propose(self, proposal: Proposal) -> None:
        if len(self._proposals) >= MAX_PROPOSALS:
            raise RuntimeError(f"more than {MAX_PROPOSALS} proposals in one callback")
        for what in (proposal.strength, proposal.confidence):
            if not 0.0 <= what <= 1.0:
                raise ValueError(f"strength and confidence must be within 0 and 1, not {what!r}")
        self._proposals.append(proposal)
