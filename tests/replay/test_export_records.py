"""Exports of logs: every record once, with its numbers, as the decoder gives it."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pipeline_cases import RULES, START_NS, market_instruments, market_ticks

from engine.composition import resolve
from engine.config import Config
from engine.core.errors import ConfigError, InputFileError
from engine.core.records import (
    ALL_INSTRUMENTS,
    BAR,
    DEPTH10,
    Schema,
    TickKind,
    Ticks,
    empty_bars,
)
from engine.core.signals import Signal, as_fields
from engine.journal_store import JournalStore
from feeds.codec import encode_frame, encode_instruments
from feeds.log_reader import LogReader
from feeds.log_writer import LogWriter
from replay.export.bars import BarBuilder
from replay.export.files import open_table
from replay.export.records import (
    RECORDED_BARS,
    TICKS,
    depth_batches,
    depth_levels,
    depth_table,
    recorded_bar_batches,
    tick_batches,
)
from replay.export.signals import SIGNALS, is_journal, write_journal, write_replay
from replay.export.table import Batch
from replay.player import Options, play
from strategies.batch import run_indicators
from strategies.registry import load_registry
from strategies.spec import Use

REGISTRY = load_registry()
SPECS = [bar.spec() for bar in Config.model_validate(RULES).bars]
COUNT = 6_000


def write_log(path: Path, ticks: Ticks) -> Path:
    with LogWriter(path, market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks)
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("logs") / "market.hql", market_ticks(COUNT))


def ticks_of(*paths: Path) -> Batch:
    readers = [LogReader(path) for path in paths]
    return np.concatenate(list(tick_batches(readers)))


def test_every_tick_of_a_log_is_a_row_with_its_number(log: Path) -> None:
    rows, ticks = ticks_of(log), market_ticks(COUNT)
    assert rows["seq"].tolist() == list(range(1, COUNT + 1))
    assert set(rows["epoch"].tolist()) == {5}
    for name in ("ts_event", "ts_recv", "price", "size", "side", "bid", "ask", "instrument"):
        np.testing.assert_array_equal(rows[name], ticks[name])
    kinds = [TickKind(kind).name.encode() for kind in ticks["kind"].tolist()]
    assert rows["kind"].tolist() == kinds
    symbols = [
        b"" if at == ALL_INSTRUMENTS else b"S%d.X" % at for at in ticks["instrument"].tolist()
    ]
    assert rows["symbol"].tolist() == symbols


def test_a_hole_in_a_log_is_a_row_that_counts_what_is_missing(tmp_path: Path) -> None:
    ticks = market_ticks(2_000)
    with LogWriter(tmp_path / "holed.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks[:1_000])
        writer.next_seq += 17
        writer.write_ticks(ticks[1_017:])
    rows = ticks_of(tmp_path / "holed.hql")
    (gap,) = rows[rows["kind"] == b"GAP"]
    assert (int(gap["seq"]), float(gap["size"])) == (1_001, 17.0)
    assert len(rows) == 2_000 - 17 + 1


def test_several_logs_are_one_table_in_time_order(tmp_path: Path) -> None:
    ticks = market_ticks(3_000)
    parts = [
        write_log(tmp_path / f"{i}.hql", ticks[ticks["instrument"] % 2 == i]) for i in range(2)
    ]
    rows = ticks_of(*parts)
    np.testing.assert_array_equal(rows["ts_recv"], ticks["ts_recv"])
    np.testing.assert_array_equal(rows["price"], ticks["price"])


def test_recorded_bars_keep_every_field(tmp_path: Path) -> None:
    bars = empty_bars(700)
    rng = np.random.default_rng(2)
    bars["close"] = bars["open"] = bars["high"] = bars["low"] = 100 + rng.normal(0, 1, 700)
    bars["ts_open"] = START_NS + np.arange(700) * 60 * 10**9
    bars["ts_event"] = bars["ts_recv"] = bars["ts_open"] + 60 * 10**9
    bars["volume"], bars["count"], bars["instrument"] = 5.0, 1, np.arange(700) % 4
    bars["pre_close"] = 99.0
    with LogWriter(tmp_path / "bars.hql", market_instruments(), epoch=5) as writer:
        writer.write_bars(bars)
    with LogReader(tmp_path / "bars.hql") as reader:
        rows = np.concatenate(list(recorded_bar_batches(reader)))
    for name in set(BAR.names or ()) & set(rows.dtype.names or ()):
        np.testing.assert_array_equal(rows[name], bars[name])
    assert rows["symbol"][:2].tolist() == [b"S0.X", b"S1.X"]
    assert rows.dtype == RECORDED_BARS.dtype


def test_built_bars_are_the_pipelines_own_with_indicators_at_their_close(log: Path) -> None:
    builder = BarBuilder("1s", SPECS, [Use("rsi", {"length": 3}), Use("macd")], REGISTRY)
    with LogReader(log) as reader:
        rows = np.concatenate(list(builder.batches([reader])))
    assert len(rows) == play([log], resolve(Config.model_validate(RULES))).bars_by_spec["1s"]
    own = rows[rows["symbol"] == b"S2.X"]
    bars = empty_bars(len(own))
    for name in ("open", "high", "low", "close", "volume"):
        bars[name] = own[name]
    expected = run_indicators(bars, [Use("rsi", {"length": 3}), Use("macd")], REGISTRY)
    for name, values in expected.items():
        np.testing.assert_array_equal(own[name], values)
    assert np.isfinite(own["macd.histogram"]).sum() > 10


def test_an_unknown_indicator_of_built_bars_is_told() -> None:
    with pytest.raises(ConfigError, match="indicators are"):
        BarBuilder("1s", SPECS, [Use("nothing")], REGISTRY)


def depth_log(path: Path, count: int = 5) -> Any:
    rows = np.zeros(count, DEPTH10)
    rows["bid"], rows["ask"] = 99.0 - np.arange(10), 101.0 + np.arange(10)
    rows["bid"][:, 8:] = np.nan
    rows["bid_size"] = rows["ask_size"] = 2.0
    rows["levels"], rows["update_id"] = 10, 100 + np.arange(count)
    rows["ts_event"] = rows["ts_recv"] = START_NS + np.arange(count)
    rows["instrument"] = 1
    frames = [
        *encode_instruments(market_instruments(), gateway=1, epoch=5, next_seq=1, ts_send=1),
        encode_frame(Schema.DEPTH10, rows, gateway=1, epoch=5, first_seq=1, ts_send=1),
    ]
    path.write_bytes(b"".join(bytes(frame) for frame in frames))
    return rows


def test_depth_is_written_with_its_levels(tmp_path: Path) -> None:
    expected = depth_log(tmp_path / "depth.hql")
    with LogReader(tmp_path / "depth.hql") as reader:
        assert depth_levels(reader) == 10
        rows = np.concatenate(list(depth_batches(reader, 10)))
    for name in ("bid", "ask", "bid_size", "update_id", "levels", "ts_event"):
        np.testing.assert_array_equal(rows[name], expected[name])
    assert rows["seq"].tolist() == [1, 2, 3, 4, 5]
    assert set(rows["symbol"].tolist()) == {b"S1.X"}
    with open_table(tmp_path / "d.parquet", depth_table(10)) as file:
        file.write(rows)
    read = pq.read_table(tmp_path / "d.parquet")
    assert read["ask"][0].as_py() == expected["ask"][0].tolist()


def test_damaged_depth_is_left_out_and_counted(tmp_path: Path) -> None:
    for name in ("first", "second"):
        depth_log(tmp_path / name)
    data = bytearray((tmp_path / "first").read_bytes())
    data[-8] ^= 1
    (tmp_path / "depth.hql").write_bytes(data + (tmp_path / "second").read_bytes())
    with LogReader(tmp_path / "depth.hql") as reader:
        batches = depth_batches(reader, 10)
        assert sum(map(len, batches)) == 5
        assert batches.faults() == {"frame_bad_crc": 1}


def test_a_log_without_depth_is_told(log: Path) -> None:
    with LogReader(log) as reader, pytest.raises(InputFileError, match="it holds no depth"):
        depth_levels(reader)


def signals_of(log: Path) -> list[Signal]:
    kept: list[Signal] = []
    play([log], resolve(Config.model_validate(RULES)), Options(keep=kept.append))
    return kept


def test_signals_of_a_replay_are_written_as_they_are(log: Path, tmp_path: Path) -> None:
    expected = signals_of(log)
    with open_table(tmp_path / "s.parquet", SIGNALS) as file:
        write_replay([log], resolve(Config.model_validate(RULES)), file)
    read = pq.read_table(tmp_path / "s.parquet")
    assert read["id"].to_pylist() == [signal.id for signal in expected]
    assert read["price"].to_pylist() == [signal.price for signal in expected]
    assert pc.cast(read["ts_emit"], "int64").to_pylist() == [s.ts_emit for s in expected]
    assert read["gates"][0].as_py() == " ".join(expected[0].gates)
    assert set(read.column_names) == set(as_fields(expected[0]))
    assert read["queue_ns"].null_count == len(expected) > 20


def test_signals_of_a_journal_are_written_and_damaged_ones_counted(
    log: Path, tmp_path: Path
) -> None:
    expected = signals_of(log)[:50]
    scored = msgspec.structs.replace(expected[7], model="tcn@1-0123", queue_ns=5, service_ns=9)
    expected[7] = scored

    async def fill() -> None:
        store = await JournalStore.open(tmp_path / "journal.db", 1.0)
        await store.commit(expected)
        await store.writer.execute("UPDATE signals SET crc = crc + 1 WHERE seq = ?", [30])
        await store.writer.commit()
        await store.close()

    asyncio.run(fill())
    assert is_journal(tmp_path / "journal.db")
    assert not is_journal(log)
    with open_table(tmp_path / "s.npy", SIGNALS) as file:
        assert write_journal(tmp_path / "journal.db", file) == 1
    rows = np.load(tmp_path / "s.npy")
    kept = [one for one in expected if one.seq != 30]
    assert rows["id"].tolist() == [one.id.encode() for one in kept]
    assert (rows["model"][7], rows["queue_ns"][7]) == (b"tcn@1-0123", 5)
    assert rows["queue_ns"][8] == -1


def test_ticks_in_a_table_file_name_their_units(log: Path, tmp_path: Path) -> None:
    with LogReader(log) as reader, open_table(tmp_path / "t.parquet", TICKS) as file:
        for batch in tick_batches([reader]):
            file.write(batch)
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert schema.field("ts_event").metadata[b"unit"] == b"ns since 1970-01-01 UTC"
    assert pq.read_metadata(tmp_path / "t.parquet").num_rows == COUNT
