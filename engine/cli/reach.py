"""Options of commands that talk to a running engine: its token, and whom to trust."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.access import Access

Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="HEQIS_TOKEN",
        show_default=False,
        help="Token, where the engine asks for one. Others on this machine can see what stands on "
        "a command line: prefer the variable.",
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        envvar="HEQIS_CA",
        show_default=False,
        help="Certificates to trust (PEM), for wss://; else those of the system.",
    ),
]


def access_of(token: str | None, ca: Path | None) -> "Access":
    """Return what a client brings."""
    from engine.access import Access

    return Access(token, ca)
