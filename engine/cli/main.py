"""Assembles the command line and turns errors into messages and exit statuses."""

import inspect
import re
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Final

import typer

from engine.core.errors import BudgetSpentError, CheckFailedError, HeqisError
from engine.exit_status import ExitStatus

MODULES: Final[tuple[str, ...]] = (
    "run",
    "top",
    "tail",
    "engine",
    "state",
    "reload",
    "gateway",
    "replay",
    "backtest",
    "select",
    "sweep",
    "analyze",
    "diff",
    "explain",
    "import_",
    "export",
    "features",
    "latency",
    "doctor",
    "model",
    "bench",
    "log",
    "journal",
    "indicators",
    "config",
    "keys",
    "token",
)
"""Modules of this package with a ``register(app)``; the order is the order in ``--help``."""


def make_app() -> typer.Typer:
    """Build the command line."""
    app = typer.Typer(
        name="heqis",
        help="Market ticks in, risk-checked trading signals out: live, in replay, on the edge.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_root)
    for name in MODULES:
        import_module(f"engine.cli.{name}").register(app)
    _let_help_flow(app)
    return app


def _let_help_flow(app: typer.Typer) -> None:
    """Join the lines of each paragraph of every help text: it is wrapped where it is shown.

    A line that ends in a semicolon, one example of several, stays one.
    """
    for command in app.registered_commands:
        text = inspect.cleandoc(command.help or command.callback.__doc__ or "")
        command.help = re.sub(r"(?<![\n;])\n(?!\n)", " ", text)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _let_help_flow(group.typer_instance)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"heqis {version('heqis')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version."),
    ] = False,
) -> None:
    """Market ticks in, risk-checked trading signals out: live, in replay, on the edge."""


def main() -> None:
    """Run the command line and exit with the status that says whose matter it is."""
    from engine.process import hold_standard_streams

    hold_standard_streams()
    try:
        make_app()()
    except BudgetSpentError as error:
        sys.stderr.write(f"heqis: {error}\n")
        sys.exit(ExitStatus.BUDGET)
    except CheckFailedError as error:
        sys.stderr.write(f"heqis: {error}\n")
        sys.exit(ExitStatus.FAILED)
    except HeqisError as error:
        sys.stderr.write(f"heqis: {error}\n")
        sys.exit(ExitStatus.USER)
