"""What user code opens is noticed, by whom and what; what others open is not."""

import importlib.util
import sqlite3
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from replay.analysis.lookahead_files import FileWatch, Reading

USER = """
    import sqlite3

    def read(path):
        with open(path) as file:
            return file.read()

    def write(path):
        with open(path, "w") as file:
            file.write("x")

    def ask(path):
        sqlite3.connect(path).close()

    def call(function, *arguments):
        return function(*arguments)
"""


@pytest.fixture
def user(tmp_path: Path) -> ModuleType:
    path = tmp_path / "user.py"
    path.write_text(textwrap.dedent(USER))
    spec = importlib.util.spec_from_file_location("watched_user", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seen(user: ModuleType, name: str, *arguments: Any, trusted: tuple[Path, ...] = ()) -> Any:
    with FileWatch([Path(str(user.__file__))], trusted) as watch:
        getattr(user, name)(*arguments)
    return watch.readings


def test_a_file_that_user_code_reads_is_noticed_with_who_reads_it(
    user: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text("1")
    expected = [Reading(str(user.__file__), str(tmp_path / "data.csv"))]
    assert seen(user, "read", tmp_path / "data.csv") == expected
    by_helper = seen(user, "call", Path.read_text, tmp_path / "data.csv")
    assert by_helper == expected


def test_a_database_is_noticed(user: ModuleType, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "data.db").close()
    (one,) = seen(user, "ask", str(tmp_path / "data.db"))
    assert one.target == f"sqlite3.connect {tmp_path / 'data.db'}"


def test_writing_and_trusted_files_are_not_noticed(user: ModuleType, tmp_path: Path) -> None:
    assert seen(user, "write", tmp_path / "out.txt") == []
    assert seen(user, "read", tmp_path / "out.txt", trusted=(tmp_path,)) == []
    assert seen(user, "read", tmp_path / "out.txt", trusted=(tmp_path / "out.txt",)) == []
    assert len(seen(user, "read", tmp_path / "out.txt", trusted=(tmp_path / "out",))) == 1


def test_what_others_read_and_what_is_read_afterwards_is_not_noticed(
    user: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text("1")
    with FileWatch([Path(str(user.__file__))]) as watch:
        (tmp_path / "data.csv").read_text()
    user.read(tmp_path / "data.csv")
    assert watch.readings == []


def test_without_sources_nothing_is_watched(user: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1")
    with FileWatch([]) as watch:
        user.read(tmp_path / "data.csv")
    assert watch.readings == []
