"""Runs the plain Python strategies: hands them what they subscribed to, collects proposals.

A strategy that raises harms nobody else: the error is logged and counted, and after
``MAX_FAILURES`` errors the strategy is silenced, which is an event in the journal.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine.core.errors import SnapshotError
from engine.core.records import TickKind
from engine.core.signals import Signal
from strategies.plan import KernelPlan
from strategies.python_strategy import Bar, DataGap, Proposal, QuoteTick, Strategy, TradeTick

MAX_FAILURES: Final = 10

_log = logging.getLogger(__name__)
_TRADES: Final = (int(TickKind.TRADE), int(TickKind.SNAPSHOT))
_QUOTES: Final = (int(TickKind.QUOTE), int(TickKind.SNAPSHOT))


@dataclass(slots=True)
class Hosted:
    """One Python strategy at work; ``number`` is its place among all strategies."""

    number: int
    name: str
    clock: str
    strategy: Strategy
    watched: set[int] = field(default_factory=set)
    """Instruments it looks at, by id."""
    failures: int = 0
    columns: Sequence[tuple[int, str]] = field(default_factory=list)

    @property
    def silent(self) -> bool:
        """Whether it failed too often to be called again."""
        return self.failures >= MAX_FAILURES


class HostedState(msgspec.Struct, frozen=True):
    """What a Python strategy gave of itself."""

    name: str
    failures: int
    kept: bytes


Made = tuple[Hosted, Proposal]


class PythonHost:
    """All Python strategies of a pipeline; owned by the thread that runs it.

    Args:
        hosted: The strategies, in the order of the configuration.
        plan: The kernel's plan, whose watches they asked for.
        on_silenced: Called with the name of a strategy that failed too often.
    """

    def __init__(
        self, hosted: Sequence[Hosted], plan: KernelPlan, on_silenced: Callable[[str], None]
    ) -> None:
        self.hosted = list(hosted)
        self.bar_names = [bar.name for bar in plan.bars]
        self.symbols: list[str] = []
        self._on_silenced = on_silenced
        for one in self.hosted:
            prefix = f"{one.name}/"
            names = [name for name, _, _ in plan.columns(one.clock)]
            one.columns = [
                (index, name.removeprefix(prefix))
                for index, name in enumerate(names)
                if name.startswith(prefix)
            ]
        self._trades = [h for h in self.hosted if h.strategy.wants_trades]
        self._quotes = [h for h in self.hosted if h.strategy.wants_quotes]
        self._listeners = [h for h in self.hosted if overrides(h.strategy, "on_signal")]
        self._gap_listeners = [h for h in self.hosted if overrides(h.strategy, "on_gap")]
        self._wanted = np.zeros(256, np.bool_)
        self._wanted[self._tick_kinds()] = True
        self._wants_ticks = bool(self._wanted.any())

    @property
    def listens(self) -> bool:
        """Whether any of them wants signals."""
        return bool(self._listeners)

    @property
    def wants_ticks(self) -> bool:
        """Whether any of them wants trades or quotes."""
        return self._wants_ticks

    def start(self) -> None:
        """Call ``on_start`` of all."""
        for one in self.hosted:
            self._call(one, one.strategy.on_start)

    def stop(self) -> None:
        """Call ``on_stop`` of all."""
        for one in self.hosted:
            self._call(one, one.strategy.on_stop)

    def tick_rows(self, kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
        """Return the rows of a burst that somebody wants, by the ticks' ``kind`` column."""
        return np.flatnonzero(self._wanted[kinds])

    def on_bar(self, record: np.void, values: npt.NDArray[np.float64]) -> list[Made]:
        """Hand over one closed bar; return what was proposed."""
        clock = self.bar_names[int(record["spec"])]
        instrument = int(record["instrument"])
        made: list[Made] = []
        for one in self.hosted:
            if one.clock == clock and instrument in one.watched:
                bar = _bar(record, clock, self.symbols[instrument], _known(values, one.columns))
                made += self._call(one, partial(one.strategy.on_bar, bar))
        return made

    def on_tick(self, record: np.void) -> list[Made]:
        """Hand over one tick; return what was proposed."""
        kind, instrument = int(record["kind"]), int(record["instrument"])
        symbol = self.symbols[instrument]
        made: list[Made] = []
        if kind in _TRADES and self._trades and record["price"] > 0.0:
            trade = _trade(record, symbol)
            for one in self._trades:
                if instrument in one.watched:
                    made += self._call(one, partial(one.strategy.on_trade_tick, trade))
        if kind in _QUOTES and self._quotes:
            quote = _quote(record, symbol)
            for one in self._quotes:
                if instrument in one.watched:
                    made += self._call(one, partial(one.strategy.on_quote_tick, quote))
        return made

    def on_gap(self, record: np.void) -> None:
        """Tell that records are missing before what comes next."""
        if not self._gap_listeners:
            return
        gap = DataGap(int(record["ts_event"]), int(record["ts_recv"]), int(record["size"]))
        for one in self._gap_listeners:
            if self._call(one, partial(one.strategy.on_gap, gap)):
                self.fail(one, "it proposed at a gap, where the market is not known")

    def on_signal(self, signal: Signal) -> list[Made]:
        """Hand over another strategy's signal; return what was proposed."""
        made: list[Made] = []
        for one in self._listeners:
            if one.name != signal.strategy:
                made += self._call(one, partial(one.strategy.on_signal, signal))
        return made

    def failures(self) -> dict[str, int]:
        """Return how often each strategy raised, if it did."""
        return {one.name: one.failures for one in self.hosted if one.failures}

    def export_state(self) -> list[HostedState]:
        """Return what every strategy gave of itself, and how often each failed.

        Raises:
            SnapshotError: one of them cannot; names it.
        """
        return [HostedState(one.name, one.failures, _snapshot_of(one)) for one in self.hosted]

    def import_state(self, kept: Sequence[HostedState]) -> None:
        """Let every strategy take up what it gave.

        Raises:
            SnapshotError: they are other strategies, or one of them cannot; names it.
        """
        names = [one.name for one in self.hosted]
        if [state.name for state in kept] != names:
            raise SnapshotError(f"Python strategies are {names}, not {[s.name for s in kept]}")
        for one, state in zip(self.hosted, kept, strict=True):
            try:
                one.strategy.restore(state.kept)
            except Exception as error:
                raise SnapshotError(f"strategy {one.name} cannot take up: {error!r}") from error
            one.failures = state.failures

    def _tick_kinds(self) -> list[int]:
        kinds = [*(_TRADES if self._trades else ()), *(_QUOTES if self._quotes else ())]
        return sorted(set(kinds))

    def fail(self, one: Hosted, problem: str) -> None:
        """Count a failure of a strategy; silence it after too many."""
        one.failures += 1
        _log.error("strategy %s: %s (failure %d)", one.name, problem, one.failures)
        if one.failures == MAX_FAILURES:
            self._on_silenced(one.name)

    def _call(self, one: Hosted, callback: Callable[[], None]) -> list[Made]:
        if one.silent:
            return []
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - a user's code must not stop the others
            one.strategy.take_proposals()
            _log.debug("strategy %s raised", one.name, exc_info=True)
            self.fail(one, f"it raised {type(error).__name__}: {error}")
            return []
        return [(one, proposal) for proposal in one.strategy.take_proposals()]


def _snapshot_of(one: Hosted) -> bytes:
    try:
        return one.strategy.snapshot()
    except Exception as error:
        raise SnapshotError(f"strategy {one.name} cannot be kept: {error!r}") from error


def overrides(strategy: Strategy, method: str) -> bool:
    """Return whether a strategy defines a callback of its own."""
    return getattr(type(strategy), method) is not getattr(Strategy, method)


def _known(
    values: npt.NDArray[np.float64], columns: Sequence[tuple[int, str]]
) -> Mapping[str, float]:
    found = ((name, float(values[index])) for index, name in columns)
    return {name: value for name, value in found if value == value}


def _bar(record: np.void, clock: str, symbol: str, indicators: Mapping[str, float]) -> Bar:
    return Bar(
        instrument=symbol,
        spec=clock,
        ts_open=int(record["ts_open"]),
        ts_event=int(record["ts_event"]),
        open=float(record["open"]),
        high=float(record["high"]),
        low=float(record["low"]),
        close=float(record["close"]),
        volume=float(record["volume"]),
        turnover=float(record["turnover"]),
        buy_volume=float(record["buy_volume"]),
        sell_volume=float(record["sell_volume"]),
        bid=float(record["bid"]),
        ask=float(record["ask"]),
        indicators=indicators,
    )


def _trade(record: np.void, symbol: str) -> TradeTick:
    return TradeTick(
        symbol,
        int(record["ts_event"]),
        int(record["ts_recv"]),
        float(record["price"]),
        float(record["size"]),
        int(record["side"]),
    )


def _quote(record: np.void, symbol: str) -> QuoteTick:
    return QuoteTick(
        symbol,
        int(record["ts_event"]),
        int(record["ts_recv"]),
        float(record["bid"]),
        float(record["ask"]),
        float(record["bid_size"]),
        float(record["ask_size"]),
    )
