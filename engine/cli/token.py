"""``heqis token new|revoke|list``: who may use the signal stream, and for what."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.common import AsJson, ConfigFiles, print_json

HELP = """Tokens of the signal stream.

Example: heqis token new dashboard --file var/tokens.json"""
TokenPath = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="The file of tokens; else stream.tokens of -c."),
]
TokenName = Annotated[str, typer.Argument(help="Whose it is; stands in the journal.")]


class ScopeName(StrEnum):
    """What a token may be good for."""

    READ = "read"
    OPERATE = "operate"


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help=HELP)
    group.command(name="new")(new)
    group.command(name="revoke")(revoke)
    group.command(name="list")(list_tokens)
    app.add_typer(group, name="token")


def new(
    name: TokenName,
    scope: Annotated[
        list[ScopeName] | None,
        typer.Option("--scope", "-s", help="read: subscribe; operate: command. Repeatable."),
    ] = None,
    expires: Annotated[
        str, typer.Option(help='How long it is good, such as "90d"; "never" for no end.')
    ] = "90d",
    file: TokenPath = None,
    config: ConfigFiles = None,
    json: AsJson = False,
) -> None:
    """Make a token and print it, this once: the file keeps its hash only.

    A running engine knows it within a second.

    Example: heqis token new dashboard --scope read --expires 90d --file var/tokens.json
    """
    from engine.stream_auth import Scope
    from engine.token_store import TokenStore

    scopes = [Scope(one.value) for one in dict.fromkeys(scope or [ScopeName.READ])]
    now_ns = time.time_ns()
    ends_ns = None if expires == "never" else now_ns + _lifetime(expires)
    token = TokenStore(_path(file, config)).issue(name, scopes, now_ns, ends_ns)
    if json:
        print_json({"name": name, "token": token, "scopes": scopes, "expires": ends_ns})
        return
    typer.echo(token)
    ends = "without end" if ends_ns is None else f"until {_day(ends_ns)}"
    typer.echo(f"{name} may {' and '.join(scopes)}, {ends}; it is not shown again", err=True)


def revoke(name: TokenName, file: TokenPath = None, config: ConfigFiles = None) -> None:
    """End a token; a running engine closes its connections within a second.

    Example: heqis token revoke dashboard --file var/tokens.json
    """
    from engine.token_store import TokenStore

    TokenStore(_path(file, config)).revoke(name, time.time_ns())
    typer.echo(f"{name} is revoked")


def list_tokens(file: TokenPath = None, config: ConfigFiles = None, json: AsJson = False) -> None:
    """List the tokens there are, without what would let one use them.

    Example: heqis token list --file var/tokens.json
    """
    from engine.token_store import TokenStore

    now_ns = time.time_ns()
    book = TokenStore(_path(file, config)).read()
    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "scopes": list(one.scopes),
            "state": getattr(book.denial(one.sha256, now_ns), "value", "good").removeprefix(
                "token_"
            ),
            "created": one.created,
            "expires": one.expires,
        }
        for one in book.records
    ]
    if json:
        print_json({"tokens": rows})
        return
    for row in rows:
        ends = "never expires" if row["expires"] is None else f"expires {_day(row['expires'])}"
        typer.echo(f"{row['name']:<24} {row['state']:<8} {','.join(row['scopes']):<13} {ends}")


def _path(file: Path | None, config: list[Path] | None) -> Path:
    from engine.config import load_config
    from engine.core.errors import ConfigError

    if file is not None:
        return file
    found = load_config(config).stream.tokens if config else None
    if found is None:
        expected = "give --file, or -c with a configuration that has stream.tokens"
        raise ConfigError("command line", "--file", None, expected)
    return found


def _lifetime(text: str) -> int:
    from engine.core.errors import ConfigError
    from engine.core.settings import parse_duration_ns

    try:
        return parse_duration_ns(text)
    except ValueError as error:
        raise ConfigError("command line", "--expires", text, str(error)) from None


def _day(wall_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(wall_ns // 1_000_000_000))
