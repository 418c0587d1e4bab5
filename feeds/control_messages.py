"""The control channel's messages: one JSON object a message, told apart by ``type``; pure.

The engine asks (``hello``, ``ping``, ``status``, ``resend``), the gateway answers; to ``resend``
with a second part, the frames. Whatever is not such a message is answered with
``{"type": "error", ...}`` and counted. Times are wall-clock nanoseconds, ``instruments`` are
INSTRUMENTS frames lying one after the other, in base64.
"""

from typing import Annotated, Any, Final

import msgspec

from engine.core.errors import LinkError

PROTOCOL: Final = 1
"""Version of the control protocol; both sides must have the same."""
MAX_REQUEST_BYTES: Final = 16_384
MAX_REPLY_BYTES: Final = 16 << 20
"""Room for the definitions of MAX_INSTRUMENTS instruments."""
_NAME_CHARACTERS: Final = 128
UNSUPPORTED: Final = "unsupported"
"""Reason of the error that answers a resend where none is to be had."""
BUSY: Final = "resend_busy"
"""Reason of the error that answers a resend asked for too soon."""
UNKNOWN_PEER: Final = "unknown_peer"
"""Reason of the error that answers a ping of who has not said hello, or has been forgotten."""

Nanoseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The engine introduces itself; answered by Welcome."""

    protocol: int
    name: str


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """The engine's heartbeat and clock question; answered by Pong, a stranger's by an error."""

    t1: Nanoseconds


class StatusRequest(msgspec.Struct, frozen=True, tag="status"):
    """Asks for the gateway's counters; answered by Status."""


class Resend(msgspec.Struct, frozen=True, tag="resend"):
    """Asks for records again; answered by Resent, or by an error that says why not."""

    epoch: Count
    first_seq: Count
    count: Count


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """The engine stops by decision; answered by Bye."""

    returns: bool
    """It means to be back at once."""


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The stream as it is now."""

    protocol: int
    gateway: Count
    epoch: Count
    next_seq: Count
    heartbeat_interval_ns: Nanoseconds
    instruments: bytes


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The gateway's heartbeat: when the ping left there, came here, and this left here."""

    t1: Nanoseconds
    t2: Nanoseconds
    t3: Nanoseconds
    epoch: Count
    next_seq: Count


class NewInstruments(msgspec.Struct, frozen=True, tag="instruments"):
    """All definitions, sent unasked when some are new or changed."""

    epoch: Count
    instruments: bytes


class StatusReply(msgspec.Struct, frozen=True, tag="status"):
    """The gateway's counters."""

    status: dict[str, Any]


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """The gateway stops by decision."""

    epoch: Count


class Resent(msgspec.Struct, frozen=True, tag="resent"):
    """Records again: the frames that hold them follow as the message's second part.

    They lie one after the other, flagged FrameFlag.RESEND, in order, definitions among them. They
    may begin before ``first_seq``. What the frames skip between ``first_seq`` and ``next_seq`` is
    gone for good.
    """

    gateway: Count
    epoch: Count
    first_seq: Count
    """As asked for."""
    next_seq: Count
    """One past the last number that this answer speaks of; ask again from here."""
    first_held: Count
    """The epoch's oldest number that is still held; 0 if nothing of it is."""
    end_seq: Count
    """One past the epoch's newest number that is known; 0 if nothing is known of the epoch."""
    next_epoch: Count
    """The epoch that came after it, 0 if none is known."""
    torn: bool = False
    """Nobody knows whether more was sent after ``end_seq``."""


class Restart(msgspec.Struct, frozen=True, tag="restart"):
    """Asks the engine to end in order and begin anew; sent unasked."""

    reason: str


class ErrorReply(msgspec.Struct, frozen=True, tag="error"):
    """A message that was not understood or not granted."""

    reason: str
    detail: str = ""


Request = Hello | Ping | StatusRequest | Resend | Leave
Reply = Welcome | Pong | NewInstruments | StatusReply | Resent | Bye | Restart | ErrorReply

_requests: Final = msgspec.json.Decoder(Request)
_replies: Final = msgspec.json.Decoder(Reply)
_encoder: Final = msgspec.json.Encoder()


class MessageError(LinkError):
    """A control message that is not one.

    Args:
        reason: One word for the counter and the answer.
        detail: What was found.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def encode(message: Request | Reply) -> bytes:
    """Make the bytes of one message."""
    return _encoder.encode(message)


def parse_request(payload: bytes) -> Request:
    """Read what an engine sent.

    Raises:
        MessageError: oversized, malformed, or of another protocol.
    """
    if len(payload) > MAX_REQUEST_BYTES:
        raise MessageError("oversized", f"{len(payload)} bytes, at most {MAX_REQUEST_BYTES}")
    try:
        request: Request = _requests.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("malformed", str(error)) from None
    if isinstance(request, Hello):
        _check_hello(request)
    return request


def parse_reply(payload: bytes) -> Reply:
    """Read what a gateway sent.

    Raises:
        MessageError: oversized, malformed, or of another protocol.
    """
    if len(payload) > MAX_REPLY_BYTES:
        raise MessageError("oversized", f"{len(payload)} bytes, at most {MAX_REPLY_BYTES}")
    try:
        reply: Reply = _replies.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("malformed", str(error)) from None
    if isinstance(reply, Welcome) and reply.protocol != PROTOCOL:
        raise MessageError("protocol", f"gateway speaks {reply.protocol}, this is {PROTOCOL}")
    return reply


def _check_hello(hello: Hello) -> None:
    if hello.protocol != PROTOCOL:
        raise MessageError("protocol", f"engine speaks {hello.protocol}, this is {PROTOCOL}")
    if len(hello.name) > _NAME_CHARACTERS:
        raise MessageError("malformed", f"a name has at most {_NAME_CHARACTERS} characters")
