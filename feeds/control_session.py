"""The engine's side of the control protocol, without a socket: when to ask, what was heard."""

from feeds.config import LinkConfig
from feeds.control_messages import (
    PROTOCOL,
    UNKNOWN_PEER,
    Bye,
    ErrorReply,
    Hello,
    MessageError,
    Ping,
    Pong,
    Reply,
    Welcome,
    encode,
    parse_reply,
)
from latency.offset import OffsetEstimate, OffsetEstimator


class ControlSession:
    """Says hello until it is welcome, then pings; owned by the control client.

    Attributes:
        welcome: The gateway's latest welcome that still holds, None before and after it.
        heard_ns: Monotonic time at which the gateway was last heard, None before that.
        estimate: The gateway's clock offset, None until a ping was answered.
        counters: Messages by type, sent and received, and refused ones by reason.

    Args:
        config: Intervals and timeouts.
        name: What the engine calls itself.
    """

    def __init__(self, config: LinkConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._offset = OffsetEstimator(config.offset_window)
        self._due_ns: int | None = None
        self._greeted_ns: int | None = None
        self.heard_ns: int | None = None
        self.welcome: Welcome | None = None
        self.estimate: OffsetEstimate | None = None
        self.counters: dict[str, int] = {}

    def peer_alive(self, mono_ns: int) -> bool:
        """Whether the gateway was heard within the timeout and has not said goodbye."""
        return self.heard_ns is not None and mono_ns - self.heard_ns <= self._config.peer_timeout

    def wait_ns(self, mono_ns: int) -> int:
        """Return how long nothing needs to be sent."""
        return 0 if self._due_ns is None else max(0, self._due_ns - mono_ns)

    def outgoing(self, mono_ns: int, wall_ns: int) -> bytes | None:
        """Return the message that is due, if one is."""
        if self.wait_ns(mono_ns) > 0:
            return None
        if self.welcome is None:
            self._greeted_ns = mono_ns
            self._due_ns = mono_ns + self._config.hello_retry
            self._count("sent_hello")
            return encode(Hello(PROTOCOL, self._name))
        self._due_ns = mono_ns + self._config.ping_interval
        self._count("sent_ping")
        return encode(Ping(wall_ns))

    def incoming(self, payload: bytes, mono_ns: int, wall_ns: int) -> Reply | None:
        """Take one message in.

        Returns:
            The message, None if it was not one (that is counted).
        """
        try:
            reply = parse_reply(payload)
        except MessageError as error:
            self._count(f"refused_{error.reason}")
            return None
        self._count(f"received_{type(reply).__name__.lower()}")
        self.heard_ns = mono_ns
        if isinstance(reply, Welcome):
            self.welcome = reply
            self._due_ns = mono_ns
        elif isinstance(reply, Pong):
            self._on_pong(reply, mono_ns, wall_ns)
        elif isinstance(reply, Bye):
            self._part(mono_ns)
            self.heard_ns = None
        elif isinstance(reply, ErrorReply) and reply.reason == UNKNOWN_PEER:
            self._greet_anew(mono_ns)
        return reply

    def _on_pong(self, pong: Pong, mono_ns: int, wall_ns: int) -> None:
        self.estimate = self._offset.add(pong.t1, pong.t2, pong.t3, wall_ns)
        if self.welcome is not None and pong.epoch != self.welcome.epoch:
            self._part(mono_ns)

    def _greet_anew(self, mono_ns: int) -> None:
        """Say hello to a gateway that has forgotten us, no sooner after the last than a retry."""
        last_ns = self._greeted_ns
        self._part(mono_ns)
        if last_ns is not None:
            self._due_ns = max(mono_ns, last_ns + self._config.hello_retry)

    def _part(self, mono_ns: int) -> None:
        """Forget the stream that ended; say hello to what follows."""
        self.welcome = None
        self._due_ns = mono_ns

    def _count(self, what: str) -> None:
        self.counters[what] = self.counters.get(what, 0) + 1
