"""Merged logs: in time order, instruments by symbol, equal to a plain sort."""

from pathlib import Path

import numpy as np
import pytest
from frame_cases import START_NS, make_instruments, make_ticks, tick_frame, write_log
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import InputFileError
from engine.core.records import ALL_INSTRUMENTS, Instruments, Schema, TickKind, Ticks
from feeds.config import LogSourceConfig
from feeds.log_merge import merge_logs, merged_instruments, merged_records, merged_ticks
from feeds.log_reader import LogReader
from feeds.log_verify import verify
from feeds.log_writer import LogWriter
from feeds.player import LogSource

TIMES = st.lists(st.integers(0, 30), min_size=1, max_size=40)


def ticks_at(times: list[int], side: int) -> Ticks:
    ticks = make_ticks(len(times))
    ticks["ts_recv"] = ticks["ts_event"] = START_NS + np.array(times)
    ticks["side"] = side
    return ticks


def sorted_twin(parts: list[Ticks], symbols: list[list[str]]) -> list[tuple[str, bytes]]:
    """Sort by the latest receive time reached, then by log, then by place."""
    table: dict[int, str] = {ALL_INSTRUMENTS: "*"}
    keyed = []
    for rank, part in enumerate(parts):
        latest = 0
        for place, tick in enumerate(part):
            latest = max(latest, int(tick["ts_recv"]))
            symbol = {**table, **dict(enumerate(symbols[rank]))}[int(tick["instrument"])]
            keyed.append((latest, rank, place, symbol, tick.tobytes()[:72] + tick.tobytes()[76:]))
    return [(symbol, body) for _, _, _, symbol, body in sorted(keyed)]


@given(parts=st.lists(TIMES, min_size=1, max_size=4))
def test_merged_ticks_equal_a_plain_sort(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    ticks = [ticks_at(times, rank % 3 - 1) for rank, times in enumerate(parts)]
    prefixes = ["A", "B", "A", "C"]
    readers = [
        LogReader(
            write_log(folder / f"{rank}.hql", part, instruments=make_instruments(2, prefixes[rank]))
        )
        for rank, part in enumerate(ticks)
    ]
    table, _ = merged_instruments(readers)
    names = {i: name.decode() for i, name in enumerate(table["symbol"].tolist())}
    names[ALL_INSTRUMENTS] = "*"
    found = [
        (names[int(tick["instrument"])], tick.tobytes()[:72] + tick.tobytes()[76:])
        for batch in merged_ticks(readers)
        for tick in batch
    ]
    assert found == sorted_twin(ticks, [[f"{p}{i}.X" for i in range(2)] for p in prefixes])


def test_the_merged_log_holds_what_merging_yields(tmp_path: Path) -> None:
    paths = [
        write_log(
            tmp_path / f"{name}.hql",
            make_ticks(700, first=first),
            instruments=make_instruments(2, name),
        )
        for name, first in (("A", 0), ("B", 350))
    ]
    out = tmp_path / "out.hql"
    assert merge_logs(paths, out) == 1400
    merged = LogReader(out)
    expected = b"".join(part.tobytes() for part in merged_ticks([LogReader(p) for p in paths]))
    assert b"".join(batch.ticks.tobytes() for batch in merged.batches()) == expected
    assert verify(out).ok
    assert merged.epochs == [7]
    assert merged.instruments["symbol"].tolist() == [b"A0.X", b"A1.X", b"B0.X", b"B1.X"]
    assert merged.instruments["id"].tolist() == [0, 1, 2, 3]


def test_what_a_log_lacks_the_merged_log_lacks_too(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "a.hql", make_instruments(), epoch=7) as writer:
        writer.append_frames([tick_frame(make_ticks(2), 1), tick_frame(make_ticks(2, first=5), 6)])
    merge_logs([tmp_path / "a.hql"], tmp_path / "out.hql")
    [batch] = LogReader(tmp_path / "out.hql").batches()
    assert batch.ticks["kind"].tolist().index(TickKind.GAP) == 2
    assert batch.ticks["size"][2] == 3
    assert batch.origins["seq"].tolist() == [1, 2, 3, 6, 7]


def closing_at(pre_close: float, prefix: str = "SYM", count: int = 2) -> Instruments:
    table = make_instruments(count, prefix)
    table["pre_close"] = pre_close
    return table


def told(path: Path, *more: Path) -> list[tuple[list[int], list[float]] | int]:
    """Return a merge's definitions as ids and closes, and its runs of ticks as their lengths."""
    found: list[tuple[list[int], list[float]] | int] = []
    for schema, rows in merged_records([LogReader(path), *map(LogReader, more)]):
        if schema == Schema.INSTRUMENTS:
            found.append((rows["id"].tolist(), rows["pre_close"].tolist()))
        elif found and isinstance(found[-1], int):
            found[-1] += len(rows)
        else:
            found.append(len(rows))
    return found


def test_the_first_definition_of_a_symbol_opens_the_merge(tmp_path: Path) -> None:
    paths = [
        write_log(tmp_path / f"{close}.hql", make_ticks(2), instruments=closing_at(close))
        for close in (8.0, 9.0)
    ]
    table, maps = merged_instruments([LogReader(path) for path in paths])
    assert table["pre_close"].tolist() == [8.0, 8.0]
    assert [ids.tolist() for ids in maps] == [[0, 1], [0, 1]]


def test_later_definitions_stay_in_place_under_their_new_ids(tmp_path: Path) -> None:
    log = tmp_path / "log.hql"
    with LogWriter(log, closing_at(8.0), epoch=7) as writer:
        writer.write_ticks(make_ticks(4))
        writer.define(closing_at(8.0))
        writer.write_ticks(make_ticks(4, first=4))
        writer.define(closing_at(9.0)[1:])
        writer.write_ticks(make_ticks(4, first=8))
        writer.define(closing_at(10.0)[:1])
    other = write_log(
        tmp_path / "other.hql", make_ticks(12), instruments=closing_at(5.0, "OTHER", 3)
    )
    assert told(log) == [8, ([1], [9.0]), 4, ([0], [10.0])]
    assert told(other, log) == [17, ([4], [9.0]), 7, ([3], [10.0])]
    merge_logs([other, log], tmp_path / "out.hql")
    assert told(tmp_path / "out.hql") == told(other, log)
    assert verify(tmp_path / "out.hql").ok


def test_a_later_log_defines_when_its_ticks_begin(tmp_path: Path) -> None:
    days = [
        write_log(
            tmp_path / f"{close}.hql", make_ticks(4, first=first), instruments=closing_at(close)
        )
        for first, close in ((0, 8.0), (4, 9.0))
    ]
    assert told(*days) == [4, ([0, 1], [9.0, 9.0]), 4]
    assert told(*days[::-1]) == [([0, 1], [8.0, 8.0]), 4, ([0, 1], [9.0, 9.0]), 4]


def test_an_instrument_is_unknown_until_its_log_defines_it(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "log.hql", make_instruments(1), epoch=7) as writer:
        writer.append_frame(tick_frame(make_ticks(8), 1))
        writer.define(make_instruments(2))
        writer.append_frame(tick_frame(make_ticks(8, first=8), 9))
    ticks = np.concatenate(list(merged_ticks([LogReader(tmp_path / "log.hql")])))
    assert ticks["instrument"].tolist().index(1) == 7
    assert len(ticks) == 14


def test_a_log_source_tells_a_definition_with_the_ticks_that_follow(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "log.hql", closing_at(8.0), epoch=7) as writer:
        writer.write_ticks(make_ticks(4))
        writer.define(closing_at(9.0)[1:])
        writer.write_ticks(make_ticks(4, first=4))
    source = LogSource(LogSourceConfig(path=tmp_path / "log.hql"))
    opening = source.instruments
    seen = [(len(ticks), source.instruments["pre_close"].tolist()) for ticks in source.batches()]
    assert seen == [(3, [8.0, 8.0]), (3, [8.0, 9.0])]
    assert opening["pre_close"].tolist() == [8.0, 8.0]


def test_logs_that_hold_the_same_ticks_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    paths = [write_log(tmp_path / name, make_ticks(10)) for name in ("a.hql", "b.hql")]
    out = tmp_path / "out.hql"
    with pytest.raises(InputFileError, match=r"b\.hql: it holds .* over the same time as .*a\.hql"):
        merge_logs(paths, out)
    assert not out.exists()
