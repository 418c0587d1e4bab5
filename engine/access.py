"""How a client reaches a stream: its token, whom it trusts, and no secret in a log."""

import logging
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from engine.core.errors import StreamError
from engine.core.settings import is_loopback
from engine.tls import client_context, own_server_context

_LOGGER: Final = logging.getLogger("engine.client.websockets")
_LOGGER.setLevel(logging.INFO)
"""The library writes every header, and so the token, into a log that takes more."""


class Access:
    """What a client brings; its ``repr`` does not show the token.

    Args:
        token: As `heqis token new` printed it; None where none is asked for.
        ca: File of certificates to trust; None: the system's.
        own: The certificate of a server on this machine, trusted whatever its name.
    """

    __slots__ = ("_ca", "_own", "_token")

    def __init__(
        self, token: str | None = None, ca: Path | None = None, *, own: Path | None = None
    ) -> None:
        self._token = token
        self._ca = ca
        self._own = own

    def __repr__(self) -> str:
        return f"Access(token={'***' if self._token else None}, ca={self._ca!r})"

    @property
    def has_token(self) -> bool:
        """Whether there is a token."""
        return bool(self._token)

    def options(self, url: str) -> dict[str, Any]:
        """Return how to call ``websockets.asyncio.client.connect``.

        Raises:
            StreamError: the token would travel where others can read it.
            ConfigError: the certificates cannot be used.
        """
        parts = urlsplit(url)
        found: dict[str, Any] = {"compression": None, "logger": _LOGGER}
        own = is_loopback(parts.hostname or "")
        if own:
            found["proxy"] = None  # one of the environment would be sent the token in the clear
        if parts.scheme == "wss":
            found["ssl"] = self.context()
        elif self._token and not own:
            raise StreamError(f"{url}: a token is sent over wss:// only, or to this machine")
        if self._token:
            found["additional_headers"] = {"Authorization": f"Bearer {self._token}"}
        return found

    def context(self) -> ssl.SSLContext:
        """Return what the server is checked with.

        Raises:
            ConfigError: the certificates cannot be used.
        """
        return own_server_context(self._own) if self._own else client_context(self._ca)


def refusal(status: int) -> str:
    """Return what an HTTP status in place of a connection means."""
    return {
        401: "a token is needed, or this one is unknown, expired or revoked (see `heqis token`)",
        403: "this origin is not in stream.allowed_origins",
        503: "it has too many connections, or is stopping",
    }.get(status, "no stream there")
