import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importing import Imported, run_import
from reference.book_twin import BookTwin

from engine.core.errors import InputFileError
from engine.core.records import Schema, TickFlag, TickKind
from feeds.importers import event_array_reading

NOW = 1_723_161_255_088_169_167
EVENT = np.dtype(
    [
        ("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"),
        ("order_id", "<u8"), ("ival", "<i8"), ("fval", "<f8"),
    ],
    align=True,
)  # fmt: skip
LOCAL, EXCHANGE = 1 << 30, 1 << 31
BUY, SELL = 1 << 29, 1 << 28
DEPTH, TRADE, CLEAR, SNAPSHOT, BEST, ADD = 1, 2, 3, 4, 5, 10
Row = tuple[int, int, float, float]


def array(*rows: Row) -> npt.NDArray[np.void]:
    """Rows of ev (LOCAL and EXCHANGE are added), time, px and qty."""
    events = np.zeros(len(rows), EVENT)
    for event, (ev, at, px, qty) in zip(events, rows, strict=True):
        event["ev"] = ev | LOCAL | EXCHANGE
        event["exch_ts"], event["local_ts"] = NOW + at, NOW + at + 5
        event["px"], event["qty"] = px, qty
    return events


def saved(path: Path, events: npt.NDArray[np.void]) -> Path:
    if path.suffix == ".npy":
        np.save(path, events)
    else:
        np.savez_compressed(path, data=events)
    return path


def imported(tmp_path: Path, events: npt.NDArray[np.void], **options: Any) -> Imported:
    path = saved(tmp_path / "btcusdt_20240808.npz", events)
    out = tmp_path / "out.hql"
    out.unlink(missing_ok=True)
    return run_import("event-array", [path], out, **{"venue": "X", "depth": 5} | options)


BOOK = (
    (SNAPSHOT | BUY, 0, 9.0, 1.0),
    (SNAPSHOT | BUY, 0, 8.0, 2.0),
    (SNAPSHOT | SELL, 0, 10.0, 3.0),
)


def test_a_trade_says_who_was_the_aggressor(tmp_path: Path) -> None:
    found = imported(tmp_path, array((TRADE | BUY, 0, 10.0, 2.0), (TRADE | SELL, 1, 9.0, 1.0)))
    assert found.ticks["kind"].tolist() == [TickKind.TRADE] * 2
    assert found.ticks["side"].tolist() == [1, -1]
    assert found.ticks["turnover"].tolist() == [20.0, 9.0]
    assert found.ticks["ts_event"].tolist() == [NOW, NOW + 1]
    assert found.ticks["ts_recv"].tolist() == [NOW + 5, NOW + 6]
    assert found.symbols() == ["BTCUSDT.X"] * 2


def test_rows_of_one_instant_are_one_change_behind_its_trades(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        array(*BOOK, (DEPTH | BUY, 1, 9.5, 4.0), (TRADE | SELL, 1, 9.0, 1.0),
              (DEPTH | BUY, 1, 9.0, 0.0), (DEPTH | BUY, 2, 8.0, 7.0)),
    )  # fmt: skip
    assert found.ticks["kind"].tolist() == [TickKind.QUOTE, TickKind.TRADE, TickKind.QUOTE]
    assert found.ticks["bid"].tolist()[::2] == [9.0, 9.5]
    assert found.ticks["bid_size"].tolist() == [1.0, 0.0, 4.0]
    assert found.schemas[1:] == [
        Schema.TICK, Schema.DEPTH5, Schema.TICK, Schema.DEPTH5, Schema.DEPTH5,
    ]  # fmt: skip
    assert [row["bid_size"][:3].tolist() for row in found.depths] == [
        [1.0, 2.0, 0.0],
        [4.0, 2.0, 0.0],
        [4.0, 7.0, 0.0],
    ]
    assert found.depths[1]["ts_recv"] == NOW + 6
    assert (found.report.in_books, found.report.quotes_made, found.report.depth) == (6, 2, 3)
    assert found.report.books == {"applied": 3}


def test_rows_received_at_once_that_happened_apart_are_changes_apart(tmp_path: Path) -> None:
    events = array(*BOOK, (DEPTH | BUY, 1, 9.5, 4.0))
    events["local_ts"] = NOW + 5
    found = imported(tmp_path, events)
    assert [row["ts_event"] for row in found.depths] == [NOW, NOW + 1]
    assert [row["ts_recv"] for row in found.depths] == [NOW + 5] * 2


def test_a_clear_takes_a_side_from_its_best_to_a_price_or_all_of_it(tmp_path: Path) -> None:
    nan = float("nan")
    found = imported(
        tmp_path,
        array(*BOOK, (CLEAR | BUY, 1, 9.0, 0.0), (CLEAR | SELL, 2, nan, 0.0), (CLEAR, 3, nan, 0.0)),
    )
    assert [row["levels"] for row in found.depths] == [2, 1, 1, 0]
    assert found.ticks["bid"].tolist() == [9.0, 8.0, 8.0]
    assert found.ticks["flags"].tolist() == [0, 0, TickFlag.ONE_SIDED]


def test_a_best_price_removes_what_is_better(tmp_path: Path) -> None:
    found = imported(tmp_path, array(*BOOK, (BEST | BUY, 1, 8.5, 6.0), (BEST | SELL, 2, 9.0, 1.0)))
    assert found.depths[1]["bid"][:3].tolist()[:2] == [8.5, 8.0]
    assert found.depths[2]["ask"][:2].tolist() == [9.0, 10.0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ev": DEPTH | BUY | EXCHANGE}, "not_local"),
        ({"ev": ADD | BUY | LOCAL}, "order_event"),
        ({"ev": 77 | BUY | LOCAL}, "unknown_event"),
        ({"ev": DEPTH | LOCAL}, "bad_side"),
        ({"ev": DEPTH | BUY | SELL | LOCAL}, "bad_side"),
        ({"px": float("nan")}, "bad_level"),
        ({"px": 0.0}, "bad_level"),
        ({"qty": -1.0}, "bad_level"),
        ({"local_ts": 1_723_161_255_088}, "bad_time"),
        ({"exch_ts": 2**62}, "bad_time"),
        ({"exch_ts": NOW + 2 * 86_400 * 10**9}, "time_ahead"),
        ({"ev": TRADE | BUY | LOCAL, "px": 0.0}, "zero_price"),
    ],
)
def test_rows_that_cannot_be_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    events = array(*BOOK, (DEPTH | BUY, 1, 9.5, 4.0), (DEPTH | BUY, 2, 9.1, 4.0))
    for field, value in change.items():
        events[field][3] = value
    found = imported(tmp_path, events)
    assert dict(found.report.refused) == {reason: 1}
    assert found.report.examples[reason] == ["btcusdt_20240808.npz: row 4"]
    assert found.depths[-1]["bid"][0] == 9.1


def test_local_time_that_steps_back_is_held(tmp_path: Path) -> None:
    found = imported(tmp_path, array((TRADE | BUY, 9, 1.0, 1.0), (TRADE | BUY, 3, 1.0, 1.0)))
    assert found.ticks["ts_recv"].tolist() == [NOW + 14] * 2
    assert found.ticks["flags"].tolist() == [0, TickFlag.TIME_BACK]


def test_files_of_one_symbol_share_its_book_and_others_are_merged(tmp_path: Path) -> None:
    paths = [
        saved(tmp_path / "btc_1.npz", array(*BOOK)),
        saved(tmp_path / "btc_2.npy", array((DEPTH | BUY, 9, 9.5, 1.0))),
        saved(tmp_path / "eth_1.npz", array((TRADE | BUY, 4, 7.0, 1.0))),
    ]
    found = run_import("event-array", paths, tmp_path / "out.hql", venue="X", depth=5)
    assert found.symbols() == ["BTC.X", "ETH.X", "BTC.X"]
    assert found.depths[-1]["bid"][:3].tolist() == [9.5, 9.0, 8.0]


def test_without_depth_the_book_still_makes_quotes(tmp_path: Path) -> None:
    found = imported(tmp_path, array(*BOOK), depth=0)
    assert (found.report.depth, found.report.quotes_made) == (0, 1)


def test_a_venue_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="give --venue"):
        imported(tmp_path, array(*BOOK), venue="")
    assert imported(tmp_path, array(*BOOK), symbol="A.B", venue="").symbols() == ["A.B"]


def test_what_is_no_event_array_is_told(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.npz", array(*BOOK)).read_bytes()
    np.savez(tmp_path / "other.npz", bars=np.zeros(3))
    np.save(tmp_path / "flat.npy", np.zeros((4, 6)))
    np.save(tmp_path / "object.npy", np.array([{}], object))
    (tmp_path / "text.npz").write_text("time,price\n")
    (tmp_path / "cut.npz").write_bytes(good[: len(good) // 2])
    whole = saved(tmp_path / "whole.npy", array(*BOOK)).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-10])
    (tmp_path / "head.npy").write_bytes(whole[:9])
    told = {
        "other.npz": "no array 'data'; it holds bars.npy",
        "flat.npy": "found shape (4, 6), float64; an event array has the fields ev",
        "object.npy": "found shape (1,), object",
        "text.npz": "neither .npz nor .npy",
        "cut.npz": "damaged or unsupported zip",
        "cut.npy": "cut off after row 3",
        "head.npy": "damaged array header",
        "missing.npz": "no such file",
    }
    for name, text in told.items():
        with pytest.raises(InputFileError) as error:
            run_import("event-array", [tmp_path / name], tmp_path / "o.hql", venue="X")
        assert text in str(error.value)
        assert not (tmp_path / "o.hql").exists()


def test_an_array_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stored.npz"
    np.savez(path, data=array(*BOOK))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("data.npy").header_offset + 400
    data[at] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputFileError, match="CRC"):
        run_import("event-array", [path], tmp_path / "o.hql", venue="X")


kinds = st.sampled_from([DEPTH, DEPTH, DEPTH, SNAPSHOT, CLEAR, BEST, TRADE])
rows = st.lists(
    st.tuples(
        kinds, st.booleans(), st.integers(0, 1), st.integers(1, 9).map(float),
        st.integers(0, 3).map(float),
    ),
    min_size=1,
    max_size=40,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(rows, st.sampled_from([3, 65_536]))
def test_an_arrays_book_equals_two_dicts_at_every_instant(
    tmp_path: Path, rows: list[tuple[int, bool, int, float, float]], chunk: int
) -> None:
    twin, at, events = BookTwin(), 0, []
    tops: dict[int, tuple[Any, Any]] = {}
    for kind, buy, later, px, qty in rows:
        at += later
        events.append((kind | (BUY if buy else SELL), at, px, qty))
        act(twin, kind, buy, px, qty)
        if kind != TRADE:
            tops[NOW + at + 5] = twin.top(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_array_reading, "ROWS_AT_ONCE", chunk)
        found = imported(tmp_path, array(*events, (TRADE | BUY, at + 1, 1.0, 1.0)))
    said: tuple[Any, Any] = ([], [])
    records = {int(row["ts_recv"]): row for row in found.depths}
    largest = max(Counter(event[1] for event in events).values())
    if largest < chunk:  # one that does not fit into a chunk is told in parts
        assert len(records) == len(found.depths)
    for ts_recv, (bids, asks) in tops.items():
        if ts_recv in records:
            row = records[ts_recv]
            said = (levels(row, "bid"), levels(row, "ask"))
        assert said == (bids, asks)


def act(twin: BookTwin, kind: int, buy: bool, px: float, qty: float) -> None:
    if kind == TRADE:
        return
    if kind in (CLEAR, BEST):
        (twin.cut_bids if buy else twin.cut_asks)(px)
    if kind != CLEAR:
        level = [(px, qty)]
        twin.apply(*((level, []) if buy else ([], level)))


def levels(row: np.void, side: str) -> list[tuple[float, float]]:
    pairs = zip(row[side].tolist(), row[f"{side}_size"].tolist(), strict=True)
    return [(price, size) for price, size in pairs if price == price]
