"""Spans on real records: flat before, nothing after, and days as the account counts them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from daily_market import BEIJING_S, CONFIG, daily_bars, write_daily
from result_cases import weekdays

from engine.config import Config
from engine.core.errors import ConfigError
from engine.core.records import TickKind, empty_ticks, instrument_row
from feeds.log_writer import LogWriter
from replay.backtest.folds import Span, walk_forward
from replay.backtest.prepared import Prepared
from replay.backtest.records import BacktestResult
from replay.backtest.run import backtest
from replay.backtest.selection import SelectionRules, select
from replay.backtest.selection_run import Candidate, SpanRunner, each_strategy
from replay.backtest.trading_days import TradingDays, before, trading_days

DAYS = 80
CASH = 1_000_000.0


@pytest.fixture(scope="module")
def candidates() -> list[Candidate]:
    return each_strategy(Config.model_validate(CONFIG))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    path = tmp_path_factory.mktemp("logs") / "daily.hql"
    return Prepared.load([write_daily(path, daily_bars(DAYS))])


@pytest.fixture(scope="module")
def days(prepared: Prepared) -> TradingDays:
    return trading_days(prepared)


@pytest.fixture(scope="module")
def runner(prepared: Prepared, days: TradingDays, candidates: list[Candidate]) -> SpanRunner:
    return SpanRunner(prepared, days, candidates)


def test_every_strategy_is_a_candidate_by_itself(candidates: list[Candidate]) -> None:
    assert [candidate.name for candidate in candidates] == ["quick", "slow"]
    for candidate in candidates:
        entries = candidate.blueprint.config.strategies
        assert [entry.name for entry in entries] == [candidate.name]


def test_without_a_strategy_there_is_nothing_to_choose_from() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        each_strategy(Config())


def test_trading_days_are_those_of_the_account(
    prepared: Prepared, days: TradingDays, candidates: list[Candidate]
) -> None:
    assert days.days.tolist() == [int(day.strftime("%Y%m%d")) for day in weekdays(DAYS)]
    result = backtest(prepared, candidates[0].blueprint)
    assert result.equity["day"].tolist() == days.days.tolist()


def test_logs_before_a_day_hold_exactly_what_came_before_it(
    prepared: Prepared, days: TradingDays
) -> None:
    for day in (1, 7, DAYS - 1):
        known = before(prepared, days, day)
        assert known.records == 3 * day
        assert known.last_ns < int(days.first_ns[day])
        assert trading_days(known).days.tolist() == days.days[:day].tolist()
    assert before(prepared, days, DAYS) is prepared


def test_logs_whose_definitions_change_are_cut_at_any_day(tmp_path: Path) -> None:
    """New definitions every ten days: some days begin a segment, others lie inside one."""
    bars = daily_bars(40)
    path = write_daily(tmp_path / "start.hql", bars[:30])
    table = Prepared.load([path]).instruments
    with LogWriter(tmp_path / "defined.hql", table, epoch=4) as writer:
        for at in range(0, 40, 10):
            table["pre_close"] = 90.0 + at
            writer.define(table)
            writer.write_bars(bars[3 * at : 3 * (at + 10)])
    prepared = Prepared.load([tmp_path / "defined.hql"])
    days = trading_days(prepared)
    assert len(prepared.segments) == 4
    assert len(days) == 40
    for day, segments in ((1, 1), (10, 1), (11, 2), (20, 2), (39, 4)):
        known = before(prepared, days, day)
        assert len(known.segments) == segments
        held = np.concatenate([segment.records for segment in known.segments])
        assert held.tobytes() == bars[: 3 * day].tobytes()


def test_a_day_begins_at_the_venue_and_not_in_utc(tmp_path: Path) -> None:
    """22:00 UTC is the next day in Beijing; heartbeats begin none."""
    hour = 3600 * 10**9
    noon = (weekdays(1)[0].toordinal() - 719_163) * 24 * hour + 12 * hour
    ticks = empty_ticks(4)
    ticks["kind"] = [TickKind.TRADE, TickKind.TRADE, TickKind.HEARTBEAT, TickKind.TRADE]
    ticks["instrument"] = [0, 0, 0xFFFF_FFFF, 0]
    ticks["price"], ticks["size"] = 10.0, 100.0
    ticks["ts_event"] = ticks["ts_recv"] = noon + np.array([0, 10, 30, 36]) * hour
    with LogWriter(
        tmp_path / "t.hql", instrument_row("AAA.X", day_offset_s=BEIJING_S), epoch=1
    ) as writer:
        writer.write_ticks(ticks)
    found = trading_days(Prepared.load([tmp_path / "t.hql"]))
    assert found.days.tolist() == [20211129, 20211130, 20211201]
    assert found.rows.tolist() == [0, 1, 3]


def test_a_span_begins_flat_and_has_no_other_days(runner: SpanRunner, days: TradingDays) -> None:
    result = runner(0, Span(30, 60), 500_000.0)
    assert result.cash == 500_000.0
    assert result.equity["day"].tolist() == days.days[30:60].tolist()
    start, stop = days.times_ns(Span(30, 60))
    assert len(result.fills) > 0
    assert result.fills["ts_signal"].min() >= start
    assert result.fills["ts"].max() < stop
    assert result.signals == result.filled + sum(result.unfilled.values())


def tables(result: BacktestResult) -> list[bytes]:
    return [result.fills.tobytes(), result.trades.tobytes(), result.equity.tobytes()]


def test_no_record_after_a_span_can_change_it(
    prepared: Prepared, days: TradingDays, candidates: list[Candidate]
) -> None:
    span = Span(20, 50)
    told = SpanRunner(prepared, days, candidates)(0, span, CASH)
    (segment,) = prepared.segments
    records = segment.records.copy()
    for name in ("open", "high", "low", "close"):
        records[name][3 * 50 :] *= 7.0
    other = replace(prepared, segments=(replace(segment, records=records),))
    assert tables(SpanRunner(other, days, candidates)(0, span, CASH)) == tables(told)


def test_a_span_equals_the_same_days_of_logs_that_end_there(
    tmp_path: Path, runner: SpanRunner, candidates: list[Candidate], days: TradingDays
) -> None:
    short = Prepared.load([write_daily(tmp_path / "short.hql", daily_bars(DAYS)[: 3 * 50])])
    alone = backtest(short, candidates[1].blueprint, span=(int(days.first_ns[20]), 2**62))
    told = runner(1, Span(20, 50), CASH)
    assert told.fills.tobytes() == alone.fills.tobytes()
    assert told.equity.tobytes() == alone.equity[20:].tobytes()


def test_a_selection_over_real_records_adds_up(
    runner: SpanRunner, days: TradingDays, candidates: list[Candidate]
) -> None:
    folds = walk_forward(len(days), validation=30, test=15, embargo=2)
    names = [candidate.name for candidate in candidates]
    done: list[int] = []
    chosen = select(names, folds, days.days, runner, CASH, SelectionRules(), done.append)
    assert chosen.tested.equity["day"].tolist() == days.days[32:].tolist()
    ended = float(chosen.tested.equity["equity"][-1])
    assert float(chosen.tested.trades["pnl"].sum()) == pytest.approx(ended - CASH)
    assert done == list(range(1, len(folds) * 3 + 1))
    for outcome in chosen.folds:
        assert outcome.test is not None
        best = outcome.ranking[0]
        assert names[best.candidate] in outcome.test.strategies
