"""What ``heqis backtest --out`` writes: pandas finds the same numbers in the files."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.csv
import pytest
from daily_market import as_toml, daily_bars, write_daily
from typer.testing import CliRunner

from engine.cli.main import make_app

pytest.importorskip("plotly")
pytest.importorskip("empyrical")
pd = pytest.importorskip("pandas")

CASH = 1_000_000.0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("written")
    write_daily(directory / "daily.hql", daily_bars(200, seed=6))
    (directory / "config.toml").write_text(as_toml(), encoding="utf-8")
    command = ["backtest", directory / "daily.hql", "-c", directory / "config.toml",
               "--out", directory / "out", "--json"]  # fmt: skip
    done = CliRunner().invoke(make_app(), [str(part) for part in command], catch_exceptions=False)
    return directory / "out", orjson.loads(done.stdout)


@pytest.mark.slow
def test_the_account_is_that_of_the_equity_table(
    written: tuple[Path, dict[str, Any]],
) -> None:
    directory, told = written
    equity = pd.read_parquet(directory / "equity.parquet").set_index("day")["equity"]
    returns = equity.pct_change().fillna(equity.iloc[0] / CASH - 1.0)
    highest = equity.cummax().clip(lower=CASH)
    assert told["cumulative_return"] == pytest.approx(equity.iloc[-1] / CASH - 1.0)
    assert told["sharpe"] == pytest.approx(returns.mean() / returns.std() * np.sqrt(252))
    assert told["max_drawdown"] == pytest.approx((1.0 - equity / highest).max())
    assert told["annual_volatility"] == pytest.approx(returns.std() * np.sqrt(252))


@pytest.mark.slow
def test_the_trades_are_those_of_their_table(written: tuple[Path, dict[str, Any]]) -> None:
    directory, told = written
    trades = pd.read_parquet(directory / "trades.parquet")
    won, lost = trades.pnl[trades.pnl > 0], trades.pnl[trades.pnl < 0]
    assert told["num_trades"] == len(trades) > 20
    assert told["win_rate"] == pytest.approx(len(won) / len(trades))
    assert told["profit_loss_ratio"] == pytest.approx(won.mean() / -lost.mean())
    assert told["avg_return"] == pytest.approx(trades["return"].mean())
    assert told["max_trade_drawdown"] == pytest.approx(trades.drawdown.max())
    equity = pd.read_parquet(directory / "equity.parquet")
    assert trades.pnl.sum() == pytest.approx(equity.equity.iloc[-1] - CASH)
    turned = (equity.bought.sum() + equity.sold.sum()) / 2 / equity.equity.mean()
    assert told["turnover_yearly"] == pytest.approx(turned * 252 / len(equity))
    assert told["exposure_mean"] == pytest.approx((equity.exposure / equity.equity).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trades", "fills", "equity"])
def test_both_forms_of_a_table_are_the_same(
    written: tuple[Path, dict[str, Any]], name: str
) -> None:
    directory, _ = written
    exact = pd.read_parquet(directory / f"{name}.parquet")
    read = pyarrow.csv.read_csv(directory / f"{name}.csv").to_pandas()
    assert list(read.columns) == list(exact.columns)
    assert len(read) == len(exact) > 0
    for column in exact.columns:
        if exact[column].dtype.kind == "f":
            assert read[column].tolist() == exact[column].tolist()


@pytest.mark.slow
def test_every_fill_belongs_to_a_trade_and_pays_its_way(
    written: tuple[Path, dict[str, Any]],
) -> None:
    directory, _ = written
    fills = pd.read_parquet(directory / "fills.parquet")
    trades = pd.read_parquet(directory / "trades.parquet")
    sign = np.where(fills.side == "buy", -1.0, 1.0)
    fees = fills.commission + fills.tax + fills.transfer_fee
    flows = (sign * fills.quantity * fills.price - fees).groupby(fills.trade).sum()
    closed = trades[~trades.open]
    assert flows[closed.index].tolist() == pytest.approx(closed.pnl.tolist())
