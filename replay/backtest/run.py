"""Runs one backtest: the live pipeline over prepared records, its signals into the simulator."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.backtest_config import BacktestConfig
from engine.clock import TickClock
from engine.composition import Blueprint, build_pipeline
from engine.core.records import Schema
from engine.core.signals import Refusal, Signal
from latency.histogram import StageHistograms
from replay.backtest.prepared import Prepared, Segment
from replay.backtest.records import BacktestResult
from replay.backtest.sim_records import ORDER
from replay.backtest.simulator import Simulator

_STEP: Final = 1 << 16
_SIDES: Final = {"BUY": 1, "SELL": -1}
_NOTES: Final = {
    "ex_rights": "ex_right_days",
    "no_reference_days": "days_without_reference",
    "odd_references": "references_above_the_last_close",
    "own_orders": "own_orders",
    "own_filled": "own_orders_filled",
    "own_unfilled": "own_orders_unfilled",
}
"""What the simulator counts, as results name it."""

Progress = Callable[[int], None]


class RowClock(TickClock):
    """Stands where the tick stood, and tells which row of its segment that was.

    Prepared records carry their row in the place of their send time.
    """

    __slots__ = ("row",)

    def __init__(self) -> None:
        self.row = 0

    def wall_ns(self, ts_recv_ns: int, ts_send_ns: int) -> int:
        """Return the tick's receive time."""
        self.row = ts_send_ns
        return ts_recv_ns


class OrderBook:
    """A signal sink that turns signals into orders of one segment."""

    def __init__(self, clock: RowClock) -> None:
        self.clock = clock
        self.symbols: Mapping[str, int] = {}
        self.strategies: Mapping[str, int] = {}
        self.signals = 0
        self.refusals: dict[str, int] = {}
        self._orders: list[tuple[int, int, int, int, int, int]] = []

    def on_signal(self, signal: Signal) -> bool:
        """Note what is to be ordered."""
        self.signals += 1
        self._orders.append(
            (
                self.clock.row,
                signal.ts_recv,
                self.symbols[signal.instrument],
                self.strategies[signal.strategy],
                _SIDES[signal.side],
                0,
            )
        )
        return True

    def on_refusal(self, refusal: Refusal) -> None:
        """Count it by its reason."""
        self.refusals[refusal.reason] = self.refusals.get(refusal.reason, 0) + 1

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        """Pass over what concerns nobody's orders."""

    def take(self) -> npt.NDArray[np.void]:
        """Return the orders since the last call, ORDER by row."""
        orders = np.array(self._orders, ORDER)
        self._orders = []
        return orders


def backtest(
    prepared: Prepared,
    blueprint: Blueprint,
    settings: BacktestConfig | None = None,
    *,
    span: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> BacktestResult:
    """Run one backtest.

    The pipeline is that of live and replay, so its signals are the same; none of them depends on
    what was filled.

    Args:
        prepared: The records; they are only read.
        blueprint: The configuration, resolved.
        settings: How to trade; the configuration's own by default.
        span: Only signals received from the first time on and before the second are traded, ns;
            what comes before warms the indicators.
        progress: Called with records done, now and then.

    Raises:
        ConfigError: a rulebook with too many fees.
        PluginError: a strategy that cannot be compiled.
    """
    return _Backtest(prepared, blueprint, settings, span).run(progress)


def _dated(equity: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return the account's days with dates, yyyymmdd, where the simulator counts from 1970."""
    dated = equity.copy()
    days = equity["day"].astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    of_month = (days - months).astype(np.int64) + 1
    since_1970 = months.astype(np.int64)
    dated["day"] = (since_1970 // 12 + 1970) * 10_000 + (since_1970 % 12 + 1) * 100 + of_month
    return dated


class _Backtest:
    def __init__(
        self,
        prepared: Prepared,
        blueprint: Blueprint,
        settings: BacktestConfig | None,
        span: tuple[int, int] | None,
    ) -> None:
        config = blueprint.config
        if settings is not None:
            config = config.model_copy(update={"backtest": settings})
        self.cash = config.backtest.cash
        self.prepared = prepared
        clock = RowClock()
        self.orders = OrderBook(clock)
        self.pipeline = build_pipeline(
            blueprint,
            capacity=max(1, len(prepared.instruments)),
            sink=self.orders,
            clock=clock,
            histograms=StageHistograms(),
            bars=prepared.has_bars,
        )
        self.names = tuple(facts.name for facts in self.pipeline.judge.strategies)
        self.orders.strategies = {name: number for number, name in enumerate(self.names)}
        symbols = [row["symbol"].decode() for row in prepared.instruments]
        self.orders.symbols = {symbol: number for number, symbol in enumerate(symbols)}
        self.simulator = Simulator(prepared, config, blueprint.rulebook, len(self.names), span)

    def run(self, progress: Progress | None) -> BacktestResult:
        started = time.perf_counter()
        done = 0
        self.pipeline.host.start()
        for segment in self.prepared.segments:
            self._signal(segment, done, progress)
            self.simulator.run(segment.schema, segment.records, self.orders.take())
            done += len(segment.records)
        self.pipeline.host.stop()
        self.simulator.finish()
        return self._result(time.perf_counter() - started)

    def _signal(self, segment: Segment, done: int, progress: Progress | None) -> None:
        """Let the pipeline see a segment; its signals become orders."""
        pipeline = self.pipeline
        if len(segment.definitions):
            pipeline.define(segment.definitions)
            self.simulator.define(segment.definitions)
        take = pipeline.run_bars if segment.schema == Schema.BAR else pipeline.run_ticks
        for start in range(0, len(segment.records), _STEP):
            stop = min(start + _STEP, len(segment.records))
            take(segment.records, segment.origins, start, stop)
            if progress is not None:
                progress(done + stop)

    def _result(self, wall_s: float) -> BacktestResult:
        return make_result(
            self.simulator, self.prepared, self.cash, self.names, self.orders.signals,
            refusals=self.orders.refusals, wall_s=wall_s,
        )  # fmt: skip


def make_result(
    simulator: Simulator,
    prepared: Prepared,
    cash: float,
    strategies: tuple[str, ...],
    signals: int,
    *,
    refusals: Mapping[str, int] | None = None,
    wall_s: float = 0.0,
) -> BacktestResult:
    """Take what a finished simulator has made.

    Args:
        simulator: Finished.
        prepared: What it went over.
        cash: What the account began with.
        strategies: Names by number.
        signals: Orders it was given.
        refusals: Candidates that never became orders, by reason.
        wall_s: Time taken.
    """
    world = simulator.world
    account = world.account[0]
    notes = {name: int(account[field]) for field, name in _NOTES.items() if account[field]}
    return BacktestResult(
        cash=cash,
        fills=world.fills[: account["fills"]].copy(),
        trades=world.trades[: account["trades"]].copy(),
        equity=_dated(world.equity[: account["days"]]),
        symbols=tuple(row["symbol"].decode() for row in prepared.instruments),
        strategies=strategies,
        records=prepared.records,
        signals=signals,
        unfilled=simulator.unfilled,
        refusals=dict(sorted((refusals or {}).items())),
        wall_s=wall_s,
        filled=int(account["filled"]),
        notes=notes,
        bad_input=prepared.bad_input,
    )
