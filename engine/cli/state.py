"""``heqis state``: the operator's hand on the risk gate."""

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from engine.cli.common import AsJson, print_json


class Wanted(StrEnum):
    """States an operator may ask for."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="state")(state)


def state(
    wanted: Annotated[Wanted, typer.Argument(help="What the risk gate shall be.")],
    url: Annotated[str, typer.Argument(help="Where the engine listens.")] = "ws://127.0.0.1:8765",
    json: AsJson = False,
) -> None:
    """Let signals through, only those that reduce a position, or none; it is journaled.

    Example: heqis state halted
    """
    previous = asyncio.run(_ask(url, wanted.value))
    if json:
        print_json({"state": wanted.value, "previous": previous})
        return
    typer.echo(f"the risk gate is {wanted.value}; it was {previous}")


async def _ask(url: str, wanted: str) -> str:
    import msgspec
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake, WebSocketException

    from engine.core.errors import StreamError
    from engine.stream_messages import ErrorMessage, SetState, StateMessage, decode_server

    try:
        async with asyncio.timeout(10), connect(url, compression=None) as connection:
            await connection.send(msgspec.json.encode(SetState(state=wanted)), text=True)  # type: ignore[arg-type]  # an enum's text
            async for data in connection:
                message = decode_server(data)
                if isinstance(message, StateMessage):
                    return message.previous
                if isinstance(message, ErrorMessage):
                    raise StreamError(f"{url}: {message.message}")
    except (OSError, InvalidHandshake, WebSocketException, TimeoutError) as error:
        raise StreamError(f"{url}: no engine answers there: {error}") from error
    raise StreamError(f"{url}: the engine closed the connection")
