"""What the lab takes of a log, and what it refuses with a reason."""

from pathlib import Path

import numpy as np
import pytest
from pipeline_cases import START_NS, market_instruments, market_ticks

from engine.core.errors import InputFileError, LogError
from engine.core.records import TickKind, Ticks, empty_bars
from feeds.log_writer import LogWriter
from replay.lab.window import load_window

COUNT = 600


def write_log(path: Path, ticks: Ticks) -> Path:
    with LogWriter(path, market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks)
    return path


def test_market_ticks_are_taken_without_heartbeats(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    window = load_window(write_log(tmp_path / "a.hql", ticks))
    market = ticks[ticks["kind"] != TickKind.HEARTBEAT]
    assert 0 < len(market) < COUNT
    assert window.ticks.tobytes() == market.tobytes()
    assert window.instruments["symbol"].tolist() == market_instruments()["symbol"].tolist()
    assert (window.steps_back, window.cut) == (0, False)


def test_a_window_is_bounded_and_says_so(tmp_path: Path) -> None:
    window = load_window(write_log(tmp_path / "a.hql", market_ticks(COUNT)), most=100)
    assert len(window.ticks) == 100
    assert window.cut


def test_what_is_skipped_is_recorded_time(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    window = load_window(write_log(tmp_path / "a.hql", ticks), skip_ns=3_000_000_000)
    first = int(window.ticks["ts_recv"][0]) - int(ticks["ts_recv"][0])
    assert first <= 3_000_000_000, "from the frame that holds it"
    assert len(window.ticks) < COUNT


def test_definitions_are_those_before_the_first_tick(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    later = market_instruments()
    later["pre_close"] = 77.0
    with LogWriter(tmp_path / "a.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks[:512])
        writer.define(later)
        writer.write_ticks(ticks[512:])
    assert np.isnan(load_window(tmp_path / "a.hql").instruments["pre_close"]).all()
    after = load_window(tmp_path / "a.hql", skip_ns=5_500_000_000)
    assert after.instruments["pre_close"].tolist() == [77.0] * 4


def test_a_log_that_is_not_in_order_is_refused_with_the_place(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    ticks["kind"] = TickKind.TRADE
    ticks["instrument"] = 0
    ticks["ts_recv"][400:] -= 3_000_000_000
    path = write_log(tmp_path / "a.hql", ticks)
    with pytest.raises(InputFileError, match=r"a\.hql: not in order: tick 400 was received 3\.0 s"):
        load_window(path)


def test_small_steps_back_are_counted(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    ticks["kind"] = TickKind.TRADE
    ticks["instrument"] = 0
    ticks["ts_recv"][100] -= 15_000_000
    assert load_window(write_log(tmp_path / "a.hql", ticks)).steps_back == 1


def test_what_is_damaged_or_missing_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.hql"
    data = bytearray(write_log(path, market_ticks(COUNT)).read_bytes())
    data[25_000] ^= 1
    path.write_bytes(bytes(data) + b"torn")
    whole = load_window(write_log(tmp_path / "b.hql", market_ticks(COUNT)))
    window = load_window(path)
    assert whole.faults == {}
    assert window.faults["frame_bad_crc"] + window.faults.get("damaged_bytes", 0) >= 1
    assert window.faults["gaps"] == 1
    assert window.faults["torn_bytes"] == 4
    assert len(window.ticks) < len(whole.ticks)


def test_a_log_of_bars_is_refused(tmp_path: Path) -> None:
    bars = empty_bars(10)
    bars["ts_event"] = bars["ts_recv"] = START_NS + np.arange(10)
    with LogWriter(tmp_path / "bars.hql", market_instruments(), epoch=5) as writer:
        writer.write_bars(bars)
    with pytest.raises(InputFileError, match=r"bars\.hql: it holds bars; the latency lab replays"):
        load_window(tmp_path / "bars.hql")


def test_a_log_without_ticks_is_refused(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "none.hql", market_instruments(), epoch=5):
        pass
    with pytest.raises(InputFileError, match=r"0 ticks in it, .* its frames hold: INSTRUMENTS"):
        load_window(tmp_path / "none.hql")


def test_an_empty_file_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.hql").touch()
    with pytest.raises(LogError, match=r"empty\.hql"):
        load_window(tmp_path / "empty.hql")
    with pytest.raises(InputFileError, match=r"no\.hql"):
        load_window(tmp_path / "no.hql")


def test_nothing_left_after_what_is_skipped_is_refused(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.hql", market_ticks(COUNT))
    with pytest.raises(InputFileError, match="no ticks are left after what --skip leaves out"):
        load_window(path, skip_ns=3_600_000_000_000)


def test_ticks_of_one_moment_are_refused(tmp_path: Path) -> None:
    ticks = market_ticks(COUNT)
    ticks["ts_recv"] = START_NS
    with pytest.raises(InputFileError, match="received at one moment"):
        load_window(write_log(tmp_path / "a.hql", ticks))
