import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datafiles import data_file
from hypothesis import given
from hypothesis import strategies as st
from importing import Imported, run_import

from engine.core.errors import InputFileError
from engine.core.records import Schema, TickFlag, TickKind
from feeds.importers.binance_frames import (
    Frame,
    LineClock,
    LineFault,
    Venue,
    guess_venue,
    parse_payload,
)

NOW = 1_723_161_255_088_169_167
MS = NOW // 10**6


def trade(number: int = 1, price: str = "61800.30", size: str = "0.006", **more: Any) -> str:
    data = {
        "e": "trade", "E": MS, "T": MS - 1, "s": "BTCUSDT", "t": number, "p": price, "q": size,
        "X": "MARKET", "m": False,
    } | more  # fmt: skip
    return json.dumps({"stream": "btcusdt@trade", "data": data})


def ticker(update: int = 1, bid: str = "61800.20", ask: str = "61800.30", **more: Any) -> str:
    data = {
        "e": "bookTicker", "u": update, "s": "BTCUSDT", "b": bid, "B": "2.5", "a": ask, "A": "1.5",
        "T": MS - 3, "E": MS - 2,
    } | more  # fmt: skip
    return json.dumps({"stream": "btcusdt@bookTicker", "data": data})


def other(stream: str, **data: Any) -> str:
    return json.dumps({"stream": stream, "data": data})


DEPTH = other("btcusdt@depth@0ms", e="depthUpdate", E=MS, s="BTCUSDT", U=1, u=2, pu=0, b=[], a=[])


def capture(tmp_path: Path, *payloads: str, name: str = "usdm.gz", start: int = NOW) -> Path:
    lines = [f"{start + i} {payload}\n" for i, payload in enumerate(payloads)]
    path = tmp_path / name
    path.write_bytes(gzip.compress("".join(lines).encode()))
    return path


def imported(tmp_path: Path, *files: Path, **options: str) -> Imported:
    return run_import("binance-raw", files, tmp_path / "out.hql", **options)


def test_a_trade_says_who_was_the_aggressor_and_when_it_happened(tmp_path: Path) -> None:
    found = imported(tmp_path, capture(tmp_path, trade(1), trade(2, m=True)))
    first = found.ticks[0]
    assert (first["price"], first["size"], first["turnover"]) == (61800.3, 0.006, 61800.3 * 0.006)
    assert found.ticks["side"].tolist() == [1, -1]
    assert found.ticks["ts_event"].tolist() == [(MS - 1) * 10**6] * 2
    assert found.ticks["ts_recv"].tolist() == [NOW, NOW + 1]
    assert found.symbols() == ["BTCUSDT.BINANCE_USDM"] * 2


def test_a_book_ticker_becomes_a_quote(tmp_path: Path) -> None:
    found = imported(tmp_path, capture(tmp_path, ticker()))
    tick = found.ticks[0]
    assert tick["kind"] == TickKind.QUOTE
    assert [tick[name] for name in ("bid", "bid_size", "ask", "ask_size")] == [
        61800.2,
        2.5,
        61800.3,
        1.5,
    ]
    assert tick["ts_event"] == (MS - 3) * 10**6


def test_a_spot_book_ticker_has_the_receive_time(tmp_path: Path) -> None:
    payload = other("btcusdt@bookTicker", u=1, s="BTCUSDT", b="1", B="1", a="2", A="1")
    found = imported(tmp_path, capture(tmp_path, payload, name="spot.gz"))
    assert found.ticks["ts_event"].tolist() == found.ticks["ts_recv"].tolist() == [NOW]
    assert found.symbols() == ["BTCUSDT.BINANCE"]


def test_everything_else_is_kept_as_the_line_it_was_in_its_place(tmp_path: Path) -> None:
    payloads = [
        DEPTH,
        ticker(1),
        other("btcusdt@markPrice@1s", e="markPriceUpdate", s="BTCUSDT", p="1"),
        '{"lastUpdateId": 7, "bids": [], "asks": []}',
        ticker(2),
        '{"result": null, "id": 1}',
    ]
    found = imported(tmp_path, capture(tmp_path, *payloads))
    kept = [f"{NOW + i} {payloads[i]}".encode() for i in (0, 2, 3, 5)]
    assert [payload for _, payload in found.raws] == kept
    assert [ts for ts, _ in found.raws] == [NOW, NOW + 2, NOW + 3, NOW + 5]
    assert found.schemas == [
        Schema.INSTRUMENTS,
        Schema.RAW,
        Schema.TICK,
        Schema.RAW,
        Schema.RAW,
        Schema.TICK,
        Schema.RAW,
    ]
    assert found.report.first_ns == NOW


def test_odd_trades_are_flagged_and_a_price_of_zero_is_refused(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        capture(
            tmp_path,
            trade(1, X="INSURANCE_FUND"),
            trade(2, size="0"),
            trade(3, price="0"),
            trade(4),
        ),
    )
    odd = TickFlag.ODD_CONDITION
    assert found.ticks["flags"].tolist() == [odd, odd, 0]
    assert dict(found.report.refused) == {"zero_price": 1}
    assert found.report.examples["zero_price"] == ["usdm.gz: row 3"]


def test_repeated_ids_of_the_venue_are_flagged_and_kept(tmp_path: Path) -> None:
    payloads = [trade(5), trade(5), trade(4), trade(6), ticker(5), ticker(5), ticker(6)]
    found = imported(tmp_path, capture(tmp_path, *payloads))
    repeated = (found.ticks["flags"] & int(TickFlag.DUPLICATE_ID)) != 0
    assert repeated.tolist() == [False, True, True, False, False, True, False]


def test_event_time_stepping_back_is_flagged(tmp_path: Path) -> None:
    found = imported(tmp_path, capture(tmp_path, trade(1), trade(2, T=MS - 5), trade(3)))
    assert found.ticks["flags"].tolist() == [0, TickFlag.TIME_BACK, 0]


def test_of_trades_and_aggregated_trades_the_first_to_come_are_used(tmp_path: Path) -> None:
    aggregated = other(
        "btcusdt@aggTrade", e="aggTrade", E=MS, T=MS, s="BTCUSDT", a=9, p="1", q="1", m=True
    )
    found = imported(tmp_path, capture(tmp_path, aggregated, trade(1), aggregated))
    assert (found.report.ticks, found.report.raw) == (2, 1)
    assert b'"trade"' in found.raws[0][1]


def test_lines_that_are_no_frames_are_refused_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "binance_futures.txt"
    lines = [
        "wss://fstream.binance.com/stream?streams=btcusdt@trade <-> 1723161254.1",
        f"1723161255.06217: {trade()}",
        "",
        "hello",
        "1723161255.07: {not json",
        f"1723161255.08: {other('btcusdt@trade', e='trade', s='BTCUSDT', p='1')}",
        f"1723161255.09: {trade(2, s=5)}",
        f"1723161255.09: {trade(2, p='dear')}",
        f"1723161255.09: {trade(2, p='nan')}",
    ]
    path.write_text("\n".join(lines))
    found = imported(tmp_path, path)
    assert dict(found.report.refused) == {
        "not_a_market_frame": 1,
        "blank_line": 1,
        "not_a_capture_line": 1,
        "bad_json": 1,
        "bad_fields": 3,
        "nan": 1,
    }
    assert found.report.ticks == 1


def test_seconds_and_a_fraction_are_a_clock_too(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text(f"1723161255.0633569: {trade()}\n")
    assert imported(tmp_path, path).ticks["ts_recv"].tolist() == [1_723_161_255_063_356_900]


def test_the_first_line_fixes_the_unit_of_the_clock(tmp_path: Path) -> None:
    path = tmp_path / "usdm.txt"
    micros = NOW // 1000
    path.write_text(f"{micros} {trade(1)}\n{NOW} {trade(2)}\n{micros + 1} {trade(3)}\n")
    found = imported(tmp_path, path)
    assert found.ticks["ts_recv"].tolist() == [micros * 1000, micros * 1000 + 1000]
    assert dict(found.report.refused) == {"bad_local_time": 1}


def test_a_clock_stepping_back_is_held_at_the_line_before(tmp_path: Path) -> None:
    path = tmp_path / "usdm.txt"
    path.write_text(f"{NOW} {trade(1)}\n{NOW - 9} {trade(2)}\n{NOW + 9} {trade(3)}\n")
    assert imported(tmp_path, path).ticks["ts_recv"].tolist() == [NOW, NOW, NOW + 9]


def test_several_captures_merge_by_the_recorders_clock(tmp_path: Path) -> None:
    first = capture(tmp_path, ticker(1), ticker(2), ticker(3), name="usdm_a.gz")
    spot = other("btcusdt@bookTicker", u=1, s="BTCUSDT", b="1", B="1", a="2", A="1")
    second = capture(tmp_path, spot, name="spot_b.gz", start=NOW + 1)
    found = imported(tmp_path, first, second)
    assert found.symbols() == [
        "BTCUSDT.BINANCE_USDM",
        "BTCUSDT.BINANCE_USDM",
        "BTCUSDT.BINANCE",
        "BTCUSDT.BINANCE_USDM",
    ]


def test_the_market_is_told_by_address_then_fields_then_name() -> None:
    usdm = f"{NOW} {ticker()}".encode()
    spot = f"{NOW} ".encode() + trade(M=True).replace('"X"', '"Y"').encode()
    coinm = f"{NOW} {ticker(ps='BTCUSD')}".encode()
    host = b"wss://dstream.binance.com/stream <-> 1.5"
    assert guess_venue([host, usdm], "spot") is Venue.COINM
    assert guess_venue([b"junk", usdm], "spot.gz") is Venue.USDM
    assert guess_venue([spot], "x.gz") is Venue.SPOT
    assert guess_venue([spot], "BINANCE_US.ws.gz") is Venue.US
    assert guess_venue([coinm], "x.gz") is Venue.COINM
    assert guess_venue([b"junk"], "usdm_btc.gz") is Venue.USDM
    assert guess_venue([b"junk"], "btc.gz") is None


def test_a_market_that_cannot_be_told_must_be_said(tmp_path: Path) -> None:
    path = capture(tmp_path, trade().replace('"X"', '"Y"'), name="btc.gz")
    with pytest.raises(InputFileError, match="give --venue"):
        imported(tmp_path, path)
    assert imported(tmp_path, path, venue="BINANCE").symbols() == ["BTCUSDT.BINANCE"]


def test_another_exchanges_capture_is_of_another_kind(tmp_path: Path) -> None:
    path = capture(tmp_path, '{"type": "ticker"}', '{"type": "match"}', name="spot.gz")
    with pytest.raises(InputFileError, match="is it of another kind"):
        imported(tmp_path, path)
    assert not (tmp_path / "out.hql").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["stream", "data", "e", "s", "t", "a", "p", "q", "T", "E", "m", "b", "u"]),
        inner | st.sampled_from(["trade", "aggTrade", "bookTicker", "x@trade"]),
        max_size=8,
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_no_payload_raises(payload: object) -> None:
    parse_payload(json.dumps(payload).encode())


@given(st.binary(max_size=60) | st.from_regex(rb"\d{0,20}[ .:]{0,2}\d{0,10}: ?.*"))
def test_no_line_raises(line: bytes) -> None:
    found = LineClock().split(line)
    assert isinstance(found, (Frame, LineFault))
    if isinstance(found, Frame):
        assert 0 < found.ts_recv < 2**63
        parse_payload(found.payload)
    guess_venue([line], "x")


REAL = {
    "usdm_btcusdt_20240808.gz": (93_954, 21_313, 66_089, 6_552),
    "spot_btcusdt_20240808.gz": (41_249, 9_757, 28_040, 3_452),
    "usdm_btcusdt_20230404.dat.gz": (13_384, 2_197, 6_765, 4_422),
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_a_real_capture_equals_a_plain_loop(tmp_path: Path, name: str) -> None:
    path = data_file(f"binance_raw_ws/{name}")
    found = imported(tmp_path, path)
    trades, quotes, raws = [], [], []
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        frame = json.loads(line.partition(" ")[2])
        kind = frame.get("stream", "").partition("@")[2]
        data = frame.get("data", frame)
        if kind == "trade":
            trades.append((data["T"] * 10**6, float(data["p"]), -1 if data["m"] else 1))
        elif kind == "bookTicker":
            quotes.append((float(data["b"]), float(data["a"]), float(data["B"])))
        else:
            raws.append(line.encode())
    kinds = found.ticks["kind"]
    seen = found.ticks[kinds == TickKind.TRADE][["ts_event", "price", "side"]].tolist()
    assert seen == trades
    books = found.ticks[kinds == TickKind.QUOTE][["bid", "ask", "bid_size"]].tolist()
    assert books == quotes
    assert [payload for _, payload in found.raws] == raws
    assert (found.report.rows, len(trades), len(quotes), len(raws)) == REAL[name]
    assert (np.diff(found.ticks["ts_recv"]) >= 0).all()


@pytest.mark.data
def test_captures_of_another_recorder_import_too(tmp_path: Path) -> None:
    kept = Counter[str]()
    for name in ("BINANCE", "BINANCE_DELIVERY", "BINANCE_FUTURES", "BINANCE_US"):
        path = data_file(f"exchange_raw_ws/{name}.ws.1.0.txt.gz")
        found = run_import("binance-raw", [path], tmp_path / f"{name}.hql")
        kept[name] = found.report.ticks
        assert found.report.refused["not_a_market_frame"] == 1
    assert kept == {
        "BINANCE": 86,
        "BINANCE_DELIVERY": 2291,
        "BINANCE_FUTURES": 704,
        "BINANCE_US": 139,
    }
