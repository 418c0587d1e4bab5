"""The training matrix is what the live pipeline hands to a model, to the last bit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pipeline_cases import START_NS, market_instruments, market_ticks

from engine.clock import TickClock
from engine.composition import Blueprint, build_pipeline, resolve
from engine.config import Config
from engine.core.errors import ConfigError, InputFileError
from engine.core.models import Failure
from engine.model_desk import WindowGatherer
from feeds.log_reader import LogReader
from feeds.log_writer import LogWriter
from latency.histogram import StageHistograms
from replay.bursts import LogBursts
from replay.digest import Collector
from replay.export.feature_spec import parse_horizon, window_of, window_of_texts
from replay.export.features import FeatureTable, LabelOptions, feature_table
from replay.export.files import open_table
from runtime.asking import Answer, Ask
from strategies.feature_matrix import stack_windows
from strategies.registry import load_registry

BUNDLE = Path(__file__).resolve().parents[2] / "models" / "demo-tcn"
REGISTRY = load_registry()
COUNT = 6_000
TREE: dict[str, Any] = {
    "bars": [{"name": "1s", "interval": "1s"}],
    "models": [{"name": "tcn", "bundle": str(BUNDLE), "on": "1s"}],
    "strategies": [{"name": "alone", "model": "tcn"}],
}
BARS = tuple(bar.spec() for bar in Config.model_validate(TREE).bars)


class Windows:
    """Stands where models are asked, and keeps the windows they would be given."""

    def __init__(self, gather: WindowGatherer, width: int, features: int) -> None:
        self.gather = gather
        self.staging = np.zeros((1, width, features), np.float32)
        self.kept: list[np.ndarray[Any, Any]] = []

    def ask(self, asks: Sequence[Ask]) -> list[Answer | None]:
        for ask in asks:
            assert self.gather(ask.model, [ask.context], self.staging)[0]
            self.kept.append(self.staging[0].copy())
        return [Answer(ask.context, None, Failure.UNAVAILABLE) for ask in asks]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "market.hql"
    ticks = market_ticks(COUNT)
    with LogWriter(path, market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks[:4_000])
        writer.next_seq += 20
        writer.write_ticks(ticks[4_020:])
    return path


def table_of(log: Path, labels: LabelOptions | None = None) -> FeatureTable:
    model = window_of(Config.model_validate(TREE), REGISTRY, "tcn")
    return feature_table(log, model, BARS, REGISTRY, labels)


def test_windows_of_the_matrix_are_those_that_the_live_pipeline_asks_about(log: Path) -> None:
    made = table_of(log)
    width = window_of(Config.model_validate(TREE), REGISTRY, "tcn").window
    asked: list[Windows] = []

    def infer(blueprint: Blueprint, gather: WindowGatherer) -> Any:
        asked.append(Windows(gather, width, len(made.model.features)))
        return asked[0]

    with LogReader(log) as reader:
        pipeline = build_pipeline(
            resolve(Config.model_validate(TREE)), capacity=4, sink=Collector(), clock=TickClock(),
            histograms=StageHistograms(), infer=infer,
        )  # fmt: skip
        for burst in LogBursts(reader, 4096, pipeline.define):
            pipeline.run_ticks(burst.records, burst.origins, 0, burst.size)
    _, windows = stack_windows(made.matrix, width)
    live = np.stack(asked[0].kept)
    assert len(live) > 50
    assert windows.tobytes() == live.tobytes()


def test_a_file_holds_the_rows_their_labels_and_what_they_are(log: Path, tmp_path: Path) -> None:
    made = table_of(log, LabelOptions(parse_horizon("5s"), band_bps=1.0))
    assert made.labels is not None
    with open_table(tmp_path / "f.parquet", made.table) as file:
        made.write(file)
    read = pq.read_table(tmp_path / "f.parquet")
    names = [one.name for one in made.model.features]
    for column, name in enumerate(names):
        np.testing.assert_array_equal(read[name].to_numpy(), made.matrix.rows[:, column])
    np.testing.assert_array_equal(read["move_bps"].to_numpy(), made.labels.move_bps)
    unknown = np.isnan(made.labels.move_bps)
    assert read["label"].null_count == read["label_ts"].null_count == unknown.sum() > 0
    assert made.facts["horizon"] == "5000000000 ns"
    assert made.facts["label_price"] == "mid"
    assert b"zscore(length=10)" in read.schema.field(names[0]).metadata[b"doc"]


def test_only_usable_rows_that_end_a_window_are_written_on_request(
    log: Path, tmp_path: Path
) -> None:
    made = table_of(log, LabelOptions(parse_horizon("5s")))
    assert made.labels is not None
    with open_table(tmp_path / "f.npy", made.table) as file:
        made.write(file, usable=True, window=4)
    rows = np.load(tmp_path / "f.npy")
    keep = made.labels.usable() & (made.matrix.run >= 4)
    assert rows["ts_event"].tolist() == made.matrix.ts_event[keep].tolist()
    assert 0 < len(rows) < len(made.matrix.rows)
    assert not rows["crosses_break"].any()
    assert made.labels.crosses_break.any()


def test_features_are_written_as_text(log: Path) -> None:
    texts = ["rsi(length=3)", "slope = macd(fast=2, slow=4, signal=2).histogram"]
    model = window_of_texts(texts, "1s", REGISTRY)
    assert [one.name for one in model.features] == ["rsi(length=3)", "slope"]
    made = feature_table(log, model, BARS, REGISTRY)
    assert made.labels is None
    assert [one.name for one in made.table.columns][-2:] == ["rsi(length=3)", "slope"]
    assert (made.matrix.ts_event >= START_NS).all()


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["rsi(length=3"], "write"),
        (["rso"], "did you mean 'rsi'"),
        (["rsi(len=3)"], "it takes, each at most once"),
        (["macd.nothing"], "outputs are: line, signal, histogram"),
        (["rsi", "rsi"], "each name once"),
        (["mid=rsi"], "the table has a column of this one"),
    ],
)
def test_a_feature_that_is_none_is_told(log: Path, texts: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        feature_table(log, window_of_texts(texts, "1s", REGISTRY), BARS, REGISTRY)


def test_an_unknown_model_or_clock_is_told(log: Path) -> None:
    with pytest.raises(ConfigError, match="models are: tcn"):
        window_of(Config.model_validate(TREE), REGISTRY, "tcm")
    with pytest.raises(ConfigError, match="clocks are: tick, trade, quote, 1s"):
        feature_table(log, window_of_texts(["rsi"], "1h", REGISTRY), BARS, REGISTRY)


def test_a_log_without_a_row_is_told(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "short.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(market_ticks(20))
    with pytest.raises(InputFileError, match="no sample had every feature ready"):
        table_of(tmp_path / "short.hql")
    with LogWriter(tmp_path / "empty.hql", market_instruments(), epoch=5):
        pass
    with pytest.raises(InputFileError, match="it holds no tick and no bar"):
        table_of(tmp_path / "empty.hql")


def test_trades_without_a_book_are_labelled_by_their_close(tmp_path: Path) -> None:
    ticks = market_ticks(1_000)
    ticks = ticks[ticks["kind"] == 1].copy()
    with LogWriter(tmp_path / "trades.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks)
    model = window_of_texts(["roc(length=1)"], "trade", REGISTRY)
    options = LabelOptions(parse_horizon("1row"), price="mid")
    with pytest.raises(ConfigError, match="have no mid; use --label-price close"):
        feature_table(tmp_path / "trades.hql", model, BARS, REGISTRY, options)
    auto = LabelOptions(parse_horizon("1row"))
    made = feature_table(tmp_path / "trades.hql", model, BARS, REGISTRY, auto)
    assert made.facts["label_price"] == "close"
    own = made.matrix.instrument == 0
    assert made.labels is not None
    moves = made.labels.move_bps[own][:-1]
    following = 100.0 * made.matrix.rows[own][1:, 0].astype(float)
    np.testing.assert_allclose(moves, following, rtol=1e-5, atol=1e-6)
