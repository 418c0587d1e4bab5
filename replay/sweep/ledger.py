"""Where trials are kept: an Optuna study in a file or a database, one row of it a finished trial.

A study says what it is of: the recording, the configuration, what varies and what for. Nothing else
is ever added to it.
"""

import contextlib
import signal
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import optuna
import sqlalchemy.exc
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import make_url

from engine.core.errors import ConfigError
from replay.sweep.trial import Outcome

SQLITE: Final = (".db", ".sqlite", ".sqlite3")
JOURNAL: Final = (".journal", ".log", ".jsonl")
ABOUT: Final = "heqis"
"""The study's attribute that says what it is of."""
WINDOW: Final = "window"
"""The one entry that a study keeps from its beginning, whatever a resumed sweep says."""
_DAYS: Final = "days"
_SERVER: Final = ("mysql", "postgresql", "sqlite")
_OPTION: Final = "--storage"


class Ledger:
    """One study's finished trials, in the order of their numbers; one sweep writes at a time.

    Attributes:
        outcomes: All of them.
        about: What the study is of.

    Args:
        storage: Where it is.
        study: Its number there.
        place: What the user calls the storage.
        distributions: What varies, as Optuna describes it.
    """

    def __init__(
        self,
        storage: BaseStorage,
        study: int,
        place: str,
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        self._storage = storage
        self._study = study
        self._place = place
        self._distributions = dict(distributions)
        attributes = storage.get_study_user_attrs(study)
        self.about: dict[str, Any] = attributes[ABOUT]
        self._days = tuple(attributes.get(_DAYS, ()))
        trials = storage.get_all_trials(study, deepcopy=False)
        self.outcomes = [self._outcome_of(trial) for trial in trials]

    def add(self, outcome: Outcome, value: float | None) -> None:
        """Keep the next trial, whole or not at all; an interruption waits until it is kept.

        Raises:
            ConfigError: the storage failed, or somebody else has added to the study.
        """
        with _interruptions_put_off():
            self._add(outcome, value)

    def close(self) -> None:
        """Let go of the storage."""
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    def _add(self, outcome: Outcome, value: float | None) -> None:
        try:
            if outcome.days and not self._days:
                self._storage.set_study_user_attr(self._study, _DAYS, list(outcome.days))
                self._days = outcome.days
            made = self._storage.create_new_trial(self._study, self._trial_of(outcome, value))
            number = self._storage.get_trial_number_from_id(made)
        except (OSError, optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
            fix = f"it failed: {_first_line(error)}; --resume goes on from the trials kept"
            raise ConfigError("command line", _OPTION, self._place, fix) from error
        if number != len(self.outcomes):
            fix = "another sweep adds to this study; give this one another --name"
            raise ConfigError("command line", _OPTION, self._place, fix)
        self.outcomes.append(outcome)

    def _trial_of(self, outcome: Outcome, value: float | None) -> FrozenTrial:
        """Return a trial for Optuna; one without a value stands as pruned, a refused as failed."""
        state = TrialState.FAIL if outcome.error else TrialState.PRUNED
        attributes: dict[str, Any] = {
            "metrics": outcome.metrics,
            "returns": list(outcome.returns),
            "digest": outcome.digest,
            "error": outcome.error,
            "compiled": outcome.compiled,
            "wall_s": outcome.wall_s,
        }
        if outcome.days != self._days:
            attributes[_DAYS] = list(outcome.days)
        return create_trial(
            state=state if value is None else TrialState.COMPLETE,
            value=value,
            params=dict(outcome.params),
            distributions=self._distributions,
            user_attrs=attributes,
        )

    def _outcome_of(self, trial: FrozenTrial) -> Outcome:
        kept = trial.user_attrs
        if not trial.state.is_finished() or "digest" not in kept:
            fix = f"trial {trial.number} was not made by a sweep; give another --name"
            raise ConfigError("command line", _OPTION, self._place, fix)
        return Outcome(
            number=trial.number,
            params=dict(trial.params),
            metrics=kept["metrics"],
            days=tuple(kept.get(_DAYS, self._days)),
            returns=tuple(kept["returns"]),
            digest=kept["digest"],
            error=kept["error"],
            compiled=kept["compiled"],
            wall_s=kept["wall_s"],
        )


def open_ledger(
    place: str | None,
    name: str,
    about: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    *,
    maximise: bool,
    resume: bool,
) -> Ledger:
    """Begin a study, or take one up.

    Args:
        place: A file or a database's address; None keeps the study in memory.
        name: The study's name.
        about: What it is of; a study that is taken up must be of the same.
        distributions: What varies.
        maximise: Whether greater values are better.
        resume: Take it up.

    Raises:
        ConfigError: no such storage or study, one of something else, or one that is there already.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _open(place, resume=resume)
    shown = _shown(place)
    known = {study.study_name: study for study in storage.get_all_studies()}
    if name in known and not resume:
        fix = f"the study {name!r} is there already: --resume goes on with it, or give a --name"
        raise ConfigError("command line", _OPTION, shown, fix)
    if name not in known and resume:
        there = ", ".join(sorted(known)) or "none"
        fix = f"there is nothing of that name to resume in {shown}; studies are: {there}"
        raise ConfigError("command line", "--name", name, fix)
    if name in known:
        study = storage.get_study_id_from_name(name)
        _check_same(shown, name, storage.get_study_user_attrs(study).get(ABOUT), about)
    else:
        direction = StudyDirection.MAXIMIZE if maximise else StudyDirection.MINIMIZE
        study = storage.create_new_study([direction], name)
        storage.set_study_user_attr(study, ABOUT, dict(about))
    return Ledger(storage, study, shown, distributions)


def _check_same(place: str, name: str, kept: Any, about: Mapping[str, Any]) -> None:
    if not isinstance(kept, dict):
        fix = f"its study {name!r} is not of a sweep; give another --name"
        raise ConfigError("command line", _OPTION, place, fix)
    for what, value in about.items():
        if what != WINDOW and kept.get(what) != value:
            fix = (
                f"the study {name!r} is of another {what}, {kept.get(what)!r} and not {value!r}; "
                "give what it was begun with, or another --name"
            )
            raise ConfigError("command line", _OPTION, place, fix)


def _open(place: str | None, *, resume: bool) -> BaseStorage:
    if place is None:
        return optuna.storages.InMemoryStorage()
    if "://" in place:
        return _open_database(place)
    path = Path(place)
    if path.suffix not in (*SQLITE, *JOURNAL):
        fix = f"a file ends in {', '.join(SQLITE)} (SQLite) or {', '.join(JOURNAL)} (a journal)"
        raise ConfigError("command line", _OPTION, place, fix)
    if resume and not path.is_file():
        raise ConfigError("command line", _OPTION, place, "there is no such file to resume from")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in SQLITE:
            _check_sqlite(path)
            return _open_database(f"sqlite:///{path}")
        _check_journal(path)
        return JournalStorage(JournalFileBackend(place))
    except OSError as error:
        told = error.strerror or str(error)
        raise ConfigError("command line", _OPTION, place, f"a file to write: {told}") from None


def _open_database(url: str) -> BaseStorage:
    shown = _shown(url)
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme not in _SERVER:
        raise ConfigError("command line", _OPTION, shown, f"databases are: {', '.join(_SERVER)}")
    try:
        return RDBStorage(url)
    except ImportError as error:
        fix = f"its driver is not installed: {_first_line(error)}"
        raise ConfigError("command line", _OPTION, shown, fix) from None
    except (
        RuntimeError, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError
    ) as error:  # fmt: skip
        fix = f"it cannot be opened: {_first_line(error)}"
        raise ConfigError("command line", _OPTION, shown, fix) from None


def _check_sqlite(path: Path) -> None:
    """Refuse a file that is no database, or one of something else, before tables go into it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in rows}
        database.close()
    except sqlite3.Error as error:
        fix = f"it is no SQLite database: {error}; give another file"
        raise ConfigError("command line", _OPTION, str(path), fix) from None
    if tables and not {"studies", "trials"} <= tables:
        fix = "it is a database of something else; give another file"
        raise ConfigError("command line", _OPTION, str(path), fix)


def _check_journal(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        first = file.readline(1 << 20)
    if not first.startswith(b"{") or b'"op_code"' not in first:
        fix = "it is not a study's journal; give another file"
        raise ConfigError("command line", _OPTION, str(path), fix)


def _shown(place: str | None) -> str:
    """Return what to call a storage, without a database's password."""
    if place is None:
        return "memory"
    try:
        return make_url(place).render_as_string() if "://" in place else place
    except sqlalchemy.exc.ArgumentError:
        return place.partition("://")[0]


@contextlib.contextmanager
def _interruptions_put_off() -> Iterator[None]:
    """Have SIGINT and SIGTERM wait for the end of the block: what is stored is also counted."""
    if threading.current_thread() is not threading.main_thread():  # signals go to the main one
        yield
        return
    caught: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _frame: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for caught_number in caught:
            signal.raise_signal(caught_number)


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
