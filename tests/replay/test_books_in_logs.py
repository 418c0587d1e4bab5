"""Depth records in a log: written, read, counted and passed over."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pipeline_cases import RULES, market_instruments, market_ticks

from engine.composition import resolve
from engine.config import Config
from engine.core.records import DEPTH5, DEPTH10, RECORD_DTYPES, Schema, TickFlag
from feeds.books.depth_records import DepthRecords, depth_record, schema_of, top_flags
from feeds.burst import BurstDecoder
from feeds.codec import iter_frames
from feeds.log_merge import left_out, merge_logs
from feeds.log_reader import LogReader
from feeds.log_verify import verify
from feeds.log_writer import LogWriter
from replay.player import play

COUNT = 600


def depth(levels: int, count: int, ts_recv: int) -> DepthRecords:
    rows = np.zeros(count, RECORD_DTYPES[Schema.DEPTH5 if levels == 5 else Schema.DEPTH10])
    rows["ts_event"] = rows["ts_recv"] = ts_recv
    rows["update_id"] = np.arange(count)
    rows["bid"], rows["ask"] = np.nan, np.nan
    return rows


def mixed_log(path: Path, *, with_depth: bool, others: bool = False) -> Path:
    ticks, table = market_ticks(COUNT), market_instruments()
    if others:
        table["symbol"] = [b"T%d.X" % at for at in range(len(table))]
    with LogWriter(path, table, epoch=5) as writer:
        for at in range(0, COUNT, 100):
            writer.write_ticks(ticks[at : at + 100])
            if with_depth:
                writer.write_depth(depth(10, 130, int(ticks["ts_recv"][at + 99])))
            else:
                writer.next_seq += 130
    return path


def test_depth_fills_as_many_frames_as_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "depth.hql"
    with LogWriter(path, market_instruments(), epoch=5) as writer:
        writer.write_depth(depth(10, 300, 7))
        writer.write_depth(depth(5, 300, 8))
    frames = [frame for frame in iter_frames(path.read_bytes()) if frame.first_seq and
              frame.schema is not Schema.INSTRUMENTS]  # fmt: skip
    assert [(frame.schema, len(frame.records)) for frame in frames] == [
        (Schema.DEPTH10, 116), (Schema.DEPTH10, 116), (Schema.DEPTH10, 68),
        (Schema.DEPTH5, 213), (Schema.DEPTH5, 87),
    ]  # fmt: skip
    assert [frame.first_seq for frame in frames] == [1, 117, 233, 301, 514]
    ids = np.concatenate([frame.records["update_id"] for frame in frames])
    assert ids.tolist() == [*range(300), *range(300)]
    assert verify(path).ok


def test_depth_between_ticks_is_no_gap_and_changes_nothing_that_a_log_says(tmp_path: Path) -> None:
    path = mixed_log(tmp_path / "mixed.hql", with_depth=True)
    reader = LogReader(path)
    decoder = BurstDecoder(len(reader.instruments))
    batches = [batch.ticks.copy() for batch in reader.batches(decoder=decoder)]
    assert np.array_equal(np.concatenate(batches).view("u1"), market_ticks(COUNT).view("u1"))
    assert decoder.count_by_name()["depth_records"] == 6 * 130
    assert "gaps" not in decoder.count_by_name()
    assert reader.summary()["records"]["DEPTH10"] == 6 * 130
    report = verify(path)
    assert (report.ok, report.records) == (True, COUNT + 6 * 130)


def test_a_replay_counts_depth_and_its_signals_are_those_without(tmp_path: Path) -> None:
    blueprint = resolve(Config.model_validate(RULES))
    path = mixed_log(tmp_path / "mixed.hql", with_depth=True)
    whole = play([path], blueprint)
    with LogWriter(tmp_path / "ticks.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(market_ticks(COUNT))
    plain = play([tmp_path / "ticks.hql"], blueprint)
    assert (whole.ticks + whole.heartbeats, whole.gaps) == (COUNT, 0)
    assert (plain.depth_records, whole.depth_records) == (0, 6 * 130)
    assert whole.signals_by_strategy == plain.signals_by_strategy
    assert whole.refusals == plain.refusals
    assert whole.signals + sum(whole.refusals.values()) > 0
    other = mixed_log(tmp_path / "other.hql", with_depth=True, others=True)
    twice = play([path, other], blueprint)
    assert twice.depth_records == 2 * 6 * 130


def test_a_merge_says_what_it_leaves_out(tmp_path: Path) -> None:
    path = mixed_log(tmp_path / "mixed.hql", with_depth=True)
    with LogWriter(path, market_instruments(), epoch=5, append=True) as writer:
        writer.write_raw(b"line", 9)
    assert merge_logs([path], tmp_path / "merged.hql") == COUNT
    assert left_out([path]) == {"DEPTH10": 6 * 130, "RAW": 1}
    assert left_out([tmp_path / "merged.hql"]) == {}


def test_the_numbers_that_depth_took_are_missing_where_depth_is_not(tmp_path: Path) -> None:
    path = mixed_log(tmp_path / "holes.hql", with_depth=False)
    assert verify(path).missing_records == 5 * 130


@given(
    st.sampled_from([5, 10]),
    st.lists(st.floats(0.1, 9.0), min_size=20, max_size=20),
    st.integers(0, 5),
)
def test_a_record_holds_the_top_it_was_made_of(
    levels: int, numbers: list[float], used: int
) -> None:
    top = np.array(numbers).repeat(2).reshape(4, 10)[:, :levels].copy()
    row = depth_record(
        top, used=used, instrument=3, update_id=2**63, ts_event=5, ts_recv=6, flags=top_flags(top)
    )
    assert row.dtype == (DEPTH5 if levels == 5 else DEPTH10)
    assert schema_of(row) is (Schema.DEPTH5 if levels == 5 else Schema.DEPTH10)
    for at, name in enumerate(("bid", "ask", "bid_size", "ask_size")):
        assert np.array_equal(row[name][0], top[at])
    said = [row[name][0] for name in ("instrument", "levels", "update_id", "ts_event", "ts_recv")]
    assert said == [3, used, 2**63, 5, 6]
    odd = TickFlag.CROSSED if top[0, 0] > top[1, 0] else TickFlag.LOCKED
    assert row["flags"][0] == (0 if top[0, 0] < top[1, 0] else odd)
