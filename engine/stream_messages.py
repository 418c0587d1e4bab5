"""Every message of the stream protocol, both ways; ``docs/asyncapi.yaml`` describes the same.

Each is one JSON object in one text frame, told apart by ``type``.
"""

from enum import IntEnum, StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from engine.core.signals import Side, Signal

PROTOCOL: Final = 1
"""Version of the protocol, said in ``welcome``."""

MAX_INTEGER: Final = 2**53 - 1
"""Largest integer every JSON reader keeps exactly."""

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Sequence = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
OnSlow = Literal["disconnect", "conflate"]
Topic = Literal["signals", "status", "data"]
GateState = Literal["active", "reducing", "halted"]


class CloseCode(IntEnum):
    """Why the server closed a connection."""

    GOING_AWAY = 1001
    POLICY = 1008
    """Flood, or too many messages that are not of the protocol."""
    TRY_AGAIN = 1013
    """Too many connections."""
    ACCESS_ENDED = 4001
    """The token has expired or was revoked."""
    TOO_SLOW = 4008
    """Fell further behind than allowed; reconnect with ``from_seq`` to get the rest."""


class GapReason(StrEnum):
    """Why signals are missing from a subscription."""

    CONFLATED = "conflated"
    """Client too slow: of the range only the newest of each instrument and strategy follow."""
    PRUNED = "pruned"
    """No longer, or not readable, in memory or journal."""
    EPOCH_CHANGED = "epoch_changed"
    """An epoch is over; what was published at its end and not committed cannot be told."""
    AHEAD = "ahead"
    """``from_seq`` has not been reached in this epoch."""
    CHAIN_BROKEN = "chain_broken"
    """Found by the client: ``prev`` is not the last signal it received."""


class Subscribe(Struct, tag_field="type", tag="subscribe", forbid_unknown_fields=True, frozen=True):
    """Ask for signals (those that pass every filter given), status, or gaps in the market data."""

    id: Name = "main"
    instruments: list[Name] | None = None
    strategies: list[Name] | None = None
    sides: list[Side] | None = None
    min_confidence: Annotated[float, Meta(ge=0, le=1)] | None = None
    from_seq: Sequence | None = None
    epoch: Sequence | None = None
    on_slow: OnSlow = "disconnect"
    topics: Annotated[tuple[Topic, ...], Meta(min_length=1, max_length=3)] = ("signals",)


class Unsubscribe(
    Struct, tag_field="type", tag="unsubscribe", forbid_unknown_fields=True, frozen=True
):
    """End a subscription."""

    id: Name = "main"


class Ping(Struct, tag_field="type", tag="ping", forbid_unknown_fields=True, frozen=True):
    """Ask for a ``pong``; ``id`` comes back in it."""

    id: Annotated[str, Meta(max_length=128)] = ""


class SetState(Struct, tag_field="type", tag="set_state", forbid_unknown_fields=True, frozen=True):
    """An operator's command on the risk gate; answered by ``state``, and journaled."""

    state: GateState
    id: Annotated[str, Meta(max_length=128)] = ""


class Operate(Struct, tag_field="type", tag="operate", forbid_unknown_fields=True, frozen=True):
    """An operator's command; answered by ``operated``, and journaled.

    ``reload``: read the configuration again; nothing else is given.
    ``model_swap`` and ``model_shadow``: ``value`` is a bundle's directory on the engine's machine,
    for ``model_shadow`` "" to end it. ``device_fault``: ``model`` is a device, ``value`` the fault
    to play there, "" to end it; only where the configuration allows it.
    """

    command: Literal["model_swap", "model_shadow", "device_fault", "reload"]
    model: Annotated[str, Meta(max_length=128)] = ""
    value: Annotated[str, Meta(max_length=4096)] = ""
    id: Annotated[str, Meta(max_length=128)] = ""


ClientMessage = Subscribe | Unsubscribe | Ping | SetState | Operate


class Welcome(Struct, tag_field="type", tag="welcome", frozen=True):
    """First message of a connection."""

    protocol: int
    epoch: int
    head_seq: int
    heartbeat_interval_ms: int


class Subscribed(Struct, tag_field="type", tag="subscribed", frozen=True):
    """A subscription began; ``next_seq`` is the first sequence number it considers."""

    sub: str
    epoch: int
    head_seq: int
    next_seq: int


class Unsubscribed(Struct, tag_field="type", tag="unsubscribed", frozen=True):
    """A subscription ended."""

    sub: str


class SignalMessage(Struct, tag_field="type", tag="signal", frozen=True):
    """One signal; ``prev`` is the sequence number of the one sent before it, 0 at first."""

    sub: str
    prev: int
    signal: Signal


class GapMessage(Struct, tag_field="type", tag="gap", frozen=True):
    """Signals ``from_seq`` to ``to_seq`` of an epoch were not sent; ``to_seq`` null: unknown.

    With ``snapshot`` true one or more snapshot messages follow, before any other signal. Where the
    epoch changed, ``next_epoch`` is the one that the numbers after it belong to.
    """

    sub: str
    epoch: int
    from_seq: int
    to_seq: int | None
    reason: str
    snapshot: bool
    next_epoch: int | None = None


class SnapshotMessage(Struct, tag_field="type", tag="snapshot", frozen=True):
    """Latest signal of each instrument and strategy up to the end of the gap, in pages."""

    sub: str
    signals: list[Signal]
    more: bool


class Heartbeat(Struct, tag_field="type", tag="heartbeat", frozen=True):
    """The stream lives.

    Every signal up to ``sent_seq`` that passes a filter of this connection's subscriptions has
    been sent on it: the place to resume from.
    """

    epoch: int
    head_seq: int
    sent_seq: int
    ts: int


class StatusMessage(Struct, tag_field="type", tag="status", frozen=True):
    """The engine's state, as ``GET /health`` and the terminal view show it."""

    ts: int
    status: dict[str, Any]


class DataGap(Struct, tag_field="type", tag="data_gap", frozen=True):
    """Market data did not come, and will not: every indicator warms up again from here.

    Records ``first_missing`` and the ``missing - 1`` after it of a gateway's epoch. Where a new
    epoch began, ``previous_*`` say what is missing from the end of the one before.
    """

    ts: int
    nth: int
    """Counts data gaps from 1 since the engine started: a hole tells that one was not sent."""
    gateway: int
    epoch: int
    first_missing: int
    missing: int
    reason: str
    """``gone``: nobody holds it any more; ``unanswered``, ``unasked``, ``unsupported``: the gateway
    did not, could not be asked to, or cannot send it again; "": the link fetches nothing."""
    previous_epoch: int | None = None
    previous_first_missing: int | None = None
    previous_missing: int | None = None
    """None with a ``previous_epoch``: nobody knows how many."""


class Pong(Struct, tag_field="type", tag="pong", frozen=True):
    """Answer to ``ping``; ``ts`` is the server's wall clock in nanoseconds."""

    id: str
    ts: int


class StateMessage(Struct, tag_field="type", tag="state", frozen=True):
    """Answer to ``set_state``: what the risk gate is now, and was before.

    It comes when the command is on the disk; ``problem`` says why it is not, "" if it is.
    """

    id: str
    state: GateState
    previous: GateState
    problem: str = ""


class Operated(Struct, tag_field="type", tag="operated", frozen=True):
    """Answer to ``operate``: what came of it.

    ``problem`` is "" if it was done and is on the disk.
    """

    id: str
    problem: str
    result: dict[str, Any]


class ErrorMessage(Struct, tag_field="type", tag="error", frozen=True):
    """What was wrong with a client's message."""

    code: str
    message: str


ServerMessage = (
    Welcome | Subscribed | Unsubscribed | SignalMessage | GapMessage | SnapshotMessage
    | Heartbeat | StatusMessage | DataGap | Pong | StateMessage | Operated | ErrorMessage
)  # fmt: skip

encode: Final = msgspec.json.Encoder().encode
decode_client: Final = msgspec.json.Decoder(ClientMessage).decode
decode_server: Final = msgspec.json.Decoder(ServerMessage).decode
