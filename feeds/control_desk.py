"""The gateway's side of the control protocol, without a socket: who asks what, what is answered."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from feeds.control_messages import (
    PROTOCOL,
    UNKNOWN_PEER,
    UNSUPPORTED,
    Bye,
    ErrorReply,
    Hello,
    Leave,
    MessageError,
    NewInstruments,
    Ping,
    Pong,
    Reply,
    Request,
    Resend,
    Resent,
    Restart,
    StatusReply,
    Welcome,
    encode,
    parse_request,
)

Serve = Callable[[bytes, Resend, int], tuple[Resent | ErrorReply, bytes]]
"""Takes a peer, its request and the monotonic time, ns; returns the answer and its frames."""


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

    Peers are those that said hello; the one unheard for longest goes when there are too
    many, and learns it at its next ping.

    Attributes:
        answered: Requests answered by type, and refused ones by reason.

    Args:
        facts: Tells of the stream now.
        status: Tells the gateway's counters now.
        max_peers: Most peers remembered.
        resend: Serves a request for records again; None where that is not to be had.
    """

    def __init__(
        self,
        facts: Callable[[], StreamFacts],
        status: Callable[[], dict[str, Any]],
        max_peers: int,
        resend: Serve | None = None,
    ) -> None:
        self._facts = facts
        self._status = status
        self._max_peers = max_peers
        self._resend = resend
        self._heard: OrderedDict[bytes, int] = OrderedDict()
        self._names: dict[bytes, str] = {}
        self._parted: set[str] = set()
        self._just_parted: list[str] = []
        self.answered: dict[str, int] = {}

    @property
    def peers(self) -> tuple[bytes, ...]:
        """Identities of the peers that said hello."""
        return tuple(self._heard)

    def alive(self, mono_ns: int, timeout_ns: int) -> int:
        """Return how many peers were heard within the timeout."""
        return sum(mono_ns - heard <= timeout_ns for heard in self._heard.values())

    def silences(self, mono_ns: int) -> dict[str, int]:
        """Return for how long each peer has not been heard, by name, nanoseconds."""
        found: dict[str, int] = {}
        for peer, heard_ns in self._heard.items():
            name, silent_ns = self._names[peer], mono_ns - heard_ns
            found[name] = min(silent_ns, found.get(name, silent_ns))
        return found

    @property
    def all_parted(self) -> bool:
        """Whether every peer that ever was has said that it stops, and will not be back."""
        return bool(self._parted) and not self._heard

    def take_parted(self) -> list[str]:
        """Return the peers that have parted since the last call."""
        parted, self._just_parted = self._just_parted, []
        return parted

    def restart(self, reason: str) -> bytes:
        """Return the message that asks a peer to begin anew."""
        return encode(Restart(reason))

    def answer(
        self, peer: bytes, parts: Sequence[bytes], wall_ns: int, mono_ns: int
    ) -> tuple[bytes, ...]:
        """Return the parts of the reply to one message: one, or two if frames go with it.

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
            return (encode(ErrorReply(error.reason, error.detail)),)
        self._note(peer, request, mono_ns)
        if isinstance(request, Ping) and peer not in self._names:
            self._count(f"refused_{UNKNOWN_PEER}")
            return (encode(ErrorReply(UNKNOWN_PEER, "say hello")),)
        self._count(type(request).__name__.lower())
        if isinstance(request, Resend):
            return self._send_again(peer, request, mono_ns)
        return (encode(self._reply(request, wall_ns)),)

    def new_instruments(self) -> bytes:
        """Return the message for all peers when definitions changed."""
        facts = self._facts()
        return encode(NewInstruments(facts.epoch, facts.instruments))

    def bye(self) -> bytes:
        """Return the message for all peers when the gateway stops."""
        return encode(Bye(self._facts().epoch))

    def _send_again(self, peer: bytes, request: Resend, mono_ns: int) -> tuple[bytes, ...]:
        if self._resend is None:
            return (encode(ErrorReply(UNSUPPORTED, "this gateway does not send again")),)
        head, frames = self._resend(peer, request, mono_ns)
        if isinstance(head, ErrorReply):
            self._count(f"refused_{head.reason}")
            return (encode(head),)
        return (encode(head), frames)

    def _reply(self, request: Request, wall_ns: int) -> Reply:
        if isinstance(request, Hello):
            return Welcome(PROTOCOL, *self._facts())
        if isinstance(request, Ping):
            facts = self._facts()
            return Pong(request.t1, wall_ns, wall_ns, facts.epoch, facts.next_seq)
        if isinstance(request, Leave):
            return Bye(self._facts().epoch)
        return StatusReply(self._status())

    def _note(self, peer: bytes, request: Request, mono_ns: int) -> None:
        if isinstance(request, Leave):
            self._part(peer, request)
            return
        if isinstance(request, Hello):
            self._names[peer] = request.name
            self._parted.discard(request.name)
        if peer in self._names:
            self._heard[peer] = mono_ns
            self._heard.move_to_end(peer)
        if len(self._heard) > self._max_peers:
            forgotten, _ = self._heard.popitem(last=False)
            del self._names[forgotten]
            self._count("peers_forgotten")

    def _part(self, peer: bytes, leave: Leave) -> None:
        """Forget a peer that stops by decision; one that means to be back goes on being missed."""
        name = self._names.get(peer)
        if name is None or leave.returns:
            return
        for one in [one for one, called in self._names.items() if called == name]:
            del self._names[one]
            self._heard.pop(one, None)
        if len(self._parted) < self._max_peers:
            self._parted.add(name)
            self._just_parted.append(name)

    def _count(self, what: str) -> None:
        self.answered[what] = self.answered.get(what, 0) + 1
