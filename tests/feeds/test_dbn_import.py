import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from datafiles import data_file
from importing import Imported, run_import

from engine.core.errors import InputFileError
from engine.core.records import Board, Schema, TickFlag, TickKind

dbn = pytest.importorskip("databento_dbn", reason="databento-dbn is not installed")

NOW = 1_609_160_400_000_000_000
DAY = dt.date(2020, 12, 28)


class Interval(NamedTuple):
    start_date: dt.date
    end_date: dt.date
    symbol: str


class Mapping(NamedTuple):
    raw_symbol: str
    intervals: list[Interval]


def metadata(dataset: str = "GLBX.MDP3", **mappings: int) -> bytes:
    named = mappings or {"ESH1": 5482}
    spans = [
        Mapping(name, [Interval(DAY, DAY + dt.timedelta(days=1), str(number))])
        for name, number in named.items()
    ]
    return bytes(
        dbn.Metadata(
            dataset, NOW, dbn.SType.RAW_SYMBOL, dbn.SType.INSTRUMENT_ID, None,
            symbols=list(named), mappings=spans,
        )
    )  # fmt: skip


def fields(at: int, action: str, side: str, price: float, size: int, number: int) -> dict[str, Any]:
    return {
        "publisher_id": 1, "instrument_id": number, "ts_event": NOW + at,
        "price": dbn.UNDEF_PRICE if price != price else round(price * 1e9), "size": size,
        "action": dbn.Action(action), "side": dbn.Side(side), "depth": 0,
        "ts_recv": NOW + at + 10, "flags": 128,
    }  # fmt: skip


def trade(at: int, price: float, size: int = 1, side: str = "B", number: int = 5482) -> bytes:
    return bytes(dbn.TradeMsg(**fields(at, "T", side, price, size, number)))


def pair(bid: float, ask: float, bid_size: int = 1, ask_size: int = 1) -> Any:
    prices = [dbn.UNDEF_PRICE if p != p else round(p * 1e9) for p in (bid, ask)]
    return dbn.BidAskPair(prices[0], prices[1], bid_size, ask_size)


def quote(at: int, level: Any, action: str = "A", **more: Any) -> bytes:
    said = fields(at, action, "A", 1.0, 3, 5482) | more
    return bytes(dbn.MBP1Msg(**said, levels=level))


def ten(at: int, levels: Sequence[Any], action: str = "A", **more: Any) -> bytes:
    nothing = pair(float("nan"), float("nan"), 0, 0)
    said = fields(at, action, "B", 1.0, 3, 5482) | {"sequence": 100 + at} | more
    return bytes(dbn.MBP10Msg(**said, levels=[*levels, *[nothing] * (10 - len(levels))]))


def bar(minute: int, *prices: float, volume: int = 5) -> bytes:
    fixed = [round(price * 1e9) for price in prices]
    ts_event = NOW + minute * 60 * 10**9
    return bytes(dbn.OHLCVMsg(dbn.RType.OHLCV_1M, 1, 5482, ts_event, *fixed, volume))


def write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def imported(tmp_path: Path, *records: bytes, head: bytes = b"", **options: Any) -> Imported:
    path = write(tmp_path / "x.dbn", head or metadata(), *records)
    return run_import("dbn", [path], tmp_path / "out.hql", **options)


def test_a_trade_says_who_was_the_aggressor(tmp_path: Path) -> None:
    found = imported(tmp_path, trade(0, 3720.25, 5, "B"), trade(1, 3720.0, 2, "A"), trade(2, 1, 0))
    assert found.ticks["kind"].tolist() == [TickKind.TRADE] * 3
    assert found.ticks["side"].tolist() == [1, -1, 1]
    assert found.ticks["price"].tolist() == [3720.25, 3720.0, 1.0]
    assert found.ticks["turnover"].tolist() == [18601.25, 7440.0, 0.0]
    assert found.ticks["flags"].tolist() == [0, 0, TickFlag.ODD_CONDITION]
    assert found.ticks["ts_event"].tolist() == [NOW, NOW + 1, NOW + 2]
    assert found.ticks["ts_recv"].tolist() == [NOW + 10, NOW + 11, NOW + 12]
    (row,) = found.definitions
    assert (row["symbol"], row["calendar"], row["board"]) == (b"ESH1.GLBX", b"CMES", Board.FUTURES)
    assert (row["day_offset_s"], row["price_decimals"]) == (3600, 2)


def test_a_row_of_the_best_level_is_a_quote_and_with_a_trade_a_snapshot(tmp_path: Path) -> None:
    book = pair(9.0, 9.5, 4, 6)
    found = imported(tmp_path, quote(0, book), quote(1, book, "T", price=9_500_000_000))
    first, second = found.ticks
    assert [row["kind"] for row in (first, second)] == [TickKind.QUOTE, TickKind.SNAPSHOT]
    for row in (first, second):
        assert [row[f] for f in ("bid", "ask", "bid_size", "ask_size")] == [9.0, 9.5, 4.0, 6.0]
    assert np.isnan(first["price"])
    assert (second["price"], second["size"], second["side"]) == (9.5, 3.0, -1)


def test_missing_sides_are_missing_and_a_cleared_book_is_refused(tmp_path: Path) -> None:
    nan = float("nan")
    found = imported(tmp_path, quote(0, pair(nan, 9.5, 0)), quote(1, pair(nan, nan, 0, 0), "R"))
    assert np.isnan(found.ticks["bid"][0])
    assert found.ticks["flags"][0] == TickFlag.ONE_SIDED
    assert dict(found.report.refused) == {"no_side": 1}


def test_ten_levels_make_a_tick_a_row_and_a_depth_record_a_change(tmp_path: Path) -> None:
    book = [pair(9.0 - level, 10.0 + level) for level in range(3)]
    found = imported(
        tmp_path,
        ten(0, book),
        ten(1, book, "T", price=10_000_000_000),
        ten(2, book[:1], flags=128 | dbn.F_MAYBE_BAD_BOOK),
    )
    assert found.ticks["kind"].tolist() == [TickKind.QUOTE, TickKind.SNAPSHOT, TickKind.QUOTE]
    assert found.schemas[1:] == [Schema.TICK, Schema.DEPTH10, Schema.TICK, Schema.DEPTH10]
    assert [row["levels"] for row in found.depths] == [3, 1]
    assert [row["update_id"] for row in found.depths] == [100, 102]
    assert found.depths[0]["bid"][:4].tolist()[:3] == [9.0, 8.0, 7.0]
    assert found.depths[0]["ask_size"].tolist() == [1.0] * 3 + [0.0] * 7
    assert np.isnan(found.depths[0]["ask"][3:]).all()
    assert [row["flags"] for row in found.depths] == [0, TickFlag.UNCERTAIN]
    assert found.ticks["flags"].tolist() == [0, 0, TickFlag.ODD_CONDITION]


def test_levels_are_as_many_as_asked_for(tmp_path: Path) -> None:
    found = imported(tmp_path, ten(0, [pair(9, 10)] * 10), depth=5)
    assert Schema.DEPTH5 in found.schemas
    (tmp_path / "out.hql").unlink()
    assert imported(tmp_path, ten(0, [pair(9, 10)] * 10), depth=0).report.depth == 0


def test_bars_close_an_interval_after_their_stamp_and_bad_ones_are_refused(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        bar(0, 10, 12, 9, 11),
        bar(1, 11, 11, 11, 11, volume=0),
        bar(1, 11, 11, 11, 11),
        bar(2, 11, 9, 9, 11),
    )
    assert found.bars["ts_open"].tolist() == [NOW, NOW + 60 * 10**9]
    assert found.bars["ts_event"].tolist() == [NOW + 60 * 10**9, NOW + 120 * 10**9]
    assert found.bars["high"].tolist() == [12.0, 11.0]
    assert found.bars["flags"].tolist() == [0, TickFlag.HALTED]
    assert dict(found.report.refused) == {"bad_range": 1, "duplicate_row": 1}
    assert found.bars["session"].tolist() == [(DAY - dt.date(1970, 1, 1)).days] * 2


def test_more_bars_than_a_block_holds_are_all_there_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feeds.importers.dbn._BLOCK", 64)
    minutes = list(range(500))
    prices = [100.0 + minute % 7 for minute in minutes]
    made = [bar(m, p, p, p, p) for m, p in zip(minutes, prices, strict=True)]
    made[300] = bar(300, 1, 0, 1, 1)
    found = imported(tmp_path, *made)
    assert dict(found.report.refused) == {"zero_price": 1}
    kept = [minute for minute in minutes if minute != 300]
    assert found.bars["ts_open"].tolist() == [NOW + minute * 60 * 10**9 for minute in kept]
    assert found.bars["close"].tolist() == [prices[minute] for minute in kept]


def test_the_trading_day_of_a_futures_bar_begins_the_evening_before(tmp_path: Path) -> None:
    evening = 10 * 60
    found = imported(tmp_path, bar(evening, 1, 1, 1, 1))
    assert found.bars["session"].tolist() == [(DAY - dt.date(1970, 1, 1)).days + 1]


def test_an_id_without_a_symbol_is_refused_unless_one_is_said(tmp_path: Path) -> None:
    records = (trade(0, 1), trade(1, 1, number=7), trade(86_400 * 10**9, 1))
    found = imported(tmp_path, *records)
    assert dict(found.report.refused) == {"unknown_symbol": 2}
    (tmp_path / "out.hql").unlink()
    said = imported(tmp_path, *records, symbol="X.Y")
    assert said.symbols() == ["X.Y"] * 3


def test_mappings_may_go_from_numbers_to_symbols_and_stand_among_the_records(
    tmp_path: Path,
) -> None:
    span = Interval(DAY, DAY + dt.timedelta(days=1), "MSFT")
    head = dbn.Metadata(
        "XNAS.ITCH", NOW, dbn.SType.INSTRUMENT_ID, dbn.SType.RAW_SYMBOL, None,
        mappings=[Mapping("11", [span])],
    )  # fmt: skip
    message = dbn.SymbolMappingMsg(
        1, 12, NOW, dbn.SType.RAW_SYMBOL, "AAPL", dbn.SType.RAW_SYMBOL, "AAPL", NOW, NOW + 1
    )
    found = imported(
        tmp_path, bytes(message), trade(0, 1, number=11), trade(1, 1, number=12), head=bytes(head)
    )
    assert found.symbols() == ["MSFT.XNAS", "AAPL.XNAS"]
    assert dict(found.report.refused) == {"not_imported": 1}
    assert found.definitions[0]["board"] == Board.US_EQUITY


def test_of_single_orders_only_the_trades_are_taken(tmp_path: Path) -> None:
    orders = [
        bytes(
            dbn.MBOMsg(
                publisher_id=1, instrument_id=5482, ts_event=NOW + at, order_id=1,
                price=10**9, size=2, action=dbn.Action(action), side=dbn.Side("B"),
                ts_recv=NOW + at,
            )
        )
        for at, action in enumerate("ATFC")
    ]  # fmt: skip
    found = imported(tmp_path, *orders)
    assert found.ticks["ts_event"].tolist() == [NOW + 1]
    assert dict(found.report.refused) == {"order_event": 3}


def test_times_without_a_value_are_refused(tmp_path: Path) -> None:
    none = dbn.UNDEF_TIMESTAMP
    bad = fields(1, "T", "B", 1.0, 1, 5482)
    records = [bytes(dbn.TradeMsg(**bad | change)) for change in ({"ts_event": none},
                                                                  {"ts_recv": none})]  # fmt: skip
    found = imported(tmp_path, trade(0, 1), *records)
    assert dict(found.report.refused) == {"bad_time": 2}


def test_several_files_are_merged_by_receive_time(tmp_path: Path) -> None:
    one = write(tmp_path / "a.dbn", metadata(ESH1=5482), trade(0, 1), trade(5, 2))
    two = write(tmp_path / "b.dbn", metadata(NQH1=9), trade(3, 3, number=9))
    found = run_import("dbn", [one, two], tmp_path / "out.hql")
    assert found.ticks["price"].tolist() == [1.0, 3.0, 2.0]
    assert found.symbols() == ["ESH1.GLBX", "NQH1.GLBX", "ESH1.GLBX"]


def test_bars_and_ticks_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="logs of their own"):
        imported(tmp_path, trade(0, 1), bar(0, 1, 1, 1, 1))


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_off_anywhere_is_refused_whole(tmp_path: Path, compressed: bool) -> None:
    whole = metadata() + trade(0, 1) + trade(1, 2)
    data = zstd(whole) if compressed else whole
    record = len(trade(0, 1))
    for cut in range(1, len(data)):
        if not compressed and cut in (record, 2 * record):
            continue
        path = write(tmp_path / "cut.dbn", data[:-cut])
        with pytest.raises(InputFileError, match=r"cut off|cannot be read|has no rows|no good DBN"):
            run_import("dbn", [path], tmp_path / "out.hql")
    assert not (tmp_path / "out.hql").exists()


def test_what_is_no_dbn_is_told(tmp_path: Path) -> None:
    for data in (b"time,price\n1,2\n" * 40, metadata() + b"\x00" * 48, metadata() + b"\xff" * 96):
        with pytest.raises(InputFileError, match=r"no good DBN|cut off"):
            run_import("dbn", [write(tmp_path / "no.dbn", data)], tmp_path / "out.hql")


SCHEMAS = {
    "trades": [(TickKind.TRADE, 3720.25, 5.0), (TickKind.TRADE, 3720.25, 21.0)],
    "tbbo": [(TickKind.SNAPSHOT, 3720.25, 5.0), (TickKind.SNAPSHOT, 3720.25, 21.0)],
    "mbp-1": [(TickKind.QUOTE, None, 0.0)] * 2,
    "mbp-10": [(TickKind.QUOTE, None, 0.0)] * 2,
}


@pytest.mark.data
@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("form", ["dbn", "v1.dbn.zst", "v2.dbn.zst", "v3.dbn.zst"])
def test_conformance_files_of_every_version_say_the_same(
    tmp_path: Path, schema: str, form: str
) -> None:
    path = data_file(f"dbn_conformance/test_data.{schema}.{form}")
    found = run_import("dbn", [path], tmp_path / "out.hql")
    said = [(t["kind"], None if np.isnan(t["price"]) else t["price"], t["size"])
            for t in found.ticks]  # fmt: skip
    assert said == SCHEMAS[schema]
    assert found.symbols() == ["ESH1.GLBX"] * 2
    assert (found.ticks["ts_recv"] > found.ticks["ts_event"]).all()
    if schema != "trades":
        assert found.ticks["bid"].tolist() == [3720.25] * 2
        assert found.ticks["ask"].tolist() == [3720.5] * 2
    assert len(found.depths) == (2 if schema == "mbp-10" else 0)


@pytest.mark.data
def test_a_conformance_file_of_bars_imports(tmp_path: Path) -> None:
    path = data_file("dbn_conformance/test_data.ohlcv-1m.v3.dbn.zst")
    found = run_import("dbn", [path], tmp_path / "out.hql")
    assert found.bars["close"].tolist() == [372100.0, 372150.0]
    assert found.bars["volume"].tolist() == [353.0, 152.0]
    assert (found.bars["ts_event"] - found.bars["ts_open"]).tolist() == [60 * 10**9] * 2


@pytest.mark.data
@pytest.mark.parametrize("schema", ["imbalance", "status", "mbo"])
def test_conformance_files_of_what_is_not_imported_are_told_by_name(
    tmp_path: Path, schema: str
) -> None:
    path = data_file(f"dbn_conformance/test_data.{schema}.v3.dbn.zst")
    with pytest.raises(InputFileError, match=r"none of its .* rows can be used as dbn"):
        run_import("dbn", [path], tmp_path / "out.hql")
