"""CURVE on a socket: keys for the side that connects, keys and a gatekeeper for the other.

The gatekeeper is the ZAP handler (RFC 27) of a ZeroMQ context. It has a thread of its own, so a
flood of handshakes takes no turn of an event loop, and rereads the key store when it changes.
"""

import logging
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import zmq
import zmq.utils.z85

from engine.core.errors import ConfigError, LinkError
from feeds.keystore import Admitted, KeyStore

_log = logging.getLogger(__name__)
_ZAP: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"heqis"
_POLL_MS: Final = 100
_REREAD_S: Final = 0.1
_WARN_EVERY_S: Final = 5.0
_REQUEST_PARTS: Final = 7
_KEY_BYTES: Final = 32
_ACCEPTED: Final = "accepted"
_LET_IN: Final = b"200"
_NOT_NOW: Final = b"300"
"""Not 400: libzmq would never try again, not even after the key was authorized."""
_ENDED: Final = "the gatekeeper has died: nobody new is let in, nobody is cut off; restart it"
_RETRY_MS: Final = 100
_RETRY_MOST_MS: Final = 1000


class CurveClient:
    """What a connecting socket proves itself with, and whom it trusts.

    Args:
        keys: The directory of its key store.
        server_key: The public key that the other side must have.

    Raises:
        ConfigError: the store has no usable key pair, or has revoked ``server_key``.
    """

    def __init__(self, keys: Path, server_key: str) -> None:
        store = KeyStore(keys)
        self._own = store.own()
        self._server_key = server_key
        if server_key in store.admitted().revoked:
            expected = "give the key that the other side has now"
            raise ConfigError(keys, "server_key", server_key, f"it is revoked; {expected}")

    def secure(self, socket: "zmq.Socket[Any]") -> None:
        """Have a socket, not connected yet, speak CURVE only."""
        socket.setsockopt(zmq.RECONNECT_IVL, _RETRY_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RETRY_MOST_MS)
        socket.curve_serverkey = self._server_key.encode()
        socket.curve_publickey = self._own.public.encode()
        socket.curve_secretkey = self._own.secret.encode()


class Gatekeeper:
    """Lets into one ZeroMQ context whom a key store lets in; to be closed before the context ends.

    Only the thread of its owner calls its methods; its own thread answers handshakes.

    Attributes:
        counters: Handshakes let in, and refused by reason.

    Args:
        keys: The directory of the key store.

    Raises:
        ConfigError: the store cannot be used.
    """

    def __init__(self, keys: Path) -> None:
        self._store = KeyStore(keys)
        self._own = self._store.own()
        self._state = self._store.state()
        self._admitted = self._store.admitted()
        self._let_in = frozenset(self._admitted.names)
        self._tell_problems()
        self._cut: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._warned_s = -_WARN_EVERY_S
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.counters = dict.fromkeys(
            (_ACCEPTED, "refused_unknown", "refused_revoked", "refused_malformed"), 0
        )

    @property
    def public_key(self) -> str:
        """The key that the other side must be told."""
        return self._own.public

    @property
    def names(self) -> dict[str, str]:
        """Names by public key of those who are let in."""
        return dict(self._admitted.names)

    @property
    def problem(self) -> str:
        """Why some key is not let in that perhaps should be; "" if there is none."""
        if self._thread is not None and not self._thread.is_alive():
            return _ENDED
        return "; ".join(self._admitted.problems)

    @property
    def revoked(self) -> frozenset[str]:
        """Public keys that were revoked, as last read."""
        return self._admitted.revoked

    def guard(self, socket: "zmq.Socket[Any]", context: "zmq.Context[Any]") -> None:
        """Have a socket, not bound yet, speak CURVE only, with those who are let in.

        Raises:
            LinkError: the context has another ZAP handler.
        """
        if self._thread is None:
            self._begin(context)
        socket.curve_server = True
        socket.curve_secretkey = self._own.secret.encode()
        socket.zap_domain = _DOMAIN
        # Without it libzmq lets everybody in who speaks CURVE while there is no handler.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def take_cut(self) -> frozenset[str]:
        """Return the public keys that lost their right since the last call."""
        if not self._cut:
            return self._cut
        with self._lock:
            cut, self._cut = self._cut, frozenset()
        return cut

    def close(self) -> None:
        """End the thread; closing twice does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, context: "zmq.Context[Any]") -> None:
        socket = context.socket(zmq.REP)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.bind(_ZAP)
        except zmq.ZMQError as error:
            socket.close()
            raise LinkError(f"the context has a ZAP handler already: {error}") from error
        self._thread = threading.Thread(
            target=self._run, args=(socket,), name="heqis-gatekeeper", daemon=True
        )
        self._thread.start()

    def _run(self, socket: "zmq.Socket[bytes]") -> None:
        reread_s = time.monotonic() + _REREAD_S
        try:
            while not self._stop.is_set():
                if socket.poll(_POLL_MS):
                    socket.send_multipart(self._answer(socket.recv_multipart()))
                if time.monotonic() >= reread_s:
                    self._reread()
                    reread_s = time.monotonic() + _REREAD_S
        finally:
            socket.close()
            if not self._stop.is_set():
                _log.critical("keys: %s", _ENDED)

    def _answer(self, parts: list[bytes]) -> list[bytes]:
        verdict, key = self._judge(parts)
        self.counters[verdict] += 1
        if verdict != _ACCEPTED:
            address = parts[3].decode(errors="replace") if len(parts) > 3 else "somewhere"
            self._warn(f"refused a peer at {address[:64]}: {verdict}, its key begins {key[:8]!r}")
        request = parts[1] if len(parts) > 1 else b""
        status = _LET_IN if verdict == _ACCEPTED else _NOT_NOW
        return [b"1.0", request, status, b"", key.encode(), b""]

    def _judge(self, parts: list[bytes]) -> tuple[str, str]:
        """Return what a handshake counts as, and the public key, which becomes the user id."""
        if len(parts) != _REQUEST_PARTS or parts[0] != b"1.0" or parts[5] != b"CURVE":
            return "refused_malformed", ""
        if parts[2] != _DOMAIN or len(parts[6]) != _KEY_BYTES:
            return "refused_malformed", ""
        key = zmq.utils.z85.encode(parts[6]).decode()
        admitted = self._admitted
        if key in admitted.names:
            return _ACCEPTED, key
        return "refused_revoked" if key in admitted.revoked else "refused_unknown", key

    def _reread(self) -> None:
        """Take in a changed store; from one that cannot be read, nobody new is let in."""
        try:
            state = self._store.state()
            if state == self._state:
                return
            admitted = self._store.admitted()
        except (ConfigError, OSError) as error:
            self._warn(f"nobody new is let in: {error}")
            self._admitted = Admitted({}, self._admitted.revoked, (str(error),))
            self._state = ()
            return
        lost = self._let_in - admitted.names.keys()
        self._state, self._admitted = state, admitted
        self._let_in = frozenset(admitted.names)
        self._tell_problems()
        with self._lock:
            self._cut |= lost

    def _tell_problems(self) -> None:
        for problem in self._admitted.problems:
            _log.error("a key is not let in: %s", problem)

    def _warn(self, text: str) -> None:
        """Log at most one line in a while: a stranger decides how often this is called."""
        now_s = time.monotonic()
        if now_s - self._warned_s >= _WARN_EVERY_S:
            self._warned_s = now_s
            _log.warning("%s (so far %s)", text, self.counters)


def gatekeeper_of(keys: Path | None) -> Gatekeeper | None:
    """Return a gatekeeper of a key store, None without one.

    Raises:
        ConfigError: the store cannot be used.
    """
    return None if keys is None else Gatekeeper(keys)


def client_of(keys: Path | None, server_key: str | None) -> CurveClient | None:
    """Return what to connect with, None without a key store.

    Raises:
        ConfigError: the store cannot be used, or has revoked the key.
    """
    return None if keys is None or server_key is None else CurveClient(keys, server_key)
