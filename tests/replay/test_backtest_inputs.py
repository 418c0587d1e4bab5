"""Backtests of bad input: empty, unsorted, overlapping and damaged logs, settings that disagree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backtest_rig import DAY, S, daily, flat, orders, prepare, settings, shares, trade
from pipeline_cases import RULES, START_NS, market_instruments, market_ticks
from pydantic import ValidationError

from engine.backtest_config import BacktestConfig
from engine.composition import resolve
from engine.config import Config
from engine.core.errors import CheckFailedError, InputFileError, LogError
from engine.core.records import Schema, TickKind, Ticks
from feeds.log_reader import LogReader
from feeds.log_writer import LogWriter
from replay.backtest.prepared import Prepared
from replay.backtest.run import backtest
from replay.bursts import LogBursts
from replay.player import Options, play

COUNT = 4_000


def write(path: Path, ticks: Ticks, epoch: int = 5) -> Path:
    with LogWriter(path, market_instruments(), epoch=epoch) as writer:
        writer.write_ticks(ticks)
    return path


def test_a_log_without_records_is_refused(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "none.hql", market_instruments(), epoch=1):
        pass
    with pytest.raises(InputFileError, match=r"none\.hql: it holds no tick and no bar"):
        Prepared.load([tmp_path / "none.hql"])
    (tmp_path / "empty.hql").touch()
    with pytest.raises(LogError):
        Prepared.load([tmp_path / "empty.hql"])


def test_ticks_of_instruments_that_nobody_defined_are_refused(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "blind.hql", market_instruments()[:0], epoch=1) as writer:
        writer.write_ticks(market_ticks(COUNT)[:10])
    with pytest.raises(InputFileError, match="none of its 10 records can be used"):
        Prepared.load([tmp_path / "blind.hql"])


def test_a_log_of_heartbeats_alone_comes_to_nothing(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    beats = ticks[ticks["kind"] == TickKind.HEARTBEAT]
    with LogWriter(tmp_path / "quiet.hql", market_instruments()[:0], epoch=1) as writer:
        writer.write_ticks(beats)
    result = backtest(
        Prepared.load([tmp_path / "quiet.hql"]), resolve(Config.model_validate(RULES))
    )
    result.check()
    assert (result.records, result.signals, len(result.equity)) == (len(beats), 0, 0)


def test_records_out_of_order_are_refused_with_their_place(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    ticks["ts_recv"][1_234] -= 3 * S
    with pytest.raises(InputFileError, match="record 1235 was received before the one before it"):
        Prepared.load([write(tmp_path / "back.hql", ticks)])


def test_bars_out_of_order_are_refused_with_their_place(tmp_path: Path) -> None:
    days = daily([flat(0, 10.0), flat(2, 10.0), flat(1, 10.0)])
    with pytest.raises(InputFileError, match="record 3 "):
        prepare(tmp_path, shares(), days)


def test_two_logs_of_the_same_ticks_are_refused(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    first = write(tmp_path / "a.hql", ticks[: COUNT // 2])
    overlapping = write(tmp_path / "b.hql", ticks[COUNT // 2 - 100 :])
    with pytest.raises(InputFileError, match=r"b\.hql: it holds S\d\.X over the same time as"):
        Prepared.load([first, overlapping])
    rest = write(tmp_path / "c.hql", ticks[COUNT // 2 :])
    assert Prepared.load([first, rest]).records == COUNT


def test_a_damaged_log_is_traded_without_what_was_lost_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "hurt.hql", market_ticks(COUNT))
    bytes_ = bytearray(path.read_bytes())
    middle = len(bytes_) // 2
    bytes_[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(bytes(bytes_))
    prepared = Prepared.load([path])
    assert prepared.bad_input
    assert COUNT - 600 < prepared.records < COUNT + 5
    result = backtest(prepared, resolve(Config.model_validate(RULES)))
    result.check()
    assert result.bad_input == prepared.bad_input


def test_signals_are_those_of_a_replay(tmp_path: Path) -> None:
    log = write(tmp_path / "market.hql", market_ticks(COUNT))
    blueprint = resolve(Config.model_validate(RULES))
    replayed: list[tuple[int, str]] = []
    played = play(
        [log], blueprint, Options(keep=lambda s: replayed.append((s.ts_recv, s.instrument)))
    )
    result = backtest(Prepared.load([log]), blueprint)
    result.check()
    assert result.signals == played.signals == len(replayed) > 20
    assert result.refusals == played.refusals
    known = {(int(f["ts_signal"]), result.symbols[f["instrument"]]) for f in result.fills}
    assert known <= set(replayed)
    assert set(result.fills["strategy"].tolist()) == {0, 1}
    assert result.strategies == ("fast", "tick")


def test_prepared_records_serve_any_number_of_backtests(tmp_path: Path) -> None:
    prepared = Prepared.load([write(tmp_path / "market.hql", market_ticks(COUNT))])
    before = [segment.records.tobytes() for segment in prepared.segments]
    blueprint = resolve(Config.model_validate(RULES))
    first, second = (backtest(prepared, blueprint) for _ in range(2))
    assert first.fills.tobytes() == second.fills.tobytes()
    assert first.equity.tobytes() == second.equity.tobytes()
    assert len(first.fills)
    assert [segment.records.tobytes() for segment in prepared.segments] == before


def test_only_signals_inside_the_span_are_traded(tmp_path: Path) -> None:
    prepared = Prepared.load([write(tmp_path / "market.hql", market_ticks(COUNT))])
    blueprint = resolve(Config.model_validate(RULES))
    span = (START_NS + 10 * S, START_NS + 25 * S)
    result = backtest(prepared, blueprint, span=span)
    result.check()
    whole = backtest(prepared, blueprint)
    assert result.signals == whole.signals
    assert 0 < result.unfilled["OUTSIDE_SPAN"] < result.signals
    assert (result.fills["ts_signal"] >= span[0]).all()
    assert (result.fills["ts_signal"] < span[1]).all()


def test_a_change_of_definitions_divides_the_records(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    changed = market_instruments()
    changed["pre_close"] = 100.0
    with LogWriter(tmp_path / "log.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks[:1_000])
        writer.define(changed)
        writer.write_ticks(ticks[1_000:])
    prepared = Prepared.load([tmp_path / "log.hql"])
    assert [len(segment.records) for segment in prepared.segments] == [1_000, COUNT - 1_000]
    assert prepared.segments[1].definitions["pre_close"].tolist() == [100.0] * 4
    whole = Prepared.load([write(tmp_path / "whole.hql", ticks)])
    blueprint = resolve(Config.model_validate(RULES))
    a, b = backtest(prepared, blueprint), backtest(whole, blueprint)
    assert a.signals == b.signals
    assert a.fills.tobytes() == b.fills.tobytes()


def test_bars_and_ticks_of_one_log_are_both_traded(tmp_path: Path) -> None:
    ticks = market_ticks(8)
    ticks["kind"], ticks["instrument"] = TickKind.TRADE, 0
    ticks["ts_event"] = ticks["ts_recv"] = daily([flat(3, 10.0)])["ts_recv"] + np.arange(8) * S
    with LogWriter(tmp_path / "both.hql", shares(), epoch=5) as writer:
        writer.write_bars(daily([flat(0, 10.0), flat(1, 10.0)]))
        writer.write_ticks(ticks)
    prepared = Prepared.load([tmp_path / "both.hql"])
    assert [segment.schema for segment in prepared.segments] == [Schema.BAR, Schema.TICK]
    assert prepared.has_bars


def test_what_does_not_add_up_is_told(tmp_path: Path) -> None:
    days = [flat(0, 10.0), flat(1, 10.0), flat(2, 10.0), flat(3, 11.0, 10.0)]
    result = trade(tmp_path, daily(days), orders((0, 1), (2, -1)))
    result.trades["pnl"][0] += 0.01
    with pytest.raises(CheckFailedError, match="the trades' profits are not the equity's change"):
        result.check()
    result.equity["cash"][1] -= 1
    assert len(result.problems()) == 2


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"sizing": {"by": "cash", "amount": 2e6}}, "nothing could be bought"),
        ({"sizing": {"by": "equity", "amount": 1.5}}, "at most leverage"),
        ({"slippage": {"model": "none", "amount": 1}}, "goes with a `model`"),
        ({"slippage": {"model": "bps"}}, "takes an `amount`"),
        ({"slippage": {"model": "bps", "amount": 1, "volume": 5}}, "go with the model impact"),
        ({"commission_minimum": 5}, "goes with `commission_bps`"),
        ({"fees": False, "commission_bps": 1}, "contradicts fees"),
        ({"cash": 0}, "greater than 0"),
        ({"latency": "-1s"}, "not a duration"),
        ({"leverage": float("inf")}, "finite"),
        ({"filling": "open"}, "not permitted"),
    ],
)
def test_settings_that_disagree_are_refused(tree: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        BacktestConfig.model_validate(tree)


def test_the_brokers_commission_replaces_the_rulebooks(tmp_path: Path) -> None:
    days = daily([flat(0, 10.0), flat(1, 10.0), flat(2, 10.0), flat(3, 10.0)])
    config = settings(commission_bps=10, commission_minimum=1)
    result = trade(tmp_path, days, orders((0, 1), (2, -1)), config)
    assert result.fills["commission"].tolist() == [10.0, 10.0]
    assert result.fills["tax"].tolist() == [0.0, 10.0]
    assert result.fills["transfer_fee"].tolist() == [0.2, 0.2]


def test_an_order_that_waits_too_long_is_given_up(tmp_path: Path) -> None:
    days = daily([flat(0, 10.0), flat(0, 10.0, instrument=1), flat(42, 10.0)])
    config = settings(entry_life="gtc", order_life="30d")
    result = trade(tmp_path, days, orders((0, 1)), config, shares(2))
    assert result.unfilled == {"EXPIRED": 1}
    longer = settings(entry_life="gtc", order_life="43d")
    result = trade(tmp_path, days, orders((0, 1)), longer, shares(2))
    assert result.fills["ts"][0] == days["ts_open"][0] + 42 * DAY


def test_gaps_need_more_room_than_the_log_has_records(tmp_path: Path) -> None:
    """Half of what is decoded are gaps; the definitions change on the way."""
    ticks = market_ticks(400)
    with LogWriter(tmp_path / "gaps.hql", market_instruments(), epoch=5) as writer:
        for at in range(0, len(ticks), 2):
            if at % 100 == 50:
                writer.define(market_instruments())
            writer.write_ticks(ticks[at : at + 2])
            writer.next_seq += 1
    prepared = Prepared.load([tmp_path / "gaps.hql"])
    assert len(prepared.segments) > 1
    with LogReader(tmp_path / "gaps.hql") as reader:
        bursts = LogBursts(reader, 1 << 16, lambda definitions: None)
        expected = [burst.records[: burst.size].tobytes() for burst in bursts]
    assert prepared.records > 1.4 * len(ticks)
    assert b"".join(one.records.tobytes() for one in prepared.segments) == b"".join(expected)
    assert [one.origins["ts_send"].tolist() for one in prepared.segments] == [
        list(range(len(one.records))) for one in prepared.segments
    ]
