"""Help: every command, group and all, shows how it is used."""

import re
from collections.abc import Iterator

import pytest
import typer.main
from typer.testing import CliRunner

from engine.cli.main import make_app


def paths_of(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command below one, groups included."""
    for name, child in getattr(command, "commands", {}).items():
        yield (*path, name)
        yield from paths_of(child, (*path, name))


ROOT = typer.main.get_command(make_app())
PATHS = list(paths_of(ROOT))


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_commands_help_has_an_example(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(make_app(), [*path, "--help"])
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    assert f"heqis {' '.join(path)} " in text[text.index("Example") :]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_no_word_of_a_help_is_taken_for_markup(path: tuple[str, ...]) -> None:
    command = ROOT
    for name in path:
        command = getattr(command, "commands", {})[name]
    words = re.findall(r"(?<!\\)\[/?([a-z#@][^\[\]]*)\]", str(command.help))
    assert set(words) <= {"bold"}, "the terminal would not show them"
