"""Key stores of an engine, its gateway and strangers, made in a test's directory."""

from pathlib import Path
from typing import Any, NamedTuple

import zmq

from feeds.curve import CurveClient
from feeds.keystore import KeyStore


class Stores(NamedTuple):
    """Engine and gateway let each other in; the stranger's key nobody knows."""

    engine: KeyStore
    gateway: KeyStore
    stranger: KeyStore

    @property
    def link(self) -> dict[str, Any]:
        """Keys of ``[link]``."""
        return {"keys": self.engine.directory, "server_key": self.gateway.own().public}

    @property
    def gateway_keys(self) -> dict[str, Any]:
        """Keys of ``[gateway]``."""
        return {"keys": self.gateway.directory, "server_keys": [self.engine.own().public]}


def make_stores(root: Path) -> Stores:
    """Make three stores; engine and gateway know each other."""
    stores = Stores(*(KeyStore(root / name) for name in Stores._fields))
    for store in stores:
        store.create()
    stores.engine.authorize("gateway", stores.gateway.own().public)
    stores.gateway.authorize("engine", stores.engine.own().public)
    return stores


def knocker(
    context: "zmq.Context[Any]", kind: int, endpoint: str, curve: CurveClient | None
) -> "zmq.Socket[Any]":
    """Connect a socket of whatever right to an endpoint."""
    socket: zmq.Socket[Any] = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    if curve is not None:
        curve.secure(socket)
    socket.connect(endpoint)
    return socket
