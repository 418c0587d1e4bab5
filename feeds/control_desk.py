"""The gateway's side of the control protocol, without a socket: who asks what, what is answered."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from feeds.control_messages import (
    PROTOCOL,
    Bye,
    ErrorReply,
    Hello,
    MessageError,
    NewInstruments,
    Ping,
    Pong,
    Reply,
    Request,
    Resend,
    StatusReply,
    Welcome,
    encode,
    parse_request,
)


class StreamFacts(NamedTuple):
    """What an engine must know of a stream to read it."""

    gateway: int
    epoch: int
    next_seq: int
    heartbeat_interval_ns: int
    instruments: bytes
    """INSTRUMENTS frames, one after the other."""


class ControlDesk:
    """Answers requests and remembers who is there; owned by the control server.

    Peers are those that said hello; the one unheard for longest goes when there are too many.

    Attributes:
        answered: Requests answered by type, and refused ones by reason.

    Args:
        facts: Tells of the stream now.
        status: Tells the gateway's counters now.
        max_peers: Most peers remembered.
        resend: Serves a request for records again and returns its reply; None while that is not
            to be had.
    """

    def __init__(
        self,
        facts: Callable[[], StreamFacts],
        status: Callable[[], dict[str, Any]],
        max_peers: int,
        resend: Callable[[bytes, Resend], Reply] | None = None,
    ) -> None:
        self._facts = facts
        self._status = status
        self._max_peers = max_peers
        self._resend = resend
        self._heard: OrderedDict[bytes, int] = OrderedDict()
        self.answered: dict[str, int] = {}

    @property
    def peers(self) -> tuple[bytes, ...]:
        """Identities of the peers that said hello."""
        return tuple(self._heard)

    def alive(self, mono_ns: int, timeout_ns: int) -> int:
        """Return how many peers were heard within the timeout."""
        return sum(mono_ns - heard <= timeout_ns for heard in self._heard.values())

    def answer(self, peer: bytes, parts: Sequence[bytes], wall_ns: int, mono_ns: int) -> bytes:
        """Return the reply to one message.

        Args:
            peer: The sender's identity.
            parts: The message's frames after the identity; one is expected.
            wall_ns: When it came, wall clock.
            mono_ns: The same on the monotonic clock.
        """
        try:
            if len(parts) != 1:
                raise MessageError("malformed", f"{len(parts)} frames, one is expected")  # noqa: TRY301 - one place makes the reply
            request = parse_request(parts[0])
        except MessageError as error:
            self._count(f"refused_{error.reason}")
            return encode(ErrorReply(error.reason, error.detail))
        self._note(peer, request, mono_ns)
        self._count(type(request).__name__.lower())
        return encode(self._reply(peer, request, wall_ns))

    def new_instruments(self) -> bytes:
        """Return the message for all peers when definitions changed."""
        facts = self._facts()
        return encode(NewInstruments(facts.epoch, facts.instruments))

    def bye(self) -> bytes:
        """Return the message for all peers when the gateway stops."""
        return encode(Bye(self._facts().epoch))

    def _reply(self, peer: bytes, request: Request, wall_ns: int) -> Reply:
        if isinstance(request, Hello):
            return Welcome(PROTOCOL, *self._facts())
        if isinstance(request, Ping):
            facts = self._facts()
            return Pong(request.t1, wall_ns, wall_ns, facts.epoch, facts.next_seq)
        if isinstance(request, Resend):
            if self._resend is None:
                return ErrorReply("unsupported", "this gateway does not send again")
            return self._resend(peer, request)
        return StatusReply(self._status())

    def _note(self, peer: bytes, request: Request, mono_ns: int) -> None:
        if peer in self._heard or isinstance(request, Hello):
            self._heard[peer] = mono_ns
            self._heard.move_to_end(peer)
        if len(self._heard) > self._max_peers:
            self._heard.popitem(last=False)
            self._count("peers_forgotten")

    def _count(self, what: str) -> None:
        self.answered[what] = self.answered.get(what, 0) + 1
