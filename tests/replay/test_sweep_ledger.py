"""Where trials are kept: everything of a trial, and only of the study it belongs to."""

import math
import signal
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from sweep_cases import FAST, GRID, SLOW, facts, ledger_of, space_of

from engine.core.errors import ConfigError
from replay.sweep.dimension import Scalar
from replay.sweep.ledger import WINDOW, open_ledger
from replay.sweep.sampling import distributions
from replay.sweep.trial import Outcome

SPACE = space_of(*GRID)
PARAMS: dict[str, Scalar] = {FAST: 4, SLOW: 9}
DAYS = (20240102, 20240103, 20240104)


def outcomes() -> list[Outcome]:
    returns = (0.1 + 0.2, -1 / 3, 5e-324)
    metrics = {"sharpe": 1.0 / 7.0, "win_rate": math.nan, "profit_loss_ratio": math.inf}
    return [
        Outcome(0, PARAMS, {"sharpe": 0.5}, DAYS, returns, "ab", "", 3, 1.5),
        Outcome(1, PARAMS, metrics, DAYS[:1], returns[:1], "cd", "", 0, 0.25),
        Outcome(2, PARAMS, error="what: found 1; give 2", wall_s=0.1),
    ]


def open_again(place: Path | str, name: str = "sweep") -> None:
    open_ledger(
        str(place), name, {"of": "tests"}, distributions(SPACE), maximise=True, resume=True
    ).close()


@pytest.mark.parametrize("name", ["s.db", "s.sqlite3", "s.journal", "below/s.log"])
def test_everything_of_a_trial_is_kept_to_the_last_bit(tmp_path: Path, name: str) -> None:
    ledger = ledger_of(SPACE, tmp_path / name)
    for outcome, value in zip(outcomes(), (0.5, None, None), strict=True):
        ledger.add(outcome, value)
    ledger.close()
    again = ledger_of(SPACE, tmp_path / name, resume=True)
    assert repr(facts(again.outcomes)) == repr(facts(outcomes()))
    assert [one.compiled for one in again.outcomes] == [3, 0, 0]
    assert [one.wall_s for one in again.outcomes] == [1.5, 0.25, 0.1]
    again.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["s.db", "s.journal"])
def test_interruption_waits_until_the_trial_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    ledger = ledger_of(SPACE, tmp_path / name)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    write = ledger._storage.create_new_trial

    def interrupted(*told: Any) -> int:
        if when == "before":
            signal.raise_signal(signal.SIGINT)
        made = write(*told)
        if when == "after":
            signal.raise_signal(signal.SIGINT)
        return made

    monkeypatch.setattr(ledger._storage, "create_new_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ledger.add(outcomes()[0], 0.5)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert [one.number for one in ledger.outcomes] == [0]
    ledger.close()
    again = ledger_of(SPACE, tmp_path / name, resume=True)
    assert facts(again.outcomes) == facts(outcomes()[:1])
    again.close()


def test_trials_are_an_optuna_study_that_its_own_tools_read(tmp_path: Path) -> None:
    ledger = ledger_of(SPACE, tmp_path / "s.db")
    for outcome, value in zip(outcomes(), (0.5, None, None), strict=True):
        ledger.add(outcome, value)
    ledger.close()
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 's.db'}")
    study = optuna.load_study(study_name="sweep", storage=storage)
    assert study.best_value == 0.5
    assert study.best_params == PARAMS
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    storage.engine.dispose()


def test_study_that_is_there_is_not_begun_again(tmp_path: Path) -> None:
    ledger_of(SPACE, tmp_path / "s.db").close()
    with pytest.raises(ConfigError, match="is there already: --resume goes on with it"):
        ledger_of(SPACE, tmp_path / "s.db")


def test_study_of_something_else_is_not_taken_up(tmp_path: Path) -> None:
    ledger_of(SPACE, tmp_path / "s.db", recording="one", window=2).close()
    with pytest.raises(ConfigError, match="of another recording, 'one' and not 'two'"):
        ledger_of(SPACE, tmp_path / "s.db", resume=True, recording="two")
    again = ledger_of(SPACE, tmp_path / "s.db", resume=True, recording="one", window=8)
    assert again.about[WINDOW] == 2
    again.close()


def test_study_that_is_not_there_is_not_taken_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file to resume from"):
        open_again(tmp_path / "s.db")
    ledger_of(SPACE, tmp_path / "s.db").close()
    with pytest.raises(ConfigError, match="studies are: sweep"):
        open_again(tmp_path / "s.db", "other")


def test_study_that_no_sweep_made_is_refused(tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 's.db'}")
    optuna.create_study(study_name="sweep", storage=storage)
    storage.engine.dispose()
    with pytest.raises(ConfigError, match="is not of a sweep"):
        open_again(tmp_path / "s.db")


def test_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE signals (id TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="a database of something else"):
        ledger_of(SPACE, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "told"),
    [("s.db", "no SQLite database"), ("s.journal", "not a study's journal")],
)
def test_file_of_another_kind_is_refused(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).write_bytes(b"something else altogether, " * 100)
    with pytest.raises(ConfigError, match=told):
        ledger_of(SPACE, tmp_path / name)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("trials.csv", "a file ends in .db"),
        ("redis://here", "databases are: mysql, postgresql, sqlite"),
        ("postgresql+nothing://here/there", "it cannot be opened|driver is not installed"),
        ("/proc/nowhere/s.db", "a file to write"),
    ],
)
def test_place_that_cannot_be_is_refused(place: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"--storage.*({told})"):
        ledger_of(SPACE, place)


def test_password_of_a_database_is_not_told() -> None:
    with pytest.raises(ConfigError) as caught:
        ledger_of(SPACE, "postgresql+nothing://me:secret@here/there")
    assert "secret" not in str(caught.value)
    assert "***" in str(caught.value)


def test_two_sweeps_of_one_study_are_noticed(tmp_path: Path) -> None:
    first = ledger_of(SPACE, tmp_path / "s.journal")
    other = ledger_of(SPACE, tmp_path / "s.journal", resume=True)
    first.add(outcomes()[0], 0.5)
    with pytest.raises(ConfigError, match="another sweep adds to this study"):
        other.add(outcomes()[0], 0.5)


def test_storage_that_fails_says_how_to_go_on(tmp_path: Path) -> None:
    ledger = ledger_of(SPACE, tmp_path / "s.db")
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute("DROP TABLE trials")
    database.close()
    with pytest.raises(ConfigError, match="--resume goes on from the trials kept"):
        ledger.add(outcomes()[0], 0.5)
    ledger.close()


def test_memory_keeps_while_it_is_there() -> None:
    ledger = ledger_of(space_of(f"{FAST}=2:9"))
    ledger.add(Outcome(0, {FAST: 3}, {"signals": 1.0}, digest="x"), 1.0)
    assert [one.number for one in ledger.outcomes] == [0]
    ledger.close()
