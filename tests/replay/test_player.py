"""Replays: the same digest always, exact counts, gaps found, merged logs as one."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_cases import RULES, START_NS, market_instruments, market_ticks

from engine.composition import Blueprint, resolve
from engine.config import Config
from engine.core.errors import InputFileError
from engine.core.records import Board, Instruments, TickKind, Ticks, empty_bars
from feeds.log_merge import merge_logs
from feeds.log_writer import LogWriter
from replay.player import RANDOM_BURSTS, Options, Result, play

COUNT = 5_000


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    return resolve(Config.model_validate(RULES))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("logs") / "market.hql", market_ticks(COUNT))


def write_log(path: Path, ticks: Ticks, epoch: int = 5) -> Path:
    with LogWriter(path, market_instruments(), epoch=epoch) as writer:
        writer.write_ticks(ticks)
    return path


def shares(pre_close: float) -> Instruments:
    table = market_instruments()
    table["board"], table["pre_close"] = Board.CN_MAIN, pre_close
    return table


def write_days(path: Path, ticks: Ticks, closes: list[float]) -> Path:
    """Write a log of as many days as closes, of shares around 100."""
    with LogWriter(path, shares(closes[0]), epoch=5) as writer:
        for close, part in zip(closes, np.array_split(ticks, len(closes)), strict=True):
            writer.define(shares(close))
            writer.write_ticks(part)
    return path


def facts(result: Result) -> dict[str, Any]:
    told = result.as_dict()
    for name in ("wall_s", "ticks_per_s", "latency"):
        told.pop(name)
    return told


def test_counts_add_up_to_the_records_of_the_log(log: Path, blueprint: Blueprint) -> None:
    result = play([log], blueprint)
    heartbeats = int(np.sum(market_ticks(COUNT)["kind"] == TickKind.HEARTBEAT))
    assert result.ticks == COUNT - heartbeats
    assert result.heartbeats == heartbeats
    assert result.gaps == 0
    assert result.latency["ingest"].count == result.latency["compute"].count == COUNT
    assert result.signals == sum(result.signals_by_strategy.values()) > 20
    assert result.bars == sum(result.bars_by_spec.values()) > 50


@pytest.mark.parametrize("burst", [1, 7, 64, 4096, RANDOM_BURSTS])
def test_burst_size_changes_nothing(log: Path, blueprint: Blueprint, burst: int) -> None:
    assert facts(play([log], blueprint, Options(burst=burst))) == facts(play([log], blueprint))


def test_paced_replay_takes_the_recorded_time_and_answers_alike(
    log: Path, blueprint: Blueprint
) -> None:
    recorded_s = (COUNT - 1) * 0.01
    paced = play([log], blueprint, Options(pace=recorded_s / 0.5))
    assert facts(paced) == facts(play([log], blueprint))
    assert 0.5 <= paced.wall_s < 2.0
    assert paced.latency["wire"].count == COUNT
    assert paced.latency["wire"].clock_faults == 0


def test_a_hole_in_the_sequence_is_a_gap_of_its_exact_size(
    tmp_path: Path, blueprint: Blueprint
) -> None:
    ticks = market_ticks(COUNT)
    with LogWriter(tmp_path / "holed.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks[:2_000])
        writer.next_seq += 17
        writer.write_ticks(ticks[2_017:])
    result = play([tmp_path / "holed.hql"], blueprint)
    assert (result.gaps, result.missing) == (1, 17)
    assert result.ticks + result.heartbeats == COUNT - 17


def test_several_logs_replay_as_their_merged_log(tmp_path: Path, blueprint: Blueprint) -> None:
    ticks = market_ticks(COUNT)
    parts = [
        write_log(tmp_path / f"{i}.hql", ticks[ticks["instrument"] % 2 == i]) for i in range(2)
    ]
    merge_logs(parts, tmp_path / "merged.hql")
    together = play(parts, blueprint)
    assert facts(together) == facts(play([tmp_path / "merged.hql"], blueprint))
    assert together.signals > 20


def test_a_merged_log_replays_as_the_log_whose_definitions_change(
    tmp_path: Path, blueprint: Blueprint
) -> None:
    ticks = market_ticks(COUNT)
    log = write_days(tmp_path / "days.hql", ticks, [100.0, 50.0])
    merge_logs([log], tmp_path / "merged.hql")
    alone = play([log], blueprint)
    assert facts(alone) == facts(play([tmp_path / "merged.hql"], blueprint))
    days = {}
    for close in (100.0, 50.0):
        days[close] = play([write_days(tmp_path / f"{close}.hql", ticks, [close])], blueprint)
    refused = {close: day.refusals.get("MARKET_LIMIT_UP", 0) for close, day in days.items()}
    assert refused[100.0] == 0 < alone.refusals["MARKET_LIMIT_UP"] < refused[50.0]


def test_several_logs_replay_with_definitions_in_their_place(
    tmp_path: Path, blueprint: Blueprint
) -> None:
    ticks = market_ticks(COUNT)
    whole = play([write_days(tmp_path / "days.hql", ticks, [100.0, 50.0])], blueprint)
    first = write_days(tmp_path / "first.hql", ticks[: COUNT // 2], [100.0])
    second = write_days(tmp_path / "second.hql", ticks[COUNT // 2 :], [50.0])
    for order in ([first, second], [second, first]):
        merge_logs(order, tmp_path / "merged.hql", overwrite=True)
        together = play(order, blueprint)
        assert facts(together) == facts(play([tmp_path / "merged.hql"], blueprint)) == facts(whole)
    parts = [
        write_days(tmp_path / f"{i}.hql", ticks[ticks["instrument"] % 2 == i], closes)
        for i, closes in enumerate(([100.0, 50.0, 100.0], [100.0, 60.0]))
    ]
    merge_logs(parts, tmp_path / "merged.hql", overwrite=True)
    together = play(parts, blueprint)
    assert facts(together) == facts(play([tmp_path / "merged.hql"], blueprint))
    assert together.refusals["MARKET_LIMIT_UP"] > 0


def test_logs_of_other_instruments_replay_whole_in_any_order(
    tmp_path: Path, blueprint: Blueprint
) -> None:
    market, other = market_instruments(), market_instruments(1)
    other["symbol"] = b"OTHER.X"
    alone, ticks = market_ticks(COUNT, 1, seed=2), market_ticks(COUNT)
    alone["price"][np.flatnonzero(alone["kind"] == TickKind.TRADE)[7]] = np.nan
    for name, rows, table in (("market", ticks, market), ("other", alone, other)):
        with LogWriter(tmp_path / f"{name}.hql", table, epoch=5) as writer:
            writer.write_ticks(rows)
    logs = [tmp_path / "market.hql", tmp_path / "other.hql"]
    apart = [play([log], blueprint) for log in logs]
    for order in (logs, logs[::-1]):
        together = play(order, blueprint)
        assert together.ticks == sum(one.ticks for one in apart)
        assert together.bars == sum(one.bars for one in apart)
        assert together.bad_input == {"refused_nan": 1}


def test_recorded_bars_replay_like_ticks(tmp_path: Path, blueprint: Blueprint) -> None:
    bars = empty_bars(400)
    rng = np.random.default_rng(2)
    bars["close"] = bars["open"] = 100 + np.cumsum(rng.normal(0, 1, len(bars)))
    bars["high"], bars["low"] = bars["close"] + 1, bars["close"] - 1
    bars["volume"], bars["turnover"], bars["trades"] = 10, 1_000, 1
    bars["ts_open"] = START_NS + np.arange(len(bars)) * 60_000_000_000
    bars["ts_event"] = bars["ts_open"] + 60_000_000_000
    bars["ts_recv"] = bars["ts_event"]
    with LogWriter(tmp_path / "bars.hql", market_instruments(), epoch=1) as writer:
        writer.write_bars(bars)
    whole = play([tmp_path / "bars.hql"], blueprint)
    assert (whole.ticks, whole.bar_records) == (0, len(bars))
    assert whole.bars_by_spec["1s"] == len(bars)
    assert whole.signals > 5
    assert facts(play([tmp_path / "bars.hql"], blueprint, Options(burst=3))) == facts(whole)
    with pytest.raises(InputFileError, match="holds bars"):
        play([tmp_path / "bars.hql", tmp_path / "bars.hql"], blueprint)


def test_a_missing_log_is_named(tmp_path: Path, blueprint: Blueprint) -> None:
    with pytest.raises(InputFileError, match=r"nothing\.hql"):
        play([tmp_path / "nothing.hql"], blueprint)


def test_signals_and_progress_are_handed_out(log: Path, blueprint: Blueprint) -> None:
    kept: list[str] = []
    seen: list[int] = []
    options = Options(pace=math.inf, keep=lambda s: kept.append(s.id), progress=seen.append)
    result = play([log], blueprint, options)
    assert len(kept) == len(set(kept)) == result.signals
    assert seen[-1] == COUNT
    assert seen == sorted(seen)
