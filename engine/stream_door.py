"""The stream's door: asks for a token, knows when its right ends, encrypts."""

import logging
import time
from collections.abc import Iterable, MutableMapping
from typing import Final

from engine.stream_admission import Admission, DoorLimits
from engine.stream_auth import OPEN, Denied, Grant, bearer_of
from engine.stream_config import StreamConfig
from engine.tls import ServerTls
from engine.token_store import FollowedTokens

_log = logging.getLogger(__name__)
_WARN_EVERY_S: Final = 5.0


class Door:
    """Owned by the loop thread; ``refresh`` it now and then.

    Attributes:
        admission: Decides who may knock.
        tls: The certificate; None without TLS.

    Args:
        config: What is asked of those who come.
        counters: Counts refusals.

    Raises:
        ConfigError: tokens or certificate cannot be used.
    """

    def __init__(self, config: StreamConfig, counters: MutableMapping[str, int]) -> None:
        self._tokens = None if config.tokens is None else FollowedTokens(config.tokens)
        self.tls = None if config.tls is None else ServerTls(config.tls)
        self.admission = Admission(
            DoorLimits(
                config.handshakes_per_s,
                config.handshake_burst,
                config.max_connections_per_address,
                config.max_handshaking,
            )
        )
        self._counters = counters
        self._warned_s = -_WARN_EVERY_S

    @property
    def asks(self) -> bool:
        """Whether a token is asked for."""
        return self._tokens is not None

    @property
    def problems(self) -> list[str]:
        """What is wrong with tokens or certificate now."""
        parts = {"tokens": self._tokens, "tls": self.tls}
        return [f"{name}: {part.problem}" for name, part in parts.items() if part and part.problem]

    def judge(
        self, authorization: Iterable[str], protocols: Iterable[str], address: str
    ) -> Grant | Denied:
        """Return what a client may do, or why nothing, which is counted.

        Args:
            authorization: Values of the request's header of this name.
            protocols: Values of ``Sec-WebSocket-Protocol``.
            address: Whose it is, for the log.
        """
        if self._tokens is None:
            return OPEN
        if self._tokens.problem:
            return self._deny(Denied.UNKNOWN, address)
        token = bearer_of(authorization, protocols)
        verdict = self._tokens.book.judge(token, time.time_ns())
        return self._deny(verdict, address) if isinstance(verdict, Denied) else verdict

    def end_of(self, grant: Grant) -> Denied | None:
        """Return why a grant holds no longer, None while it does."""
        if self._tokens is None:
            return None
        return self._tokens.book.end_of(grant, time.time_ns())

    def refresh(self) -> None:
        """Follow what changed on disk."""
        for part in (self._tokens, self.tls):
            if part is None:
                continue
            before = part.problem
            part.refresh()
            if part.problem and part.problem != before:
                _log.error("%s", part.problem)

    def _deny(self, denied: Denied, address: str) -> Denied:
        self._counters[denied] += 1
        now_s = time.monotonic()
        if now_s - self._warned_s >= _WARN_EVERY_S:
            self._warned_s = now_s
            _log.warning("refused a client at %s: %s", address[:64], denied.value)
        return denied
