"""The execution simulator: orders and market records in, fills, trades and days out."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.backtest_config import BacktestConfig
from engine.config import Config
from engine.core.records import RECORD_DTYPES, Board, Instruments, Schema
from engine.risk.rulebook import Rulebook
from replay.backtest.prepared import Prepared
from replay.backtest.records import EQUITY, FILL, TRADE
from replay.backtest.rule_table import make_rules
from replay.backtest.session_edges import auction_edges, session_edges
from replay.backtest.sim_bars import run_bars_nb
from replay.backtest.sim_day import finish_nb
from replay.backtest.sim_records import (
    ACCOUNT,
    EX_RIGHTS,
    FACTS,
    FILL_KINDS,
    GROUP,
    MARKET,
    ORDER,
    SETTINGS,
    SIZINGS,
    SLIPPAGES,
    SLOT,
    Why,
)
from replay.backtest.sim_ticks import run_ticks_nb
from replay.backtest.sim_trade import World
from strategies.borrowed import borrowed
from strategies.kernel_cache import load_module

_NS_PER_S: Final = 10**9
_FIRST_FILLS: Final = 1024
_FIRST_DAYS: Final = 64
_NO_END: Final = 2**62
_EX_RIGHT_BOARDS: Final = frozenset(
    {Board.CN_MAIN, Board.CN_MAIN_ST, Board.CN_CHINEXT, Board.CN_STAR, Board.CN_BEIJING}
)
"""Boards whose definitions state the exchange's ex-right reference as the previous close."""

Orders = npt.NDArray[np.void]

_SOURCE: Final = """
from numba import njit

@njit(error_model="numpy", nogil=True, cache=CACHE)
def {name}({arguments}):
    w = World({fields})
    return {name}_nb(w{rest})
"""


class Simulator:
    """Owns the account and every position; one backtest, one owner.

    Args:
        prepared: The logs.
        config: Its ``backtest`` part, and the fees and the calendars' names of its ``risk`` part.
        rulebook: The markets' rules.
        strategies: How many there are.
        span: Signals received from the first time on and before the second are traded, ns.
    """

    def __init__(
        self,
        prepared: Prepared,
        config: Config,
        rulebook: Rulebook,
        strategies: int,
        span: tuple[int, int] | None = None,
    ) -> None:
        self._config = config
        self._rulebook = rulebook
        boards = [_board_of(row) for row in prepared.instruments] or [Board.OTHER]
        self._rules = make_rules(boards, rulebook, config)
        count = len(prepared.instruments)
        groups, edges, self._group_of = _groups(prepared, config, rulebook)
        self.world = World(
            account=np.zeros(1, ACCOUNT),
            settings=_settings(config.backtest, span),
            market=np.zeros(count, MARKET),
            facts=np.zeros(count, FACTS),
            slots=np.zeros((max(1, strategies), count), SLOT),
            groups=groups,
            boards=self._rules.boards,
            rules=self._rules.rules,
            fees=self._rules.fees,
            edges=edges,
            unfilled=np.zeros(len(Why), np.int64),
            fills=np.zeros(_FIRST_FILLS, FILL),
            trades=np.zeros(_FIRST_FILLS, TRADE),
            equity=np.zeros(_FIRST_DAYS, EQUITY),
        )
        _make_pristine(self.world, config.backtest.cash)
        self._warm_up({segment.schema for segment in prepared.segments})

    def _warm_up(self, schemas: Iterable[Schema]) -> None:
        """Compile what will run, or load it from the cache."""
        world = self.world
        nothing = world._replace(
            account=world.account.copy(), market=world.market[:0], slots=world.slots[:, :0].copy()
        )
        for schema in schemas:
            none = _read_only(np.zeros(0, RECORD_DTYPES[schema]))
            run_entry(schema)(*nothing, np.zeros(0, ORDER), none, 0, 0)
        _finish_entry()(*nothing)

    def define(self, instruments: Instruments) -> None:
        """Take definitions, new or changed."""
        for row in instruments:
            self._define_one(row)

    def _define_one(self, row: np.void) -> None:
        board = _board_of(row)
        facts = self.world.facts[int(row["id"])]
        tick = float(row["tick_size"])
        same = all(
            facts[name] == row[name] or (np.isnan(facts[name]) and np.isnan(row[name]))
            for name in ("pre_close", "limit_up", "limit_down")
        )
        if not same or facts["multiplier"] == 0.0:
            facts["known"] = 1
        facts["tick"] = tick if tick > 0 else 0.01
        facts["lot"] = max(0.0, float(row["lot"]))
        facts["multiplier"] = float(row["multiplier"]) or 1.0
        facts["offset_ns"] = int(row["day_offset_s"]) * _NS_PER_S
        facts["board"] = self._rules.numbers[board]
        facts["group"] = self._group_of[int(row["id"])]
        facts["ex_right"] = board in _EX_RIGHT_BOARDS
        for name in ("pre_close", "limit_up", "limit_down"):
            facts[name] = row[name]

    def run(self, schema: Schema, records: npt.NDArray[np.void], orders: Orders) -> None:
        """Take one segment's records with the orders that arose in it, ORDER by row."""
        entry = run_entry(schema)
        records = _read_only(records)
        self.world.account["order"] = 0
        at, size = 0, len(records)
        while True:
            at = entry(*self.world, orders, records, at, size)
            if at >= size:
                return
            self._grow()

    def finish(self) -> None:
        """End what waits and value what is open; nothing may follow."""
        world = self.world
        if world.account["days"][0] + 2 > len(world.equity):
            self._grow()
        _finish_entry()(*self.world)

    def _grow(self) -> None:
        """Double the tables that fill up."""
        tables = {
            name: np.concatenate([table, np.zeros_like(table)])
            for name in ("fills", "trades", "equity")
            for table in [getattr(self.world, name)]
        }
        self.world = self.world._replace(**tables)

    @property
    def unfilled(self) -> dict[str, int]:
        """Signals that were not filled, by reason."""
        counts = self.world.unfilled.tolist()
        return {why.name: counts[why] for why in Why if counts[why]}


def _read_only(records: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return the same records: what is mapped or shared and what is not are then of one type."""
    view = records.view()
    view.flags.writeable = False
    return view


def run_entry(schema: Schema) -> Callable[..., int]:
    """Return the compiled walk over records of a schema; they are read-only ones."""
    name = "run_bars" if schema == Schema.BAR else "run_ticks"
    return _entry(name, "orders, records, start, stop")


def _finish_entry() -> Callable[..., None]:
    return _entry("finish", "")


@cache
def _entry(name: str, more: str) -> Callable[..., Any]:
    """Return a compiled entry, kept on disk under a key of every source that went in."""
    functions = {"run_ticks": run_ticks_nb, "run_bars": run_bars_nb, "finish": finish_nb}
    names = World._fields
    source = _SOURCE.format(
        name=name,
        arguments=", ".join([*names, *filter(None, [more])]),
        fields=", ".join(f"borrowed({field})" for field in names),
        rest="".join(f", {one}" for one in filter(None, [more])),
    )
    bound = {"World": World, "borrowed": borrowed, f"{name}_nb": functions[name]}
    entry: Callable[..., Any] = getattr(load_module(source, bound), name)
    return entry


def _board_of(row: np.void) -> Board:
    try:
        return Board(int(row["board"]))
    except ValueError:
        return Board.OTHER


def _make_pristine(world: World, cash: float) -> None:
    world.account["cash"] = cash
    world.account["day"] = -1
    world.groups["day"] = -1
    for name in ("last", "bid", "ask", "pre_close", "first_up", "first_down"):
        world.market[name] = np.nan
    world.market["limit_up"], world.market["limit_down"] = np.inf, -np.inf
    world.facts["pre_close"] = np.nan


def _groups(
    prepared: Prepared, config: Config, rulebook: Rulebook
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64], list[int]]:
    """Bring instruments of the same hours together.

    Returns:
        GROUP, all edges, and each instrument's group by id.
    """
    numbers: dict[tuple[str, int, Board, str], int] = {}
    of: list[int] = []
    continuous = config.backtest.sessions == "continuous"
    for row in prepared.instruments:
        venue = row["symbol"].decode().rpartition(".")[2] if continuous else ""
        board = _board_of(row) if continuous else Board.OTHER
        stated = row["calendar"].decode()
        name = config.risk.market.calendar_aliases.get(stated, stated)
        key = name, int(row["day_offset_s"]), board, venue
        of.append(numbers.setdefault(key, len(numbers)))
    groups = np.zeros(len(numbers), GROUP)
    edges: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    at = 0
    for (name, _, board, venue), number in numbers.items():
        groups[number]["edge"] = -1
        if config.backtest.sessions == "off":
            continue

        def auction_s(day: Any, board: Board = board, venue: str = venue) -> int:
            return rulebook.closing_auction_s(board, venue, day) if continuous else 0

        found = session_edges(name, prepared.first_ns, prepared.last_ns, auction_s)
        if found is None:
            continue
        whole = session_edges(name, prepared.first_ns, prepared.last_ns, lambda _: 0)
        assert whole is not None
        for kind, some in (("", found), ("auction_", auction_edges(whole))):
            groups[number][f"{kind}edge"], groups[number][f"{kind}stop"] = at, at + len(some)
            edges.append(some)
            at += len(some)
    return groups, np.concatenate(edges), of


def _settings(settings: BacktestConfig, span: tuple[int, int] | None) -> npt.NDArray[np.void]:
    made = np.zeros(1, SETTINGS)
    values = {
        "latency_ns": settings.latency,
        "grace_ns": settings.open_grace,
        "max_hold_ns": settings.max_hold,
        "order_life_ns": settings.order_life,
        "start_ns": -_NO_END if span is None else span[0],
        "stop_ns": _NO_END if span is None else span[1],
        "amount": settings.sizing.amount,
        "leverage": settings.leverage,
        "participation": settings.participation,
        "slip_amount": settings.slippage.amount,
        "slip_spread_bps": settings.slippage.spread_bps,
        "slip_volatility": settings.slippage.volatility,
        "slip_volume": settings.slippage.volume,
        "fill": FILL_KINDS.index(settings.fill),
        "by": SIZINGS.index(settings.sizing.by),
        "slip": SLIPPAGES.index(settings.slippage.model),
        "both_ways": settings.direction == "long_short",
        "max_positions": settings.max_positions,
        "entry_gtc": settings.entry_life == "gtc",
        "exit_gtc": settings.exit_life == "gtc",
        "ex_right": EX_RIGHTS.index(settings.ex_right),
        "sessions": settings.sessions != "off",
        "auctions": settings.auctions,
        "limits": settings.price_limits,
        "reference": settings.require_reference,
        "settlement": settings.settlement,
        "lots": settings.lots,
    }
    for name, value in values.items():
        made[name] = value
    return made
