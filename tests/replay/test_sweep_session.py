"""A sweep of backtests from end to end: the command, its files, and what it refuses."""

import csv
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
import pyarrow.parquet as pq
import pytest
from process_rig import eventually
from sweep_cases import FAST, GRID, SLOW, TRADED, facts, write_market
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.composition import resolve
from engine.config import Config
from engine.config_text import config_toml
from engine.core.errors import ConfigError, InputFileError
from replay.backtest.metrics import account_metrics, daily_returns, daily_sharpe
from replay.backtest.prepared import Prepared
from replay.backtest.run import backtest
from replay.backtest.sharpe import deflated_sharpe
from replay.sweep.session import Options, Session
from replay.sweep.trial import Outcome

pytest.importorskip("optuna")
OBJECTIVE = "cumulative_return"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("logs") / "market.hql")


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(config_toml(TRADED))
    return path


def options(*params: str, **more: Any) -> Options:
    return Options(params or GRID, **{"sampler": "grid", "objective": OBJECTIVE, **more})


def made(log: Path, *params: str, cores: int = 1, **more: Any) -> list[Outcome]:
    session = Session([log], TRADED, options(*params, **more), cores)
    try:
        return list(session.run().outcomes)
    finally:
        session.close()


def run(*arguments: object) -> Any:
    return CliRunner().invoke(make_app(), ["sweep", *map(str, arguments)])


def test_trial_is_the_backtest_with_its_parameters(log: Path) -> None:
    prepared = Prepared.load([log])
    for outcome in made(log):
        tree = TRADED.model_dump()
        tree["strategies"][0]["params"] = {
            "fast": outcome.params[FAST],
            "slow": outcome.params[SLOW],
        }
        alone = backtest(prepared, resolve(Config.model_validate(tree)))
        assert outcome.metrics[OBJECTIVE] == account_metrics(alone).cumulative_return
        assert outcome.metrics["num_trades"] == len(alone.trades) > 0
        assert list(outcome.returns) == daily_returns(alone).tolist()
        assert list(outcome.days) == alone.equity["day"].tolist()


def test_new_parameters_compile_nothing_in_a_backtest(log: Path) -> None:
    wide = (
        f"{FAST}=2:40", f"{SLOW}=5:80", "bars.100ms.interval=100ms,200ms",
        "backtest.slippage.model=ticks,bps", "backtest.slippage.amount=1:3",
        "backtest.latency=0s,5ms", "backtest.fees=true,false",
    )  # fmt: skip
    tree = {**TRADED.model_dump(), "backtest": {**TRADED.backtest.model_dump()}}
    tree["backtest"]["slippage"] = {"model": "ticks", "amount": 1}
    session = Session(
        [log], Config.model_validate(tree), options(*wide, sampler="random", trials=12), 1
    )
    outcomes = session.run().outcomes
    session.close()
    assert [outcome.error for outcome in outcomes] == [""] * 12
    assert [outcome.compiled for outcome in outcomes[1:]] == [0] * 11
    assert len({outcome.digest for outcome in outcomes}) > 10


def test_best_is_judged_by_all_trials(log: Path) -> None:
    session = Session([log], TRADED, options(objective="sharpe"), 1)
    verdict = session.run()
    session.close()
    ratios = np.array([daily_sharpe(np.array(one.returns)) for one in verdict.outcomes])
    if verdict.best is None:
        assert np.isnan(ratios).all()
        return
    expected = deflated_sharpe(np.array(verdict.best.returns), ratios)
    assert verdict.deflated == expected
    assert expected.trials == 9


def test_command_tells_keeps_and_resumes(log: Path, config_file: Path, tmp_path: Path) -> None:
    place = tmp_path / "s.db"
    arguments = (
        log, "-c", config_file, "-p", GRID[0], "-p", GRID[1], "--sampler", "grid", "--jobs", "1",
        "--objective", OBJECTIVE, "--storage", place,
    )  # fmt: skip
    first = run(*arguments, "--trials", "4")
    assert first.exit_code == 0, first.output
    assert "4 trials" in first.stdout
    assert "best: trial" in first.stdout
    files = tmp_path / "out"
    page = tmp_path / "s.html"
    done = run(*arguments, "--resume", "--json", "--out", files, "--html", page)
    assert done.exit_code == 0, done.output
    told = orjson.loads(done.stdout)
    assert told["trials"] == len(told["all"]) == 9
    assert told["best"]["number"] == told["ranked"][0]
    best = max(told["all"], key=lambda one: one["metrics"][OBJECTIVE])
    assert told["best"]["metrics"][OBJECTIVE] == best["metrics"][OBJECTIVE]
    with (files / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row[OBJECTIVE]) for row in rows] == [
        one["metrics"][OBJECTIVE] for one in told["all"]
    ]
    assert [int(row[FAST]) for row in rows] == [one["params"][FAST] for one in told["all"]]
    returns = pq.read_table(files / "returns.parquet")
    assert set(returns.column("trial").to_pylist()) == set(range(9))
    text = page.read_text()
    assert f"trial {told['best']['number']}" in text
    assert "Plotly.newPlot" in text


def test_stopped_backtests_go_on_as_if_they_had_not_been(log: Path, tmp_path: Path) -> None:
    wide = (f"{FAST}=2:40", f"{SLOW}=5:80")
    whole = made(log, *wide, sampler="tpe", trials=16, jobs=1)
    place = str(tmp_path / "s.journal")
    made(log, *wide, sampler="tpe", trials=7, jobs=1, storage=place)
    rest = made(log, *wide, sampler="tpe", trials=16, jobs=1, storage=place, resume=True)
    assert facts(rest) == facts(whole)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"objective": "shrape"}, "did you mean 'sharpe'?"),
        ({"trials": 0}, "--trials: found 0; give a number from 1"),
        ({"jobs": 0}, "--jobs: found 0"),
        ({"jobs": 5000}, "at most 1024"),
        ({"seed": -1}, "--seed"),
        ({"resume": True}, "--resume goes on with a study in a --storage"),
    ],
)
def test_options_that_make_no_sense_are_refused(log: Path, more: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Session([log], TRADED, options(**more), 1)
    assert told in str(caught.value)


def test_command_refuses_with_a_reason_and_status_2(
    log: Path, config_file: Path, tmp_path: Path
) -> None:
    missing = run(tmp_path / "no.hql", "-c", config_file, "-p", GRID[0], "--storage", "none")
    assert isinstance(missing.exception, InputFileError)
    wrong = run(log, "-c", config_file, "-p", GRID[0], "--sampler", "gird", "--storage", "none")
    assert "did you mean 'grid'?" in str(wrong.exception)
    key = run(log, "-c", config_file, "-p", "strategies.fats.params.fast=2:3", "--storage", "none")
    assert "did you mean 'fast'?" in str(key.exception)
    (tmp_path / "file").touch()
    for option in ("--html", "--out"):
        place = tmp_path if option == "--html" else tmp_path / "file" / "below"
        bad = run(log, "-c", config_file, "-p", GRID[0], "--storage", "none", option, place)
        assert f"{option}: found '{place}'; a place to write" in str(bad.exception)
    endless = run(
        log, "-c", config_file, "-p", "strategies.fast.params.min_histogram_bps=0.1:0.2",
        "--sampler", "grid", "--storage", "none",
    )  # fmt: skip
    assert "a grid needs a step" in str(endless.exception)


def test_another_recording_or_configuration_is_another_study(log: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "s.db")
    made(log, trials=1, jobs=1, storage=place)
    other = write_market(tmp_path / "other.hql", 3_000)
    rich = TRADED.backtest.model_copy(update={"cash": 5e6})
    for what, logs, config, more in (
        ("recording", other, TRADED, {}),
        ("configuration", log, TRADED.model_copy(update={"backtest": rich}), {}),
        ("seed", log, TRADED, {"seed": 2}),
        ("objective", log, TRADED, {"objective": "sharpe"}),
        ("sampler", log, TRADED, {"sampler": "random"}),
        ("space", log, TRADED, {"params": (GRID[0], f"{SLOW}=6:9:3")}),
    ):
        given = replace(options(storage=place, resume=True), **more)
        with pytest.raises(ConfigError, match=f"of another {what}"):
            Session([logs], config, given, 1)


@pytest.mark.slow
def test_interrupted_command_keeps_its_trials_and_goes_on(
    log: Path, config_file: Path, tmp_path: Path
) -> None:
    place = tmp_path / "s.journal"
    command = [
        sys.executable, "-m", "engine.cli", "sweep", str(log), "-c", str(config_file),
        "-p", f"{FAST}=2:40", "-p", f"{SLOW}=5:500", "--sampler", "random", "--trials", "20000",
        "--jobs", "2", "--objective", OBJECTIVE, "--storage", str(place),
    ]  # fmt: skip
    root = Path(__file__).resolve().parents[2]
    running = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
    eventually(
        lambda: place.exists() and place.read_bytes().count(b'"digest"') >= 20, "20 trials", 90
    )
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert f"are kept in {place}; --resume goes on" in said
    kept = place.read_bytes().count(b'"digest"')
    assert f"stopped; {kept} trials" in said
    more = [*command, "--resume", "--json"]
    more[more.index("20000")] = str(kept + 10)
    done = subprocess.run(more, cwd=root, capture_output=True, check=True, timeout=100)
    assert orjson.loads(done.stdout)["trials"] == kept + 10


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_neither_a_recording_nor_a_worker_outlives_the_command(
    log: Path,
    config_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    mapped = tmp_path / "mapped"
    mapped.mkdir()
    monkeypatch.setenv("TMPDIR", str(mapped))
    place = tmp_path / "s.journal"
    command = [
        sys.executable, "-m", "engine.cli", "sweep", str(log), "-c", str(config_file),
        "-p", f"{FAST}=2:40", "--sampler", "random", "--trials", "20000", "--jobs", "2",
        "--objective", OBJECTIVE, "--storage", str(place),
    ]  # fmt: skip
    running = psutil.Popen(command, cwd=Path(__file__).resolve().parents[2])
    eventually(lambda: place.exists() and b'"digest"' in place.read_bytes(), "a trial", 90)
    children = running.children(recursive=True)
    assert len(children) >= 2
    assert any(f"{mapped}/" in one.path for worker in children for one in worker.memory_maps())
    running.send_signal(number)
    running.wait(timeout=60)
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert not list(mapped.iterdir())
