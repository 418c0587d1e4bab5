"""Recorded markets: every row accounted for, signals made, digests equal over processes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from datafiles import data_file

from engine.composition import resolve
from engine.config import CONFIGS, load_config
from feeds.log_reader import LogReader
from replay.player import RANDOM_BURSTS, Options, play

CASES = {
    "aig": (
        "us-equity-tick",
        ["us_equity_tick/aig_20131007_quote.zip", "us_equity_tick/aig_20131007_trade.zip"],
        1_079_935 + 25_351,
    ),
    "btcusdt_usdm": ("binance-raw", ["binance_raw_ws/usdm_btcusdt_20240808.gz"], 93_954),
    "btcusdt_spot": ("binance-raw", ["binance_raw_ws/spot_btcusdt_20240808.gz"], 41_249),
    "cffex_if": (
        "cffex-tick",
        ["cn_future_tick/CFFEX.IF.HOT_tick_20210104.decoded.csv.gz"],
        27_955,
    ),
}


def heqis(*arguments: str | Path) -> dict[str, Any]:
    """Run a command in a process of its own and return its JSON."""
    command = [sys.executable, "-m", "engine.cli", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, check=True)
    told: dict[str, Any] = orjson.loads(done.stdout)
    return told


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_rows_in_refused_and_replayed_add_up_and_digests_are_equal(
    tmp_path: Path, case: str
) -> None:
    kind, names, rows = CASES[case]
    log = tmp_path / f"{case}.hql"
    imported = heqis("import", kind, *map(data_file, names), "-o", log)
    refused = sum(imported["refused"].values())
    assert imported["rows"] == rows
    assert rows == imported["ticks"] + imported["bars"] + imported["raw"] + refused

    runs = [heqis("replay", log) for _ in range(2)]
    assert runs[0]["ticks"] == imported["ticks"]
    assert (runs[0]["gaps"], runs[0]["bad_input"]) == (0, {})
    assert runs[0]["signals"] > 0
    assert runs[0]["digest"] == runs[1]["digest"]

    blueprint = resolve(load_config([CONFIGS / "replay.toml"], {}))
    with LogReader(log) as reader:
        assert len(reader.instruments) == 1
    for burst in (1, 7, 64, 4096, RANDOM_BURSTS):
        assert play([log], blueprint, Options(burst=burst)).digest == runs[0]["digest"]


@pytest.mark.data
@pytest.mark.slow
def test_daily_bars_of_many_shares_replay_with_limits_kept(tmp_path: Path) -> None:
    file = data_file("cn_a_share_daily/daily_raw_511_symbols.parquet")
    imported = heqis("import", "tushare-daily", file, "-o", tmp_path / "daily.hql")
    replayed = heqis("replay", tmp_path / "daily.hql")
    assert imported["rows"] == imported["bars"] == replayed["bar_records"] == 165_578
    assert replayed["signals"] > 1_000
    assert replayed["refusals"]["MARKET_LIMIT_UP"] > 0
    assert replayed["refusals"]["MARKET_LIMIT_DOWN"] > 0
