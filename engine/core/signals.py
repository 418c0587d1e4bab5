"""The signal: what passes the risk gate, and the id that recognises it when made twice."""

import hashlib
import struct
from typing import Any, Final, Literal

import msgspec

from engine.core.models import Score

Side = Literal["BUY", "SELL"]

SIDES: Final[dict[int, Side]] = {1: "BUY", -1: "SELL"}
_PLACE: Final = struct.Struct("<QQ").pack
_FURTHER: Final = struct.Struct("<I").pack


class Signal(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One risk-checked trading signal.

    Times are int64 nanoseconds of the wall clock; ``ts_emit`` is the engine's (virtual in replay).
    ``seq`` counts the signals of one stream epoch from 1. ``tick_seq`` is the gateway's sequence
    number of the tick that caused it. What is said of a model stands only on signals that one had
    a part in.
    """

    id: str
    epoch: int
    seq: int
    instrument: str
    side: Side
    strength: float
    confidence: float
    price: float
    edge_bps: float | None
    strategy: str
    version: str
    tick_epoch: int
    tick_seq: int
    ts_event: int
    ts_recv: int
    ts_emit: int
    valid_until: int
    age_ns: int
    """ts_emit - ts_event: how old the market fact was when the signal left."""
    gates: tuple[str, ...]
    """The gates it passed, in order."""
    model: str | None = None
    """The bundle: ``name@version-hash``."""
    backend: str | None = None
    device: str | None = None
    precision: str | None = None
    queue_ns: int | None = None
    """How long the request for the score waited for its batch."""
    service_ns: int | None = None
    """How long its batch took."""
    late: bool = False
    """It was made again after a restart, and not when its tick came; ``age_ns`` says how late."""


def scored(signal: Signal, score: Score) -> Signal:
    """Return the signal with what is told of the score behind it."""
    return msgspec.structs.replace(
        signal,
        model=score.bundle,
        backend=score.backend,
        device=score.device,
        precision=score.precision,
        queue_ns=score.queue_ns,
        service_ns=score.service_ns,
    )


class SignalIds:
    """Makes signal ids for one (strategy, version, parameters, instrument).

    An id is the first 16 bytes, as hex, of BLAKE2b over the four names, the gateway's epoch and
    the tick's sequence number: the same signal made twice, live, after a restart or in a replay,
    has the same id. Further proposals on one tick count on from 1, and the count goes in too.
    """

    __slots__ = ("_prefix",)

    def __init__(self, strategy: str, version: str, parameters: str, instrument: str) -> None:
        prefix = hashlib.blake2b(digest_size=16)
        for part in (strategy, version, parameters, instrument):
            encoded = part.encode()
            prefix.update(len(encoded).to_bytes(4, "little") + encoded)
        self._prefix = prefix

    def make(self, epoch: int, tick_seq: int, further: int = 0) -> str:
        """Return the id, 32 hex characters, of the signal caused by one tick."""
        state = self._prefix.copy()
        state.update(_PLACE(epoch, tick_seq))
        if further:
            state.update(_FURTHER(further))
        return state.hexdigest()


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A candidate the risk gate refused, and why."""

    id: str
    instrument: str
    strategy: str
    side: Side | Literal["NONE"]
    """NONE where only a score would have told the side, and there was none."""
    gate: str
    """One of the risk gate's four, or "model" where a score was wanting."""
    reason: str
    tick_epoch: int
    tick_seq: int
    ts_event: int
    ts_refused: int
    detail: str = ""


def as_fields(record: Signal | Refusal) -> dict[str, Any]:
    """Return the record as a plain dictionary, in field order."""
    return msgspec.structs.asdict(record)
