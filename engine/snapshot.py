"""The engine at one moment: all trading state, its place in every stream and in the journal.

Pure. Taken between two bursts as plain copies; a file is made of it elsewhere
(``engine.snapshot_file``).
"""

import hashlib
import inspect
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from engine.composition import Blueprint
from engine.core.errors import SnapshotError
from engine.pipeline import Pipeline, PipelineState, StrategyFacts
from engine.risk.config import RiskConfig

FORMAT: Final = 1
"""Version of what a snapshot holds."""
AHEAD_NS: Final = 60 * 10**9
"""A snapshot this far ahead of the wall clock is of another one."""


class StreamPlace(msgspec.Struct, frozen=True):
    """The next record that is wanted of a gateway's stream."""

    gateway: int
    epoch: int
    next_seq: int


class RecordingPlace(msgspec.Struct, frozen=True):
    """Where in the engine's own recording the next frame will stand.

    Attributes:
        session: Epoch of the session, which names its log.
        file: Name of the segment.
        offset: Bytes of the segment that were accepted before.
    """

    session: int
    file: str
    offset: int


class JournalPlace(msgspec.Struct, frozen=True):
    """The sequence number that the next signal of the journal will have."""

    epoch: int
    next_seq: int


class Snapshot(msgspec.Struct, frozen=True):
    """One moment.

    Attributes:
        taken_ns: Wall clock.
        kernel_key: Of the compiled kernel whose state this is.
        identity: Of everything else that gives the state its meaning; see ``identity_of``.
        streams: Its place in every gateway's stream.
        recording: Its place in the recording, None if there was none.
        journal: Its place in the journal.
        pipeline: The state.
    """

    taken_ns: int
    kernel_key: str
    identity: str
    streams: list[StreamPlace]
    recording: RecordingPlace | None
    journal: JournalPlace
    pipeline: PipelineState


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Snapshot).decode


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the snapshot's bytes."""
    return _encode(snapshot)


def decode_snapshot(body: bytes | memoryview) -> Snapshot:
    """Return the snapshot of these bytes.

    Raises:
        SnapshotError: they are none.
    """
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"it cannot be read: {error}") from error


def check_fit(snapshot: Snapshot, kernel_key: str, identity: str) -> None:
    """Refuse a snapshot of another kernel or configuration.

    Raises:
        SnapshotError: it is; says of which.
    """
    if snapshot.kernel_key != kernel_key:
        raise SnapshotError(f"it is of kernel {snapshot.kernel_key}, this is {kernel_key}")
    if snapshot.identity != identity:
        raise SnapshotError("it was taken under another configuration")


def check_time(snapshot: Snapshot, now_wall_ns: int) -> None:
    """Refuse a snapshot that another clock has stamped: it says nothing of what was decided when.

    Raises:
        SnapshotError: it was taken in the future.
    """
    ahead_ns = snapshot.taken_ns - now_wall_ns
    if ahead_ns > AHEAD_NS:
        raise SnapshotError(f"it was taken {ahead_ns / 1e9:.0f} s in the future")


class Identity:
    """Knows the identity of what is in force; works it out anew when that has changed.

    Args:
        blueprint: The configuration, resolved.
        pipeline: Whose risk settings and strategies may change while it runs.
    """

    def __init__(self, blueprint: Blueprint, pipeline: Pipeline) -> None:
        self._blueprint = blueprint
        self._pipeline = pipeline
        self._of: tuple[RiskConfig, list[StrategyFacts]] | None = None
        self._value = ""

    def __call__(self) -> str:
        """Return it; see ``identity_of``."""
        now = self._pipeline.gate.config, list(self._pipeline.judge.strategies)
        if self._of != now:
            self._value, self._of = identity_of(self._blueprint, self._pipeline), now
        return self._value


def identity_of(blueprint: Blueprint, pipeline: Pipeline) -> str:
    """Return a hash over what a kernel's key does not know and decisions depend on.

    Strategies with their parameters, instruments and bundles, the sources of Python strategies,
    parameters of bars and indicators, the risk gate's settings and its rulebook. What the operator
    allows at the moment is not part of it.
    """
    config, risk = blueprint.config, pipeline.gate.config
    told: dict[str, Any] = {
        "format": FORMAT,
        "strategies": [msgspec.to_builtins(facts) for facts in pipeline.judge.strategies],
        "risk": risk.model_dump(mode="json", exclude={"state"}),
        "bars": [bar.model_dump(mode="json") for bar in config.bars],
        "emit": sorted(blueprint.emit),
    }
    digest = hashlib.sha256(orjson.dumps(told, default=str, option=orjson.OPT_SORT_KEYS))
    params = pipeline.kernel.params.copy()
    params["instruments"] = 0
    digest.update(params.tobytes())
    for _, strategy in blueprint.python:
        digest.update(_source_of(type(strategy)))
    if risk.market.rulebook is not None:
        digest.update(Path(risk.market.rulebook).read_bytes())
    return digest.hexdigest()


def _source_of(kind: type) -> bytes:
    try:
        return Path(inspect.getfile(kind)).read_bytes()
    except (OSError, TypeError):
        return repr(kind).encode()
