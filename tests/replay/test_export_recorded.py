"""Recorded markets: tables have every record; built-in strategies do not know the future."""

from pathlib import Path

import numpy as np
import pytest
from datafiles import data_file

from engine.config import CONFIGS, load_config
from feeds.importers.options import ImportOptions
from feeds.importers.run import ImportKind, import_files
from feeds.log_reader import LogReader
from replay.analysis.lookahead import analyze_lookahead
from replay.analysis.lookahead_report import LookaheadOptions
from replay.export.feature_spec import parse_horizon, window_of_texts
from replay.export.features import LabelOptions, feature_table
from replay.export.records import recorded_bar_batches, tick_batches
from strategies.registry import load_registry

pytestmark = [pytest.mark.data, pytest.mark.slow]
INDEX_FUTURE = "cn_future_tick/CFFEX.IF.HOT_tick_20210104.decoded.csv.gz"
SHARES = "cn_a_share_daily/daily_raw_511_symbols.parquet"


@pytest.fixture(scope="module")
def future_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "if.hql"
    import_files(ImportKind("cffex-tick"), (data_file(INDEX_FUTURE),), path, ImportOptions())
    return path


def test_built_in_strategies_do_not_know_the_future_of_a_recorded_day(future_log: Path) -> None:
    config = load_config([CONFIGS / "replay.toml"], {})
    report = analyze_lookahead([future_log], config, LookaheadOptions(cuts=6))
    assert report.findings == []
    assert sum(report.proposals.values()) > 50
    assert report.values_compared > 50


def test_a_recorded_days_ticks_are_all_in_the_table(future_log: Path) -> None:
    with LogReader(future_log) as reader:
        total = sum(reader.summary()["ticks"].values())
        rows = np.concatenate(list(tick_batches([reader])))
    assert len(rows) == total > 27_000
    assert (np.diff(rows["seq"].astype(np.int64)) == 1).all()


def test_daily_bars_are_all_in_the_table_and_labelled_by_the_next_days(tmp_path: Path) -> None:
    path = tmp_path / "shares.hql"
    report = import_files(ImportKind("tushare-daily"), (data_file(SHARES),), path, ImportOptions())
    with LogReader(path) as reader:
        rows = np.concatenate(list(recorded_bar_batches(reader)))
    assert len(rows) == report.bars > 100_000
    registry = load_registry()
    model = window_of_texts(["roc(length=1)"], "tick", registry)
    labels = LabelOptions(parse_horizon("1row"))
    made = feature_table(path, model, (), registry, labels)
    assert made.labels is not None
    for instrument in (0, 17, 300):
        own = made.matrix.instrument == instrument
        moves = made.labels.move_bps[own][:-1]
        following = 100.0 * made.matrix.rows[own][1:, 0].astype(np.float64)
        np.testing.assert_allclose(moves, following, rtol=1e-4, atol=1e-3)
        assert np.isnan(made.labels.move_bps[own][-1])
        closes = rows["close"][rows["instrument"] == instrument]
        assert made.matrix.price[own].tolist() == closes[1:].tolist()
    assert made.labels.crosses_session[~np.isnan(made.labels.move_bps)].all()
    assert not made.labels.usable().any()
    assert made.labels.usable(across_days=True).sum() > 100_000
