"""Merged logs: in time order, instruments by symbol, equal to a plain sort."""

from pathlib import Path

import numpy as np
import pytest
from frame_cases import START_NS, make_instruments, make_ticks, tick_frame, write_log
from hypothesis import given
from hypothesis import strategies as st

from engine.core.records import ALL_INSTRUMENTS, TickKind, Ticks
from feeds.log_merge import merge_logs, merged_instruments, merged_ticks
from feeds.log_reader import LogReader
from feeds.log_verify import verify
from feeds.log_writer import LogWriter

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


def test_the_last_definition_of_a_symbol_counts(tmp_path: Path) -> None:
    later = make_instruments()
    later["pre_close"] = 9.0
    paths = [
        write_log(tmp_path / f"{i}.hql", make_ticks(2), instruments=table)
        for i, table in enumerate((make_instruments(), later))
    ]
    table, maps = merged_instruments([LogReader(path) for path in paths])
    assert table["pre_close"].tolist() == [9.0, 9.0]
    assert [ids.tolist() for ids in maps] == [[0, 1], [0, 1]]
