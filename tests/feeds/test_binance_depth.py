import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datafiles import data_file
from hypothesis import given
from hypothesis import strategies as st
from importing import Imported, run_import
from reference.book_twin import BookTwin, Level

from engine.core.records import Schema, TickFlag
from feeds.importers.binance_depth import DepthBooks, read_diff, read_snapshot
from feeds.importers.binance_frames import DepthFrame, parse_payload

NOW = 1_723_161_255_088_169_167
MS = NOW // 10**6
Pairs = list[tuple[str, str]]


def envelope(stream: str, **data: Any) -> str:
    return json.dumps({"stream": stream, "data": data})


def diff(first: int, final: int, bids: Pairs, asks: Pairs, **more: Any) -> str:
    return envelope(
        "abc@depth@100ms", e="depthUpdate", E=MS + final, s="ABC", U=first, u=final, b=bids, a=asks,
        **more,
    )  # fmt: skip


def snapshot(last: int, bids: Pairs, asks: Pairs, **more: Any) -> str:
    return json.dumps({"lastUpdateId": last, "bids": bids, "asks": asks} | more)


def ticker(update: int, bid: tuple[str, str], ask: tuple[str, str]) -> str:
    sides = dict(zip("bBaA", bid + ask, strict=True))
    return envelope("abc@bookTicker", u=update, s="ABC", **sides)


def imported(tmp_path: Path, *payloads: str, depth: int = 5, name: str = "spot.gz") -> Imported:
    path = tmp_path / name
    lines = [f"{NOW + at} {payload}\n" for at, payload in enumerate(payloads)]
    path.write_bytes(gzip.compress("".join(lines).encode()))
    return run_import("binance-raw", [path], tmp_path / "out.hql", depth=depth)


def test_a_depth_record_stands_behind_each_line_that_changes_the_best_levels(
    tmp_path: Path,
) -> None:
    found = imported(
        tmp_path,
        diff(1, 3, [("9", "1")], []),
        diff(4, 6, [("9.5", "2")], []),
        snapshot(3, [("9", "1"), ("8", "1")], [("10", "3")]),
        ticker(6, ("9.5", "2"), ("10", "3")),
        diff(7, 8, [("1", "0")], []),
        diff(9, 9, [("9.5", "0")], [("9.9", "4")]),
    )
    assert found.schemas == [
        Schema.INSTRUMENTS, Schema.RAW, Schema.RAW, Schema.RAW, Schema.DEPTH5, Schema.TICK,
        Schema.RAW, Schema.RAW, Schema.DEPTH5,
    ]  # fmt: skip
    first, second = found.depths
    assert first["bid"][:2].tolist() == [9.5, 9.0]
    assert first["bid_size"].tolist() == [2.0, 1.0, 1.0, 0.0, 0.0]
    assert np.isnan(first["bid"][3:]).all()
    assert (first["ts_event"], first["ts_recv"]) == ((MS + 6) * 10**6, NOW + 2)
    assert [row["update_id"] for row in found.depths] == [6, 9]
    assert [row["levels"] for row in found.depths] == [3, 2]
    assert second["ask"][:2].tolist() == [9.9, 10.0]
    assert found.report.books == {
        "diffs": 4, "applied": 3, "stale": 1, "snapshots": 1, "compared": 1
    }  # fmt: skip


def test_a_book_ticker_that_disagrees_costs_the_book(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        diff(1, 1, [], []),
        snapshot(1, [("9", "1")], [("10", "1")]),
        ticker(1, ("9", "1"), ("10", "2")),
        diff(2, 2, [("9.5", "1")], []),
    )
    assert [row["levels"] for row in found.depths] == [1, 0]
    assert (found.report.books["different"], found.report.books["refuted"]) == (1, 1)


def test_without_the_option_nothing_is_made_of_depth_lines(tmp_path: Path) -> None:
    found = imported(tmp_path, diff(1, 1, [], []), ticker(1, ("1", "1"), ("2", "1")), depth=0)
    assert found.schemas == [Schema.INSTRUMENTS, Schema.RAW, Schema.TICK]
    assert not found.report.books


def test_ten_levels_make_records_of_ten(tmp_path: Path) -> None:
    bids = [(str(100 - level), "1") for level in range(12)]
    found = imported(tmp_path, diff(1, 1, [], []), snapshot(1, bids, []), depth=10)
    (row,) = found.depths
    assert row["bid"].tolist() == [100.0 - level for level in range(10)]
    assert (row["levels"], row["flags"]) == (10, TickFlag.ONE_SIDED)


def test_a_missing_diff_is_told_by_a_record_without_levels_and_mended_by_the_next_snapshot(
    tmp_path: Path,
) -> None:
    bids, asks = [("9", "1")], [("10", "1")]
    found = imported(
        tmp_path,
        diff(1, 2, [], []),
        snapshot(2, bids, asks),
        diff(5, 6, [("9.1", "1")], []),
        diff(7, 8, [("9.2", "1")], []),
        snapshot(6, [("9.1", "1")], asks),
    )
    assert [row["levels"] for row in found.depths] == [1, 0, 2]
    lost = found.depths[1]
    assert np.isnan(lost["bid"]).all()
    assert np.isnan(lost["ask"]).all()
    assert lost["bid_size"].tolist() == [0.0] * 5
    assert (lost["update_id"], lost["ts_recv"]) == (2, NOW + 2)
    assert found.depths[2]["bid"][:2].tolist() == [9.2, 9.1]
    assert found.report.books["breaks"] == 1
    assert found.report.books["snapshots"] == 2


def test_futures_diffs_are_held_to_the_number_of_the_one_before(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        diff(10, 14, [("9", "1")], [], pu=8, T=MS),
        snapshot(12, [("8", "1")], [("10", "1")], T=MS, E=MS),
        diff(17, 19, [("9.1", "1")], [], pu=14, T=MS + 1),
        diff(25, 29, [("9.2", "1")], [], pu=22, T=MS),
        name="usdm.gz",
    )
    assert [row["update_id"] for row in found.depths] == [14, 19, 19]
    assert [row["levels"] for row in found.depths] == [2, 3, 0]
    assert found.depths[1]["ts_event"] == (MS + 1) * 10**6


def test_a_snapshot_cut_at_its_limit_makes_an_uncertain_top_where_it_ends(tmp_path: Path) -> None:
    bids = [(str(100 - level), "1") for level in range(5)]
    found = imported(
        tmp_path,
        diff(1, 1, [], []),
        snapshot(1, bids, [("200", "1")]),
        diff(2, 2, [("100", "0")], []),
    )
    assert [row["flags"] for row in found.depths] == [TickFlag.UNCERTAIN] * 2


def test_what_is_no_diff_is_counted_kept_and_costs_the_book(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        diff(1, 1, [], []),
        snapshot(1, [("9", "1")], [("10", "1")]),
        envelope("abc@depth20@100ms", lastUpdateId=5, bids=[], asks=[]),
        diff(2, 2, [("9", "-1")], []),
        diff(3, 3, [], []),
    )
    assert (found.report.raw, found.report.depth) == (5, 2)
    assert [row["levels"] for row in found.depths] == [1, 0]
    assert found.report.books["bad"] == 1
    assert found.report.books["partial_books"] == 1
    assert found.report.books["still_waiting"] == 1


def test_a_snapshot_without_a_symbol_is_not_guessed_among_several(tmp_path: Path) -> None:
    other = envelope("xyz@bookTicker", u=1, s="XYZ", b="1", B="1", a="2", A="1")
    asks = [("10", "1")]
    found = imported(tmp_path, diff(1, 1, [], []), other, snapshot(1, [("9", "1")], asks))
    assert found.report.depth == 0
    assert found.report.books["without_symbol"] == 1
    named = snapshot(1, [("9", "1")], asks, symbol="ABC")
    (tmp_path / "out.hql").unlink()
    assert imported(tmp_path, diff(1, 1, [], []), other, named).report.depth == 1


def test_a_book_goes_on_from_one_file_into_the_next(tmp_path: Path) -> None:
    paths = []
    payloads = (
        [diff(1, 1, [], []), snapshot(1, [("9", "1")], [("10", "1")])],
        [diff(2, 2, [("9.5", "1")], [])],
    )
    for number, part in enumerate(payloads):
        path = tmp_path / f"spot{number}.gz"
        lines = [f"{NOW + 10 * number + at} {line}\n" for at, line in enumerate(part)]
        path.write_bytes(gzip.compress("".join(lines).encode()))
        paths.append(path)
    found = run_import("binance-raw", paths, tmp_path / "out.hql", depth=5)
    assert [row["update_id"] for row in found.depths] == [1, 2]
    assert [row["instrument"] for row in found.depths] == [0, 0]


def test_ts_event_that_steps_back_is_flagged(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        diff(1, 1, [], []),
        snapshot(1, [("9", "1")], [("10", "1")], E=MS + 100),
        diff(2, 2, [("9.1", "1")], []),
    )
    assert [row["flags"] for row in found.depths] == [0, TickFlag.TIME_BACK]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)
FIELDS = ("e", "E", "T", "s", "U", "u", "pu", "b", "a", "lastUpdateId", "bids", "asks", "symbol")


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), json_values), max_size=6))
def test_no_payload_of_depth_raises(payloads: list[dict[str, Any]]) -> None:
    books = DepthBooks(5)
    books.on_frame(0, DepthFrame("", "ABC", {"lastUpdateId": 1, "bids": [], "asks": []}), NOW)
    for data in payloads:
        frame = parse_payload(json.dumps({"stream": "abc@depth", "data": data}).encode())
        given_frame = frame if isinstance(frame, DepthFrame) else DepthFrame("", "ABC", data)
        row = books.on_frame(0, given_frame, NOW)
        assert row is None or len(row) == 1
    assert books.totals()["snapshots"] >= 1


@pytest.mark.parametrize("field", ["U", "u", "b", "a"])
def test_a_diff_lacks_nothing(field: str) -> None:
    data: dict[str, Any] = {"U": 1, "u": 2, "b": [["1", "2"]], "a": [], "E": MS}
    assert read_diff(data, NOW).bids.tolist() == [[1.0, 2.0]]
    del data[field]
    with pytest.raises(KeyError):
        read_diff(data, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"lastUpdateId": "1"},
        {"lastUpdateId": True},
        {"lastUpdateId": 1 << 62},
        {"bids": [["nan", "1"]]},
        {"bids": [["0", "1"]]},
        {"bids": [["1", "-1"]]},
        {"bids": [["1", "inf"]]},
        {"bids": {}},
        {"E": MS + 2 * 86_400_000},
        {"E": -1},
    ],
)
def test_numbers_that_cannot_be_make_no_snapshot(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"lastUpdateId": 1, "bids": [["1", "1"]], "asks": [], "E": MS}
    read_snapshot(good, NOW)
    with pytest.raises((TypeError, ValueError)):
        read_snapshot(good | change, NOW)


CAPTURES = {
    ("usdm_btcusdt_20230404.dat.gz",): 310,
    ("spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz"): 1072,
    ("usdm_btcusdt_20240808.gz",): 629,
    ("usdm_ethusdt_20240808.gz",): 551,
}


def frames_of(names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for name in names:
        for line in gzip.decompress(data_file(f"binance_raw_ws/{name}").read_bytes()).splitlines():
            frame = json.loads(line.partition(b" ")[2])
            yield frame.get("data", frame)


def numbers(pairs: list[list[str]]) -> list[Level]:
    return [(float(price), float(size)) for price, size in pairs]


def plain_books(names: tuple[str, ...]) -> tuple[dict[int, tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The top by update id, and every bookTicker, by two dicts and no rule but the numbers."""
    diffs, tickers, tops = [], [], {}
    start: dict[str, Any] = {}
    for data in frames_of(names):
        if "lastUpdateId" in data:
            start = data
        elif data.get("e") == "depthUpdate":
            diffs.append(data)
        elif {"b", "B", "a", "A", "u"} <= data.keys():
            best = [float(data[name]) for name in ("b", "a", "B", "A")]
            tickers.append((data["u"], tuple(best)))
    twin = BookTwin()
    twin.reset(numbers(start["bids"]), numbers(start["asks"]))
    tops[start["lastUpdateId"]] = twin.best()
    for data in diffs:
        if data["u"] > start["lastUpdateId"]:
            twin.apply(numbers(data["b"]), numbers(data["a"]))
            tops[data["u"]] = twin.best()
    return tops, tickers


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("names", CAPTURES, ids=" ".join)
def test_rebuilt_books_equal_book_ticker_in_every_comparison(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    paths = [data_file(f"binance_raw_ws/{name}") for name in names]
    found = run_import("binance-raw", paths, tmp_path / "out.hql", depth=10)
    tops, tickers = plain_books(names)
    pairs = [(tops[update], best) for update, best in tickers if update in tops]
    assert len(pairs) == CAPTURES[names]
    assert all(top == best for top, best in pairs)
    books = found.report.books
    assert (books["compared"], books["different"], books["refuted"]) == (len(pairs), 0, 0)
    assert (books["snapshots"], books["breaks"], books["still_waiting"]) == (1, 0, 0)
    assert books["applied"] + books["stale"] == books["diffs"]
    for row in found.depths:
        top = tuple(float(row[name][0]) for name in ("bid", "ask", "bid_size", "ask_size"))
        assert top == tops[int(row["update_id"])]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["usdm_btcusdt_20230404.dat.gz", "spot_btcusdt_20240808.gz"])
def test_a_diff_taken_out_of_a_capture_is_found_and_a_later_snapshot_mends_the_book(
    tmp_path: Path, name: str
) -> None:
    lines = gzip.decompress(data_file(f"binance_raw_ws/{name}").read_bytes()).splitlines()
    diffs = [at for at, line in enumerate(lines) if b'"depthUpdate"' in line]
    out, again = diffs[1000], diffs[1500]
    resync = snapshot_of(lines[: again + 1])
    clock = lines[again].partition(b" ")[0]
    cut = [*lines[:out], *lines[out + 1 : again + 1], clock + b" " + resync, *lines[again + 1 :]]
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"\n".join(cut)))
    found = run_import("binance-raw", [path], tmp_path / "cut.hql", depth=10)
    whole = run_import(
        "binance-raw", [data_file(f"binance_raw_ws/{name}")], tmp_path / "all.hql", depth=10
    )
    books = found.report.books
    assert (books["breaks"], books["snapshots"], books["different"]) == (1, 2, 0)
    lost = [at for at, row in enumerate(found.depths) if row["levels"] == 0]
    assert len(lost) == 1
    mended = int(found.depths[lost[0] + 1]["update_id"])
    assert mended == json.loads(lines[again].partition(b" ")[2])["data"]["u"]
    after = {int(row["update_id"]): row for row in whole.depths}
    for row in found.depths[lost[0] + 2 :]:
        same = after[int(row["update_id"])]
        for field in ("bid", "ask", "bid_size", "ask_size"):
            assert np.array_equal(row[field], same[field], equal_nan=True)


def snapshot_of(lines: list[bytes]) -> bytes:
    """The whole book after some lines, as the venue's REST interface would give it."""
    frames = [json.loads(line.partition(b" ")[2]) for line in lines]
    payloads = [frame.get("data", frame) for frame in frames]
    start = next(data for data in payloads if "lastUpdateId" in data)
    twin, last = BookTwin(), start["lastUpdateId"]
    twin.reset(numbers(start["bids"]), numbers(start["asks"]))
    for data in payloads:
        if data.get("e") == "depthUpdate" and data["u"] > last:
            twin.apply(numbers(data["b"]), numbers(data["a"]))
            last = data["u"]
    bids, asks = twin.top(10**6)
    sides = {"bids": bids, "asks": asks}
    text = {side: [[str(p), str(s)] for p, s in found] for side, found in sides.items()}
    return json.dumps({"lastUpdateId": last} | text).encode()
