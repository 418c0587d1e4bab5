"""What a request to the stream's port is answered before it becomes a connection."""

from collections.abc import Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from engine.stream_auth import Denied, Grant, Scope
from engine.stream_door import Door
from engine.stream_link import StreamConnection


class Health(NamedTuple):
    """What ``GET /health`` answers: status 200 if ``good``, else 503, and the facts as JSON."""

    good: bool
    facts: Mapping[str, Any]


class Reception:
    """The one place where a client is let in.

    Args:
        door: Knows who may.
        counters: Counts refusals.
        health: Answers ``GET /health``.
        is_full: Tells whether there are as many clients as there may be.
    """

    def __init__(
        self,
        door: Door,
        counters: MutableMapping[str, int],
        health: Callable[[], Health],
        is_full: Callable[[], bool],
    ) -> None:
        self._door = door
        self._counters = counters
        self._health = health
        self._is_full = is_full

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to a request that is not to become a connection; None if it is."""
        path = request.path.partition("?")[0]
        if path == "/health":
            return self._answer_health(connection, request)
        if path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "no such page\n")
        verdict = self._judge(connection, request)
        if isinstance(verdict, Denied):
            response = connection.respond(HTTPStatus.UNAUTHORIZED, "a valid token is needed\n")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if self._is_full():
            self._counters["refused_connections"] += 1
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        if isinstance(connection, StreamConnection):
            connection.grant = verdict
        return None

    def _judge(self, connection: ServerConnection, request: Request) -> Grant | Denied:
        address = connection.remote_address
        return self._door.judge(
            request.headers.get_all("Authorization"),
            request.headers.get_all("Sec-WebSocket-Protocol"),
            str(address[0]) if address else "",
        )

    def _answer_health(self, connection: ServerConnection, request: Request) -> Response:
        """Tell a stranger, where a token is asked for, whether all is well and nothing else."""
        health = self._health()
        facts = dict(health.facts)
        if self._door.asks and not self._may_read(connection, request):
            facts = {"healthy": health.good}
        status = HTTPStatus.OK if health.good else HTTPStatus.SERVICE_UNAVAILABLE
        body = orjson.dumps(facts, default=str)
        headers = Headers(
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("Connection", "close"),
            ]
        )
        return Response(status, status.phrase, headers, body)

    def _may_read(self, connection: ServerConnection, request: Request) -> bool:
        if "Authorization" not in request.headers:
            return False
        verdict = self._judge(connection, request)
        return isinstance(verdict, Grant) and Scope.READ in verdict.scopes
