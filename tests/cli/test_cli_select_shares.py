"""``heqis select`` on recorded A-shares: the tests' fills are the chosen ones', the sums agree."""

from pathlib import Path

import orjson
import pytest
from daily_market import as_toml
from datafiles import data_file
from typer.testing import CliRunner

from engine.cli.main import make_app

pytest.importorskip("plotly")
pytest.importorskip("empyrical")
pd = pytest.importorskip("pandas")

CONFIG = as_toml(
    {
        "strategies": [
            {"name": "macd", "rule": "macd_cross", "on": "tick"},
            {"name": "donchian", "rule": "donchian_breakout", "on": "tick"},
        ]
    }
)
CASH = 1_000_000.0


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_walk_forward_over_five_hundred_shares_reconciles(tmp_path: Path) -> None:
    source = data_file("cn_a_share_daily/daily_raw_511_symbols.parquet")
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    log, out = tmp_path / "shares.hql", tmp_path / "out"
    spans = ["--validation", "120", "--test", "80", "--embargo", "5"]
    for command in (
        ["import", "tushare-daily", source, "-o", log],
        ["select", log, "-c", tmp_path / "config.toml", *spans, "--out", out],
    ):
        CliRunner().invoke(make_app(), [str(part) for part in command], catch_exceptions=False)

    best = pd.read_csv(out / "best_metrics.csv").iloc[0]
    trades, fills, equity = (
        pd.read_parquet(out / f"{name}.parquet") for name in ("trades", "fills", "equity")
    )
    won, lost = trades.pnl[trades.pnl > 0], trades.pnl[trades.pnl < 0]
    assert best.num_trades == len(trades) > 50
    assert best.cumulative_return_percentage == pytest.approx(
        100 * (equity.equity.iloc[-1] / CASH - 1)
    )
    assert best.avg_return_per_trade_percentage == pytest.approx(100 * trades["return"].mean())
    assert best.win_rate_percentage == pytest.approx(100 * len(won) / len(trades))
    assert best.profit_loss_ratio == pytest.approx(won.mean() / -lost.mean())
    assert best.max_single_trade_drawdown_percentage == pytest.approx(100 * trades.drawdown.max())
    assert trades.pnl.sum() == pytest.approx(equity.equity.iloc[-1] - CASH, abs=1e-3)

    told = orjson.loads((out / "selection.json").read_bytes())
    counted = 0
    for fold in told["folds"]:
        first, last = (pd.Timestamp(str(day), tz="UTC") for day in fold["test"])
        inside = fills[(fills.time >= first) & (fills.time < last + pd.Timedelta(days=1))]
        assert set(inside.strategy) <= {fold["chosen"]}
        assert (inside.time_signal >= first).all()
        counted += len(inside)
    assert counted == len(fills)
    assert len(equity) == 326 - 125
