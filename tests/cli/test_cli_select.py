"""``heqis select``: files and tables out, and what a user can get wrong."""

import csv
from pathlib import Path

import orjson
import pytest
from daily_market import CONFIG, as_toml, daily_bars, write_daily
from typer.testing import CliRunner, Result

from engine.cli.main import make_app
from engine.core.errors import ConfigError

pytest.importorskip("plotly")
pytest.importorskip("empyrical")

SPANS = ["--validation", "30", "--test", "20", "--embargo", "2"]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("market")
    write_daily(directory / "daily.hql", daily_bars(80))
    (directory / "both.toml").write_text(as_toml(), encoding="utf-8")
    for number, entry in enumerate(CONFIG["strategies"]):
        layer = as_toml({"strategies": [entry]})
        (directory / f"only{number}.toml").write_text(layer, encoding="utf-8")
    return directory


def run(market: Path, *arguments: str | Path) -> Result:
    base = ["select", market / "daily.hql", "-c", market / "both.toml", *SPANS]
    return CliRunner().invoke(
        make_app(), [*map(str, base), *map(str, arguments)], catch_exceptions=False
    )


@pytest.mark.slow
def test_strategies_are_chosen_and_reported(market: Path, tmp_path: Path) -> None:
    done = run(market, "--out", tmp_path / "out", "--json")
    told = orjson.loads(done.stdout)
    assert told["candidates"] == ["quick", "slow"]
    assert [fold["fold"] for fold in told["folds"]] == [1, 2, 3]
    with (tmp_path / "out" / "best_metrics.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert int(row["num_trades"]) == told["tested"]["num_trades"] > 0
    assert (tmp_path / "out" / "report.html").stat().st_size > 1_000_000


@pytest.mark.slow
def test_people_see_the_folds_and_the_tests(market: Path, tmp_path: Path) -> None:
    done = run(market, "--out", tmp_path / "out")
    assert "The test days together" in done.stdout
    assert "chosen" in done.stdout


@pytest.mark.slow
def test_files_and_points_are_candidates_too(market: Path, tmp_path: Path) -> None:
    layers = [f"--candidate={market / f'only{number}.toml'}" for number in (1, 0)]
    told = orjson.loads(run(market, *layers, "--out", tmp_path / "a", "--json").stdout)
    assert told["candidates"] == ["only1", "only0"]
    point = "--param=strategies.quick.params.fast=3,4"
    told = orjson.loads(run(market, point, "--out", tmp_path / "b", "--json").stdout)
    assert told["candidates"] == ["fast=3", "fast=4"]
    assert told["trials"] == 2


@pytest.mark.slow
def test_points_of_two_strategies_are_told_apart(market: Path, tmp_path: Path) -> None:
    points = [f"--param=strategies.{name}.params.fast=3:3:1" for name in ("quick", "slow")]
    told = orjson.loads(run(market, *points, "--out", tmp_path, "--json").stdout)
    assert told["candidates"] == ["quick.params.fast=3 slow.params.fast=3"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--objective", "sharp"], "sharpe"),
        (["--validation", "100"], "80 trading days"),
        (["--candidate", "a/x.toml", "--param", "risk.a=1,2"], "not both"),
        (["--candidate", "a/x.toml", "--candidate", "b/x.toml"], "different names"),
    ],
)
def test_what_a_user_gets_wrong_is_told(
    market: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        run(market, *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_no_directory_is_told_before_anything_runs(
    market: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match="--out"):
        run(market, "--out", tmp_path / "out")
