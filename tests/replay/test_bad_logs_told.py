"""Whatever reads logs refuses overlapping and empty ones, and counts damage and disorder."""

import json
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest
from pipeline_cases import market_instruments, market_ticks
from typer.testing import CliRunner, Result

from engine.cli.main import make_app
from engine.core.errors import InputFileError
from engine.core.records import ALL_INSTRUMENTS, Ticks
from feeds.log_writer import LogWriter

COUNT: Final = 3_000
CONFIG: Final = """
[[bars]]
name = "1s"
interval = "1s"

[[strategies]]
name = "fast"
rule = "macd_cross"
on = "trade"
params = { fast = 2, slow = 3, signal = 2 }
"""
SMA: Final = "sma(length=2)"
TO: Final = ("-o", "out.npz")
MERGING: Final = {
    "ticks": ("export", "ticks", *TO),
    "bars": ("export", "bars", "-c", "mine.toml", "--bar", "1s", *TO),
    "signals": ("export", "signals", "-c", "mine.toml", *TO),
    "lookahead": ("analyze", "lookahead", "-c", "mine.toml", "--cuts", "2"),
    "warmup": ("analyze", "warmup", "-c", "mine.toml", "--indicator", SMA, "--on", "1s"),
    "replay": ("replay", "-c", "mine.toml"),
}
ALL: Final = {
    **MERGING,
    "features": ("features", "-c", "mine.toml", "--feature", SMA, "--on", "1s", *TO),
}


def write(path: Path, ticks: Ticks) -> None:
    with LogWriter(path, market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(CONFIG)
    ticks = market_ticks(COUNT)
    write(tmp_path / "good.hql", ticks)
    write(tmp_path / "over.hql", ticks[COUNT // 2 :])
    write(tmp_path / "empty.hql", ticks[:0])
    first = ticks["instrument"] == 0
    write(tmp_path / "one.hql", ticks[first])
    write(tmp_path / "rest.hql", ticks[~first & (ticks["instrument"] != ALL_INSTRUMENTS)])
    flipped = bytearray((tmp_path / "good.hql").read_bytes())
    flipped[len(flipped) // 2] ^= 0x20
    (tmp_path / "flipped.hql").write_bytes(flipped)
    ticks["ts_recv"][1_234] -= 3 * 10**9
    write(tmp_path / "unsorted.hql", ticks)
    return tmp_path


def heqis(command: str, *more: str) -> Result:
    return CliRunner().invoke(make_app(), [*ALL[command], *more])


def told(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.mark.parametrize("command", MERGING)
def test_logs_of_the_same_ticks_are_refused(place: Path, command: str) -> None:
    for logs in (("good.hql", "over.hql"), ("good.hql", "good.hql")):
        done = heqis(command, *logs, "--json")
        assert isinstance(done.exception, InputFileError)
        assert f"{logs[1]}: it holds S0.X over the same time as good.hql" in str(done.exception)
        assert done.stdout == ""
        assert not (place / "out.npz").exists()


@pytest.mark.parametrize("command", MERGING)
def test_logs_of_other_instruments_over_the_same_time_are_read(place: Path, command: str) -> None:
    assert told(heqis(command, "one.hql", "rest.hql", "--json"))["bad_input"] == {}


@pytest.mark.parametrize("command", ALL)
def test_damage_and_disorder_are_counted_and_told(place: Path, command: str) -> None:
    assert told(heqis(command, "good.hql", "--json"))["bad_input"] == {}
    for log, fault in (("flipped.hql", "frame_bad_crc"), ("unsorted.hql", "recv_time_back")):
        (place / "out.npz").unlink(missing_ok=True)
        assert told(heqis(command, log, "--json"))["bad_input"] == {fault: 1}
        (place / "out.npz").unlink(missing_ok=True)
        assert f"bad input: {fault} 1" in heqis(command, log).stdout.splitlines()


@pytest.mark.parametrize("command", [name for name in ALL if name != "replay"])
def test_a_log_without_records_is_refused(place: Path, command: str) -> None:
    done = heqis(command, "empty.hql", "--json")
    assert isinstance(done.exception, InputFileError)
    assert str(done.exception).startswith("empty.hql: it holds no ")
    assert not (place / "out.npz").exists()


def test_disorder_in_one_of_several_logs_is_counted(place: Path) -> None:
    ticks = market_ticks(COUNT)
    own = ticks[ticks["instrument"] == 0]
    own["ts_recv"][len(own) // 2] -= 3 * 10**9
    write(place / "back.hql", own)
    facts = told(heqis("ticks", "rest.hql", "back.hql", "--json"))
    assert facts["bad_input"] == {"recv_time_back": 1}


def test_a_training_matrix_keeps_in_its_facts_what_was_wrong(place: Path) -> None:
    assert heqis("features", "flipped.hql", "-o", "rows.parquet").exit_code == 0
    facts = json.loads(pq.read_schema(place / "rows.parquet").metadata[b"heqis"])
    assert facts["bad_input"] == {"frame_bad_crc": 1}
