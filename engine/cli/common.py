"""Options and small pieces that several commands share."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from engine.core.errors import ConfigError

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-c",
        help="Configuration file (TOML); give it again to layer one over another.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more, to stderr.")]


def need(module: str, extra: str) -> None:
    """Refuse to go on without an optional library.

    Args:
        module: Its top-level module.
        extra: The extra of this package that brings it.

    Raises:
        ConfigError: it is not installed; says how to get it.
    """
    if find_spec(module) is None:
        fix = f'it is not installed: pip install "heqis[{extra}]"'
        raise ConfigError("this installation", module, None, fix)


def print_json(value: Any) -> None:
    """Write one JSON object and a newline to stdout; NaN becomes null."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    typer.echo(orjson.dumps(value, option=options, default=str).decode())


def log_to_stderr(*, verbose: bool = False) -> None:
    """Send the program's log to stderr, one line an event; nobody waits for it to be written."""
    from engine.bounded_log import BoundedHandler

    logging.basicConfig(
        handlers=[BoundedHandler()],
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )


def make_directory(option: str, path: Path) -> None:
    """Make the directory that an option names, before what is to be written there is computed.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = f"a directory to write to: {error.strerror or error}"
        raise ConfigError("command line", option, str(path), told) from None


def tell_bad_input(bad_input: dict[str, int]) -> None:
    """Print what is wrong with the logs that were read, by reason, if anything is."""
    from replay.backtest.report_text import tally_lines

    for kind, told in tally_lines({"bad input": bad_input}):
        typer.echo(f"{kind}: {told}")
