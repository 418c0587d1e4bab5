"""The risk gate: asks every rule of the four gates in order; the first refusal wins."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np

from engine.core.candidates import Candidate
from engine.core.reasons import Gate, Reason
from engine.core.records import ALL_INSTRUMENTS, Board, Instruments
from engine.risk.board_day import BoardDays
from engine.risk.config import RiskConfig
from engine.risk.cost_rules import COST_RULES
from engine.risk.data_rules import DATA_RULES
from engine.risk.instrument_day import InstrumentDay
from engine.risk.liquidity_rules import LIQUIDITY_RULES
from engine.risk.market_rules import MARKET_RULES
from engine.risk.positions import Bookings, BookingsState
from engine.risk.rulebook import Rulebook
from engine.risk.rules import PASSED, Asked, Check, RiskState, Rule, Situation, Verdict
from engine.risk.trading_calendar import Schedule, TradingCalendar, schedule_of

GATES: Final[Mapping[Gate, Sequence[Rule]]] = MappingProxyType(
    {
        Gate.DATA: DATA_RULES,
        Gate.LIQUIDITY: LIQUIDITY_RULES,
        Gate.RISK: MARKET_RULES,
        Gate.COST: COST_RULES,
    }
)
"""The rules of each gate, in the order in which they are asked."""


class GateState(msgspec.Struct, frozen=True):
    """All that a gate knows, as plain values: for a snapshot."""

    bookings: BookingsState
    days: list[tuple[int, int, float]]
    """Instrument, trading day, the reference price that the stream stated or NaN."""
    gap_everywhere: int | None
    gaps: dict[int, int]


class RiskGate:
    """Judges candidates; owned by the loop thread, does no I/O once it is made.

    Time is the candidate's own (``ts_event`` for the market's rules, ``ts_recv`` for rates), so a
    replay judges alike; only DATA_LATE and DATA_EXPIRED look at the ``now_wall_ns`` of the caller,
    who passes ``ts_recv`` for it in a replay.

    Args:
        config: The gates' settings.
        instruments: Definitions, shape (I,).
        rulebook: The markets' rules by board and date.

    Attributes:
        refusals: Refused candidates by reason.
        accepted_count: Candidates booked.
        bookings: What was let through, for later rules and for display.
    """

    def __init__(self, config: RiskConfig, instruments: Instruments, *, rulebook: Rulebook) -> None:
        self.config = config
        self.rulebook = rulebook
        self.refusals: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self.accepted_count = 0
        limits = config.limits
        self.bookings = Bookings(
            limits.max_signals_per_instrument, limits.max_signals_per_strategy, limits.max_signals
        )
        self._board_days = BoardDays(rulebook, config)
        self._checks = _active_checks(config)
        self._chosen: dict[tuple[bool, ...], tuple[list[Asked], list[Asked]]] = {}
        self._days: list[InstrumentDay | None] = []
        self._schedules: dict[str, Schedule | None] = {}
        self._calendars: dict[tuple[str, Board, str], TradingCalendar] = {}
        self._unknown_calendars: dict[str, None] = {}
        self._gap_everywhere: int | None = None
        self._gaps: dict[int, int] = {}
        self._situation = Situation(self.bookings, config.state)
        self._checked: Candidate | None = None
        self.define(instruments)

    @property
    def state(self) -> RiskState:
        """What the operator allows at present."""
        return self._situation.state

    @property
    def problems(self) -> tuple[str, ...]:
        """What in the definitions will have candidates refused, for the operator to mend."""
        return tuple(
            f"calendar {name!r} is unknown, so its instruments count as closed; "
            f"name another for it in market.calendar_aliases"
            for name in self._unknown_calendars
        )

    def set_state(self, state: RiskState) -> None:
        """Let everything, only reducing signals, or nothing through from now on."""
        self._situation.state = state
        for day in self._days:
            if day is not None:
                self._set_checks(day)

    def reconfigure(self, config: RiskConfig) -> None:
        """Go by other limits from the next candidate on; what was booked stays, and the state."""
        kept, limits = self.bookings.export_state(), config.limits
        self.config = config
        self.bookings = Bookings(
            limits.max_signals_per_instrument, limits.max_signals_per_strategy, limits.max_signals
        )
        self.bookings.import_state(kept)
        self._situation.bookings = self.bookings
        self._board_days = BoardDays(self.rulebook, config)
        self._checks = _active_checks(config)
        self._chosen.clear()
        for day in self._days:
            if day is not None:
                day.session = None

    def define(self, instruments: Instruments) -> None:
        """Take new or changed definitions; bookings stay. May read a calendar (up to 0.5 s)."""
        for row in instruments:
            number = int(row["id"])
            self._days.extend([None] * (number + 1 - len(self._days)))
            self._days[number] = self._make_day(row)

    def warm(self, ts_ns: int) -> None:
        """Read the calendars of this time's year now (up to 0.15 s each) instead of at its tick."""
        for calendar in self._calendars.values():
            calendar.covers(ts_ns)

    def note_gap(self, ts_recv_ns: int, instrument: int = ALL_INSTRUMENTS) -> None:
        """Note that records were lost; call it at the gap's place among the checks."""
        if instrument == ALL_INSTRUMENTS:
            self._gap_everywhere = ts_recv_ns
            self._gaps.clear()
        elif instrument < len(self._days):
            self._gaps[instrument] = ts_recv_ns

    def check(self, candidate: Candidate, *, valid_until_ns: int, now_wall_ns: int) -> Verdict:
        """Ask every rule until one refuses; count and book nothing.

        Args:
            candidate: What a strategy proposes.
            valid_until_ns: When the signal would expire, wall clock; 0 if it does not.
            now_wall_ns: The wall clock, corrected to the gateway's; ``ts_recv`` in a replay.
        """
        day = self._day_of(candidate)
        if day is None:
            unknown = f"instrument {candidate.instrument} is not defined"
            return Verdict(Reason.DATA_NAN, Gate.DATA, unknown)
        situation = self._situation
        situation.day = day
        self._checked = candidate
        situation.valid_until_ns = valid_until_ns
        situation.now_wall_ns = now_wall_ns
        situation.gap_ts_recv = self._gaps.get(candidate.instrument, self._gap_everywhere)
        is_clean = candidate.flags == 0 and candidate.bid < candidate.ask
        for reason, gate, check in day.clean_checks if is_clean else day.checks:
            detail = check(candidate, situation)
            if detail is not None:
                return Verdict(reason, gate, detail)
        return PASSED

    def situation_of(
        self, candidate: Candidate, *, valid_until_ns: int, now_wall_ns: int
    ) -> Situation | None:
        """Return what the rules look at besides a candidate, until the next is checked.

        Args:
            candidate: What a strategy proposes.
            valid_until_ns: As for ``check``.
            now_wall_ns: As for ``check``.

        Returns:
            None if its instrument is not defined.
        """
        self.check(candidate, valid_until_ns=valid_until_ns, now_wall_ns=now_wall_ns)
        return self._situation if self._checked is candidate else None

    def accept(self, candidate: Candidate) -> None:
        """Book a candidate that became a signal: position, purchases of the day, rates.

        Raises:
            LookupError: its instrument is not defined.
        """
        day = self._situation.day if candidate is self._checked else self._day_of(candidate)
        if day is None:
            raise LookupError(f"instrument {candidate.instrument} is not defined")
        self.bookings.book(candidate, long_only=day.long_only)
        self.accepted_count += 1

    def refuse(self, reason: Reason) -> None:
        """Count a candidate that was refused."""
        self.refusals[reason] += 1

    def _day_of(self, candidate: Candidate) -> InstrumentDay | None:
        days = self._days
        day = days[candidate.instrument] if candidate.instrument < len(days) else None
        if day is not None and not day.is_that_of(candidate):
            self._refill(day, candidate.session, candidate.pre_close)
        return day

    def _refill(self, day: InstrumentDay, session: int, pre_close: float) -> None:
        day.refill(session, pre_close, self._board_days.of(day.board, session))
        self._set_checks(day)

    def export_state(self) -> GateState:
        """Return a copy of what was let through, which days are filled in and where gaps were."""
        return GateState(
            bookings=self.bookings.export_state(),
            days=[
                (number, day.session, day.stated_pre_close)
                for number, day in enumerate(self._days)
                if day is not None and day.session is not None
            ],
            gap_everywhere=self._gap_everywhere,
            gaps=dict(self._gaps),
        )

    def import_state(self, kept: GateState) -> None:
        """Forget everything and take up what was exported; instruments are defined already.

        What the operator allows and the counters stay as they are.
        """
        self.bookings.import_state(kept.bookings)
        self._checked = None
        for number, session, pre_close in kept.days:
            day = self._days[number] if number < len(self._days) else None
            if day is not None:
                self._refill(day, session, pre_close)
        self._gap_everywhere = kept.gap_everywhere
        self._gaps = dict(kept.gaps)

    def _set_checks(self, day: InstrumentDay) -> None:
        """Choose the checks that could refuse something on this day, in order."""
        state = self._situation.state
        apply = tuple(
            [rule.applies is None or rule.applies(day, state) for _, rule, _ in self._checks]
        )
        chosen = self._chosen.get(apply)
        if chosen is None:
            chosen = self._chosen[apply] = self._choose(apply)
        day.checks, day.clean_checks = chosen

    def _choose(self, apply: Sequence[bool]) -> tuple[list[Asked], list[Asked]]:
        """Return the checks of the rules that apply, and those of them that are not clean."""
        asked = [
            (rule, (rule.reason, gate, check))
            for (gate, rule, check), does in zip(self._checks, apply, strict=True)
            if does
        ]
        return [one for _, one in asked], [one for rule, one in asked if not rule.passes_clean]

    def _make_day(self, row: np.void) -> InstrumentDay:
        symbol = row["symbol"].decode()
        board = _board_of(int(row["board"]))
        calendar_name = row["calendar"].decode()
        return InstrumentDay(
            symbol=symbol,
            board=board,
            calendar_name=calendar_name,
            calendar=self._calendar(calendar_name, board, symbol.rpartition(".")[2]),
            tick_size=float(row["tick_size"]),
            lot=float(row["lot"]),
            multiplier=float(row["multiplier"]),
            pre_close=float(row["pre_close"]),
            limits=(float(row["limit_down"]), float(row["limit_up"])),
        )

    def _calendar(self, stated: str, board: Board, venue: str) -> TradingCalendar | None:
        name = self.config.market.calendar_aliases.get(stated, stated)
        if name not in self._schedules:
            try:
                self._schedules[name] = schedule_of(name)
            except LookupError:
                self._unknown_calendars[stated] = None
                return None
        key = name, board, venue
        if key not in self._calendars:
            auction = partial(self.rulebook.closing_auction_s, board, venue)
            self._calendars[key] = TradingCalendar(name, self._schedules[name], auction)
        return self._calendars[key]


def _active_checks(config: RiskConfig) -> list[tuple[Gate, Rule, Check]]:
    made = [(gate, rule, rule.make(config)) for gate, rules in GATES.items() for rule in rules]
    return [(gate, rule, check) for gate, rule, check in made if check is not None]


def _board_of(value: int) -> Board:
    try:
        return Board(value)
    except ValueError:
        return Board.OTHER
