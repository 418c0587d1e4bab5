"""What the link, the gateway and its sources are told; the keys of ``[link]`` and ``[gateway]``."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from engine.core.records import MAX_INSTRUMENTS
from engine.core.settings import DurationNs, Settings, is_loopback
from feeds.keystore import check_key
from feeds.power_config import PowerConfig

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
MAX_RATE: Final = 1_000_000
_ENDPOINT: Final = re.compile(r"(tcp://[^:/\s]+:(\d{1,5}|\*)|ipc://\S+|inproc://\S+)")


def _check_endpoint(value: str) -> str:
    if not _ENDPOINT.fullmatch(value):
        raise ValueError('an endpoint looks like "tcp://127.0.0.1:5701" or "ipc:///run/heqis/data"')
    return value


Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
"""A ZeroMQ endpoint."""
PublicKey = Annotated[str, AfterValidator(check_key)]
"""A CURVE public key in Z85."""
Share = Annotated[float, Field(ge=0.0, le=0.5)]
"""A part of all ticks, as a fraction."""
PositiveNs = Annotated[DurationNs, Field(gt=0)]
"""A duration in nanoseconds, more than none."""


def leaves_machine(endpoint: str) -> bool:
    """Return whether an endpoint can be reached from, or is on, another machine."""
    scheme, _, place = endpoint.partition("://")
    return scheme == "tcp" and not is_loopback(place.rpartition(":")[0])


def _check_secured(endpoints: dict[str, str], *, keys: bool, trusted: bool, trust_key: str) -> None:
    """Refuse what would go to or come from another machine without proof of who is there."""
    for name, endpoint in endpoints.items():
        if leaves_machine(endpoint) and not keys:
            raise ValueError(
                f"{name} = {endpoint!r} can be reached from other machines, and nothing proves who "
                "is there; set keys to a key store (make it with `heqis keys new`), or use "
                "tcp://127.0.0.1 or ipc://"
            )
    if keys != trusted:
        raise ValueError(f"keys and {trust_key} go together: {trust_key} is whom to connect to")


class LinkConfig(Settings):
    """The engine's end of the link.

    The engine binds ``data`` (PULL) and connects to the gateway's ``control`` (ROUTER).
    """

    data: Endpoint = "tcp://127.0.0.1:5701"
    control: Endpoint = "tcp://127.0.0.1:5702"
    slots: Annotated[int, Field(ge=1, le=65_536)] = 512
    """Messages the receiver takes out of the socket a turn."""
    receive_hwm: Annotated[int, Field(ge=1)] = 4096
    """Messages ZeroMQ holds for the engine before the gateway is told to wait."""
    hello_retry: PositiveNs = 250 * MS
    ping_interval: PositiveNs = 200 * MS
    name: Annotated[str, Field(min_length=1, max_length=64)] = "engine"
    """What the engine calls itself; unique among the engines of a gateway."""
    peer_timeout: PositiveNs = 800 * MS
    """The gateway counts as gone when nothing was heard from it for this long."""
    offset_window: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Ping exchanges the clock offset is estimated from."""
    resend: bool = True
    """Ask the gateway again for what did not come; else every gap is opened at once."""
    resend_timeout: PositiveNs = 250 * MS
    """A request without an answer is repeated after this, then after twice as long, and so on."""
    resend_give_up: PositiveNs = 5 * SECOND
    """Without any answer for so long the gap is opened."""
    resend_gone: DurationNs = 60 * SECOND
    """But the time in which nothing at all comes from the gateway does not count, up to this much:
    it may come back, and what it kept with it."""
    resend_behind: PositiveNs = 10 * SECOND
    """What is sent again has to come faster than the stream goes on: if in so long the distance has
    not shrunk, the gap is opened, and for so long every other one at once."""
    hold_bytes: Annotated[int, Field(ge=1 << 16)] = 64 << 20
    """Most bytes of messages held while something is missing before them; then no more is received,
    and the gateway keeps what comes."""

    keys: Path | None = None
    """Directory of the engine's key store, see ``heqis keys``; absent: anybody on this machine may
    connect, and nobody else can."""
    server_key: PublicKey | None = None
    """The gateway's public key."""

    @model_validator(mode="after")
    def _strangers_are_kept_out(self) -> "LinkConfig":
        _check_secured(
            {"data": self.data, "control": self.control},
            keys=self.keys is not None,
            trusted=self.server_key is not None,
            trust_key="server_key",
        )
        return self

    @model_validator(mode="after")
    def _timeout_covers_a_ping(self) -> "LinkConfig":
        if self.peer_timeout <= self.ping_interval:
            raise ValueError("peer_timeout must be longer than ping_interval")
        return self


class FaultsConfig(Settings):
    """Odd content put into a simulated stream on purpose, each as a share of all ticks."""

    nan: Share = 0.0
    crossed: Share = 0.0
    duplicate: Share = 0.0
    unknown_instrument: Share = 0.0

    @property
    def total(self) -> float:
        """Share of ticks that are made odd."""
        return self.nan + self.crossed + self.duplicate + self.unknown_instrument

    @model_validator(mode="after")
    def _leave_something_whole(self) -> "FaultsConfig":
        if self.total > 1.0:
            raise ValueError("the shares of the faults add up to more than 1")
        return self


class SimulatorConfig(Settings):
    """The market simulator; the same values give the same bytes."""

    kind: Literal["simulator"] = "simulator"
    universe: Literal["crypto", "a-share"] = "crypto"
    instruments: Annotated[int, Field(ge=1, le=MAX_INSTRUMENTS)] = 20
    seed: Annotated[int, Field(ge=0)] = 1
    rate: Annotated[float, Field(gt=0, le=MAX_RATE)] | None = None
    """Ticks a second over all instruments. ``crypto``: the market's own activity, 1,000 if not
    given. ``a-share``: how fast the 3-second snapshots are played (the market's own rate, a third
    of a tick a second an instrument, if not given)."""
    start: str = "2024-03-04T01:30:00Z"
    """Market time of the first tick, ISO 8601 with a zone."""
    times: Literal["now", "market"] | None = None
    """Live only: ``now`` moves the simulated times to the gateway's clock, ``market`` keeps them.
    ``now`` for crypto and ``market`` for a-share if not given."""
    longest_gap: PositiveNs | None = None
    """Live only: longer waits, such as the lunch break, are shortened to this. 5s for a-share if
    not given."""
    limit_ticks: Annotated[int, Field(ge=1)] | None = None
    duration: PositiveNs | None = None
    """Market time after which the source ends."""
    batch: Annotated[int, Field(ge=2, le=65_536)] = 4096
    """Ticks made at once; the bytes do not depend on it."""
    effect_bps_per_s: float | None = None
    """The planted effect: drift, in basis points a second, at a signed flow share of 1. 1.0 for
    crypto and 0.3 for a-share if not given."""
    effect_horizon: PositiveNs | None = None
    """Time constant of the signed flow that the effect reads. 5s for crypto and 60s for a-share if
    not given."""
    volatility: Annotated[float, Field(gt=0, le=10)] = 0.6
    """Annualised volatility of the calm regime, as a fraction."""
    branching: Annotated[float, Field(ge=0, lt=0.95)] = 0.6
    """Mean number of trades one trade triggers (Hawkes branching ratio)."""
    faults: FaultsConfig = FaultsConfig()

    @property
    def keeps_market_times(self) -> bool:
        """Whether a live gateway leaves the simulated times as they are."""
        default = "now" if self.universe == "crypto" else "market"
        return (self.times or default) == "market"


class LogSourceConfig(Settings):
    """A recorded log played again, with its gaps in time scaled."""

    kind: Literal["log"] = "log"
    path: Path
    speed: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    times: Literal["now", "market"] = "market"
    """``now`` moves the recorded times to the gateway's clock, ``market`` keeps them."""
    longest_gap: PositiveNs | None = None
    """Longer waits, after scaling, are shortened to this; not shortened if not given."""
    preserve: bool = False
    """Send the recorded frames as they are, with their epochs, numbers and heartbeats."""


Source = Annotated[SimulatorConfig | LogSourceConfig, Field(discriminator="kind")]
"""Where a gateway's ticks come from."""


class SpoolConfig(Settings):
    """What the gateway keeps on disk of what it sent: a log for each run, oldest removed first."""

    directory: Path
    rotate_bytes: Annotated[int, Field(ge=1 << 16)] = 64 << 20
    rotate_interval: PositiveNs = 3600 * SECOND
    max_bytes: Annotated[int, Field(ge=1 << 20)] = 4 << 30
    """Bound of the whole directory; the oldest segments go first."""
    memory: Path = Path("/dev/shm")  # a name nobody can guess, and its owner is checked
    """A directory in memory: there a running gateway vouches that the log lacks nothing of what was
    sent. If that is gone, with the machine or by a disk that refused, the end counts as unknown."""


class GatewayConfig(Settings):
    """The gateway: one source in, any number of engines out."""

    id: Annotated[int, Field(ge=1, le=0xFFFF_FFFF)] = 1
    outputs: tuple[Endpoint, ...] = ("tcp://127.0.0.1:5701",)
    """Endpoints of engines; each gets every frame."""
    control: Endpoint = "tcp://127.0.0.1:5702"
    output_hwm: Annotated[int, Field(ge=1)] = 1000
    """Frames ZeroMQ may hold for one output."""
    ring_frames: Annotated[int, Field(ge=16)] = 16_384
    ring_bytes: Annotated[int, Field(ge=1 << 16)] = 64 << 20
    """Bounds of the frames kept for an output that is away; the oldest are dropped and counted."""
    resend_bytes: Annotated[int, Field(ge=1 << 12, le=8 << 20)] = 256 << 10
    """Most bytes of frames in one answer to an engine that asks for them again."""
    resend_bytes_per_s: Annotated[int, Field(ge=1 << 16)] = 64 << 20
    """Most bytes sent again to one engine in a second."""
    heartbeat_interval: PositiveNs = 100 * MS
    turn_interval: DurationNs = 500_000
    """Shortest time between two publishing turns: below it ticks share a frame."""
    spin: DurationNs = 0
    """Time before a tick is due that the loop polls instead of sleeping; costs CPU."""
    max_peers: Annotated[int, Field(ge=1, le=1024)] = 64
    status_interval: PositiveNs = 10 * SECOND
    await_output: bool = False
    """Start the source only when an engine is connected, so that it misses nothing."""
    stop_timeout: PositiveNs = 2 * SECOND
    """Longest wait for outputs to take what the ring still holds when the gateway stops."""
    peer_timeout: PositiveNs = 800 * MS
    """An engine counts as gone when nothing was heard from it for this long."""
    events: Path | None = None
    """The gateway's own journal, a JSON object a line; absent: the newest are kept in memory."""
    events_bytes: Annotated[int, Field(ge=1 << 12)] = 16 << 20
    """Size at which it is begun anew; the one before is kept beside it."""
    power: PowerConfig | None = None
    """Power of the compute board; absent: an engine that stays silent is told of and left alone."""
    spool: SpoolConfig | None = None
    source: Source = SimulatorConfig()
    keys: Path | None = None
    """Directory of the gateway's key store, see ``heqis keys``; absent: anybody on this machine may
    connect, and nobody else can."""
    server_keys: tuple[PublicKey, ...] = ()
    """The engines' public keys: one for each of ``outputs``, or one for all."""

    @model_validator(mode="after")
    def _strangers_are_kept_out(self) -> "GatewayConfig":
        outputs = {f"outputs.{at}": one for at, one in enumerate(self.outputs)}
        _check_secured(
            {"control": self.control, **outputs},
            keys=self.keys is not None,
            trusted=bool(self.server_keys),
            trust_key="server_keys",
        )
        if len(self.server_keys) not in {0, 1, len(self.outputs)}:
            raise ValueError("server_keys must have one key for each of outputs, or one for all")
        return self

    def server_key(self, output: int) -> str | None:
        """Return the public key of the engine at an output; None where there is no CURVE."""
        if not self.server_keys:
            return None
        return self.server_keys[output if len(self.server_keys) > 1 else 0]
