import csv
import io
import zipfile
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from datafiles import data_file
from hypothesis import given
from hypothesis import strategies as st
from importing import Imported, run_import, write_zip

from engine.core.errors import InputFileError
from engine.core.records import TickFlag, TickKind
from feeds.importers.us_equity_tick import TopOfBook

OPEN = 34_200_000
NAN = float("nan")


def quote_file(tmp_path: Path, *rows: str, name: str = "aig_20131007_quote.zip") -> Path:
    return write_zip(tmp_path / name, quotes="".join(f"{row}\n" for row in rows))


def trade_file(tmp_path: Path, *rows: str, name: str = "aig_20131007_trade.zip") -> Path:
    return write_zip(tmp_path / name, trades="".join(f"{row}\n" for row in rows))


def imported(tmp_path: Path, *files: Path) -> Imported:
    return run_import("us-equity-tick", files, tmp_path / "out.hql")


def flags_of(tmp_path: Path, *rows: str) -> list[TickFlag]:
    found = imported(tmp_path, trade_file(tmp_path, *rows))
    return [TickFlag(int(flags)) for flags in found.ticks["flags"]]


def test_the_book_is_the_latest_bid_row_and_the_latest_ask_row(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        quote_file(
            tmp_path,
            f"{OPEN},491800,300,0,0,P,1,0",
            f"{OPEN},0,0,492000,3000,Q,1,0",
            f"{OPEN + 5},491700,100,0,0,N,1,0",
            f"{OPEN + 5},0,0,491900,200,N,1,0",
        ),
    )
    books = found.ticks[["bid", "bid_size", "ask", "ask_size"]].tolist()
    assert str(books[0]) == str((49.18, 300.0, NAN, 0.0))
    assert books[1:] == [
        (49.18, 300.0, 49.2, 3000.0),
        (49.17, 100.0, 49.2, 3000.0),
        (49.17, 100.0, 49.19, 200.0),
    ]
    assert found.ticks["flags"].tolist() == [TickFlag.ONE_SIDED, 0, 0, 0]
    assert set(found.ticks["kind"]) == {TickKind.QUOTE}


def test_times_are_milliseconds_of_the_day_in_new_york(tmp_path: Path) -> None:
    found = imported(tmp_path, quote_file(tmp_path, f"{OPEN + 1},491800,300,0,0,P,1,0"))
    when = datetime(2013, 10, 7, 9, 30, 0, 1000, ZoneInfo("America/New_York"))
    assert found.ticks["ts_event"].tolist() == [round(when.timestamp() * 1000) * 10**6]
    assert found.ticks["ts_recv"].tolist() == found.ticks["ts_event"].tolist()
    assert found.definitions[0]["day_offset_s"] == -4 * 3600


def test_odd_quote_rows_leave_the_book_as_it_was(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        quote_file(
            tmp_path,
            f"{OPEN},0,0,1860000,100,P,1,1",
            f"{OPEN},491800,300,0,0,P,1,0",
            f"{OPEN},0,0,1860000,100,P,1,1",
            f"{OPEN},0,0,1860000,100,P,400,0",
            f"{OPEN},0,0,1860000,100,P,10,0",
            f"{OPEN},0,0,0,0,P,1,0",
            f"{OPEN},0,0,492000,100,P,8,0",
        ),
    )
    assert dict(found.report.refused) == {"no_side": 1}
    assert found.report.examples["no_side"] == ["aig_20131007_quote.zip:quotes.csv: row 1"]
    assert found.ticks["bid"].tolist() == [49.18] * 6
    assert np.isnan(found.ticks["ask"][:5]).all()
    odd = (found.ticks["flags"] & int(TickFlag.ODD_CONDITION)) != 0
    assert odd.tolist() == [False, True, True, True, True, False]
    halted = (found.ticks["flags"] & int(TickFlag.HALTED)) != 0
    assert halted.tolist() == [False, False, False, True, False, False]


def test_crossed_and_locked_books_are_kept_and_flagged(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        quote_file(
            tmp_path,
            f"{OPEN},0,0,491800,300,P,1,0",
            f"{OPEN},491800,300,0,0,P,1,0",
            f"{OPEN},491900,300,0,0,P,1,0",
        ),
    )
    assert found.ticks["flags"].tolist() == [
        TickFlag.ONE_SIDED,
        TickFlag.LOCKED,
        TickFlag.CROSSED,
    ]


def test_sale_conditions_decide_the_flags(tmp_path: Path) -> None:
    assert flags_of(
        tmp_path,
        f"{OPEN},490000,100,Q,1,0",
        f"{OPEN},490000,100,Q,20000020,0",
        f"{OPEN},490000,100,Q,40,0",
        f"{OPEN},490000,100,Q,2000,0",
        f"{OPEN},490000,100,Q,20100200,0",
        f"{OPEN},490000,100,Q,1,1",
        f"{OPEN},490000,0,Q,1,0",
        f"{OPEN},490000,100,Q,,0",
    ) == [
        TickFlag(0),
        TickFlag(0),
        TickFlag.AUCTION,
        TickFlag.OUT_OF_SESSION,
        TickFlag.ODD_CONDITION,
        TickFlag.ODD_CONDITION,
        TickFlag.ODD_CONDITION,
        TickFlag(0),
    ]


def test_rows_outside_the_session_are_flagged(tmp_path: Path) -> None:
    outside = TickFlag.OUT_OF_SESSION
    flags = flags_of(
        tmp_path, *(f"{ms},490000,1,Q,1,0" for ms in (OPEN - 1, OPEN, 57_599_999, 57_600_000))
    )
    assert flags == [outside, TickFlag(0), TickFlag(0), outside]


def test_rows_that_are_none_are_refused_by_reason_with_their_place(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        trade_file(
            tmp_path,
            f"{OPEN},490000,100,Q,1,0",
            "",
            f"{OPEN},490000,100",
            f"{OPEN},forty-nine,100,Q,1,0",
            f"{OPEN},0,100,Q,1,0",
            f"{OPEN},-490000,100,Q,1,0",
            f"{OPEN},490000,-1,Q,1,0",
            "86400000,490000,100,Q,1,0",
            "-1,490000,100,Q,1,0",
        ),
    )
    assert dict(found.report.refused) == {
        "blank_line": 1,
        "wrong_field_count": 1,
        "not_a_number": 1,
        "zero_price": 1,
        "negative": 2,
        "time_outside_day": 2,
    }
    place = "aig_20131007_trade.zip:trades.csv: row"
    assert found.report.examples["negative"] == [f"{place} 6", f"{place} 7"]


def test_time_stepping_back_keeps_the_order_of_rows_and_is_flagged(tmp_path: Path) -> None:
    rows = [f"{ms},490000,1,Q,1,0" for ms in (OPEN + 9, OPEN + 3, OPEN + 10)]
    found = imported(tmp_path, trade_file(tmp_path, *rows))
    offsets = found.ticks["ts_recv"] - found.ticks["ts_event"]
    assert offsets.tolist() == [0, 6_000_000, 0]
    assert found.ticks["flags"].tolist() == [0, TickFlag.TIME_BACK, 0]


def test_files_merge_by_time_then_symbol_with_trades_before_quotes(tmp_path: Path) -> None:
    files = [
        quote_file(tmp_path, f"{OPEN},490000,1,0,0,N,1,0", f"{OPEN + 2},490000,2,0,0,N,1,0"),
        trade_file(tmp_path, f"{OPEN},490000,3,N,1,0", f"{OPEN + 1},490000,4,N,1,0"),
        trade_file(tmp_path, f"{OPEN},100000,5,N,1,0", name="aa_20131007_trade.zip"),
        trade_file(tmp_path, f"{OPEN},100000,6,N,1,0", name="zz_20131004_trade.zip"),
    ]
    found = imported(tmp_path, *files)
    sizes = found.ticks["size"] + found.ticks["bid_size"]
    assert sizes.tolist() == [6, 5, 3, 1, 4, 2]
    assert found.symbols() == ["ZZ.US", "AA.US", "AIG.US", "AIG.US", "AIG.US", "AIG.US"]
    again = run_import("us-equity-tick", files[::-1], tmp_path / "again.hql")
    assert again.ticks.tobytes() == found.ticks.tobytes()
    assert (tmp_path / "again.hql").read_bytes() == (tmp_path / "out.hql").read_bytes()


def test_the_book_starts_empty_each_day(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        quote_file(tmp_path, f"{OPEN},490000,1,0,0,N,1,0"),
        quote_file(tmp_path, f"{OPEN},0,0,491000,1,N,1,0", name="aig_20131008_quote.zip"),
    )
    assert found.ticks["flags"].tolist() == [TickFlag.ONE_SIDED] * 2


def test_names_that_say_too_little_or_repeat_are_told(tmp_path: Path) -> None:
    row = f"{OPEN},490000,1,N,1,0"
    for name in ("aig.zip", "aig_20131399_trade.zip"):
        with pytest.raises(InputFileError, match="its name"):
            imported(tmp_path, trade_file(tmp_path, row, name=name))
    twice = [trade_file(tmp_path, row), trade_file(tmp_path, row, name="AIG_20131007_trade.ZIP")]
    with pytest.raises(InputFileError, match="same symbol, day and kind"):
        imported(tmp_path, *twice)


def test_folders_as_lean_has_them_name_the_symbol(tmp_path: Path) -> None:
    folder = tmp_path / "usa" / "tick" / "spy"
    folder.mkdir(parents=True)
    file = trade_file(folder, f"{OPEN},490000,1,N,1,0", name="20131007_trade.zip")
    assert imported(tmp_path, file).symbols() == ["SPY.US"]


QUOTE_ROWS = st.lists(
    st.tuples(
        st.integers(0, 86_399_999),
        st.sampled_from((0, 490_000, 491_000)),
        st.integers(0, 9),
        st.sampled_from((0, 490_500, 492_000)),
        st.integers(0, 9),
        st.just(0),
        st.sampled_from((0, 1, 8, 0x10, 0x400)),
        st.sampled_from((0, 0, 1)),
    ),
    max_size=30,
)


@given(QUOTE_ROWS, st.integers(0, 30))
def test_following_in_parts_equals_following_at_once(rows: list[tuple[int, ...]], cut: int) -> None:
    values = np.array(rows, np.int64).reshape(-1, 8)
    whole = TopOfBook().follow(values)
    book = TopOfBook()
    parts = np.concatenate([book.follow(values[:cut]), book.follow(values[cut:])])
    assert whole.tobytes() == parts.tobytes()


def twin_quotes(rows: list[list[str]]) -> list[tuple[float, ...]]:
    """Follow quote rows one by one in plain Python."""
    best: dict[str, tuple[float, float]] = {"bid": (NAN, 0.0), "ask": (NAN, 0.0)}
    books: list[tuple[float, ...]] = []
    for _, bid, bid_size, ask, ask_size, _, condition, suspicious in rows:
        firm = int(condition, 16) & ~0x200809 == 0 and suspicious == "0"
        if firm and bid != "0":
            best["bid"] = (int(bid) / 10_000, float(bid_size))
        if firm and ask != "0":
            best["ask"] = (int(ask) / 10_000, float(ask_size))
        books.append((*best["bid"], *best["ask"]))
    return books


@pytest.mark.data
def test_the_first_quotes_of_a_real_day_equal_a_plain_loop(tmp_path: Path) -> None:
    with zipfile.ZipFile(data_file("us_equity_tick/aig_20131007_quote.zip")) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    rows = list(csv.reader(io.StringIO(text[:800_000])))[:20_000]
    found = imported(tmp_path, quote_file(tmp_path, *(",".join(row) for row in rows)))
    expected = np.array(twin_quotes(rows))
    for column, field in enumerate(("bid", "bid_size", "ask", "ask_size")):
        np.testing.assert_array_equal(found.ticks[field], expected[:, column])


@pytest.mark.data
def test_a_real_day_is_kept_whole_with_a_book_that_hardly_ever_crosses(tmp_path: Path) -> None:
    names = ("aig_20131007_quote.zip", "aig_20131007_trade.zip")
    files = [data_file(f"us_equity_tick/{name}") for name in names]
    found = imported(tmp_path, *files)
    assert (found.report.rows, found.report.ticks) == (1_105_286, 1_105_286)
    assert dict(found.report.refused) == {}
    assert dict(found.report.flags) == {
        "AUCTION": 3,
        "CROSSED": 199,
        "LOCKED": 27_770,
        "ODD_CONDITION": 53,
        "ONE_SIDED": 1,
        "OUT_OF_SESSION": 666,
    }
    kinds = found.ticks["kind"]
    assert np.count_nonzero(kinds == TickKind.QUOTE) == 1_079_935
    assert np.count_nonzero(kinds == TickKind.TRADE) == 25_351
    assert (np.diff(found.ticks["ts_recv"]) >= 0).all()
    with zipfile.ZipFile(files[1]) as archive:
        rows = list(csv.reader(io.TextIOWrapper(archive.open(archive.namelist()[0]))))
    trades = found.ticks[kinds == TickKind.TRADE]
    assert trades["price"].tolist() == [int(row[1]) / 10_000 for row in rows]
    assert trades["size"].tolist() == [float(row[2]) for row in rows]
