"""Opens the stream's port: ``websockets`` behind a listener that chooses whom to serve."""

import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from engine.core.errors import StreamError
from engine.stream_auth import SUBPROTOCOL
from engine.stream_config import StreamConfig
from engine.stream_door import Door
from engine.stream_link import StreamConnection
from engine.stream_listener import StreamListener

NS_PER_S: Final = 1_000_000_000
BACKLOG: Final = 512
"""Connections the kernel holds for us while we are busy."""
LOGGER: Final = logging.getLogger("engine.stream.websockets")
LOGGER.addFilter(lambda record: record.msg != "opening handshake failed")
"""The library's own; a stranger's garbage is counted, and not a traceback in the log each time."""
LOGGER.setLevel(logging.INFO)
"""It writes every header, and so tokens, into a log that takes more."""


async def open_port(
    config: StreamConfig,
    door: Door,
    *,
    serve_client: Callable[[ServerConnection], Awaitable[None]],
    admit: Callable[[ServerConnection, Request], Response | None],
    prepare: Callable[[StreamConnection], None],
    counters: MutableMapping[str, int],
) -> Server:
    """Listen for clients.

    Args:
        config: Where, and the bounds.
        door: Decides who may knock, and encrypts.
        serve_client: Serves one client until it is gone.
        admit: Answers a request that is not to become a connection.
        prepare: Completes a connection before anything comes on it.
        counters: Counts refusals.

    Raises:
        StreamError: the port cannot be listened on.
    """
    listening = _bind(config)
    # Shared by all connections: what each has of its own, the garbage collector has to look at.
    origins = [None, *(Origin(origin) for origin in config.allowed_origins)]
    subprotocols = [Subprotocol(SUBPROTOCOL)]
    times = {
        "ping_interval": config.ping_interval / NS_PER_S,
        "ping_timeout": config.ping_timeout / NS_PER_S,
        "close_timeout": config.close_timeout / NS_PER_S,
    }
    open_s = config.open_timeout / NS_PER_S
    server = serve(
        serve_client,
        sock=listening,
        process_request=admit,
        server_header=None,
        open_timeout=open_s,
        logger=LOGGER,
    )

    def make() -> StreamConnection:
        protocol = ServerProtocol(
            origins=origins,
            subprotocols=subprotocols,
            select_subprotocol=_select,
            max_size=config.max_message_bytes,
            logger=LOGGER,
        )
        connection = StreamConnection(
            protocol, server, write_limit=config.send_buffer_bytes, **times
        )
        prepare(connection)
        return connection

    async def listen() -> Any:
        tls = None if door.tls is None else door.tls.context
        limits_s = (open_s, config.close_timeout / NS_PER_S)
        return StreamListener(listening, make, door.admission, tls, limits_s, counters)

    server.create_server = listen
    return await server


def _bind(config: StreamConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listening = socket.create_server((config.host, config.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"{config.host}:{config.port}"
        raise StreamError(f"cannot listen on {where}: {error.strerror}") from error
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, config.socket_buffer_bytes)
    return listening


def _select(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
