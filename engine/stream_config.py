"""Settings of the signal stream and of the journal, with every bound they keep."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.core.settings import DurationNs, Settings, is_loopback

Count = Annotated[int, Field(ge=1)]
PositiveNs = Annotated[DurationNs, Field(gt=0)]


class TlsConfig(Settings):
    """What the stream's TLS needs; both files are followed, so a renewed pair needs no restart."""

    certificate: Path
    """The certificate chain, PEM."""
    key: Path
    """Its key, PEM and not encrypted; nobody but its owner may read it."""


class StreamConfig(Settings):
    """The WebSocket port: where it listens and what one client may cost.

    A client costs at most ``send_buffer_bytes`` and one slice of ``slice_signals`` messages in
    this process and ``socket_buffer_bytes`` (which Linux doubles) in the kernel.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)
    """0 takes a free port."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages that may connect, as their ``Origin`` says; programs send none and always may. A
    page that is not listed is refused: it could be any page open in a browser on this machine."""
    tokens: Path | None = None
    """The file of tokens, see ``heqis token``; absent: whoever is on this machine may do anything,
    and nobody else can connect."""
    tls: TlsConfig | None = None
    """Absent: what is sent can be read on the way."""
    behind_proxy: bool = False
    """A proxy before this port lets other machines in, and encrypts: ``tokens`` are asked for on
    every address then. Without it and ``tls`` no other machine is listened to."""
    heartbeat_interval: PositiveNs = 2_000_000_000
    ring_signals: Count = 8192
    """Newest signals kept encoded in memory; a client that asks for older ones is served from
    the journal."""
    snapshot_keys: Count = 4096
    """(instrument, strategy) pairs whose latest signal is remembered; the oldest pair goes."""
    max_lag: Count = 2048
    """Signals a live client may fall behind before its ``on_slow`` policy is applied."""
    send_buffer_bytes: int = Field(default=65_536, ge=4096)
    socket_buffer_bytes: int = Field(default=65_536, ge=4096)
    stall_timeout: PositiveNs = 1_500_000_000
    """A client whose buffer is not empty and that takes no byte for so long is cut off."""
    check_interval: PositiveNs = 250_000_000
    max_connections: Count = 512
    max_connections_per_address: Count = 64
    """Not of this machine's own addresses, where a proxy or a tunnel speaks for many."""
    max_handshaking: Count = 512
    """Connections that have not said yet who they are; a newer one ends the oldest."""
    handshakes_per_s: float = Field(default=200.0, gt=0)
    """Connections begun, of one address; more are closed at once."""
    handshake_burst: Count = 1024
    """Of them, at once."""
    max_subscriptions: Count = 8
    """Subscriptions of one connection."""
    max_message_bytes: int = Field(default=16_384, ge=256)
    messages_per_s: float = Field(default=20.0, gt=0)
    message_burst: Count = 40
    max_errors: Count = 5
    """Messages that are not of the protocol before a client is closed."""
    slice_signals: Count = 128
    """Signals considered for one client that is catching up before the next one has its turn."""
    turn_signals: Count = 512
    """Signals considered for all clients that are catching up in one turn of the event loop."""
    turn_connections: Count = 4
    """Handshakes, ends of connections, and heartbeats, in one turn of the event loop."""
    fan_out: Count = 128
    """Live clients that are sent a signal at once; the others in the next turns of the loop."""
    page_rows: Count = 128
    """Rows of one read from the journal."""
    ping_interval: PositiveNs = 10_000_000_000
    ping_timeout: PositiveNs = 10_000_000_000
    open_timeout: PositiveNs = 5_000_000_000
    close_timeout: PositiveNs = 500_000_000

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.max_lag > self.ring_signals:
            raise ValueError("max_lag must not exceed ring_signals: a lag is served from the ring")
        if not is_loopback(self.host):
            self._check_guarded(f"host {self.host!r} can be reached from other machines")
        elif self.behind_proxy:
            self._check_guarded("behind_proxy = true: other machines can come through the proxy")
        return self

    def _check_guarded(self, where: str) -> None:
        if self.tokens is None:
            raise ValueError(
                f"{where} and there is no authentication: set tokens (make them with `heqis token "
                'new`), or use "127.0.0.1"'
            )
        if self.tls is None and not self.behind_proxy:
            raise ValueError(
                f"{where} and nothing encrypts: set tls.certificate and tls.key, or behind_proxy = "
                "true if a proxy does"
            )


class JournalConfig(Settings):
    """The journal: where it is, how it groups writes, what happens when it cannot write."""

    path: Path = Path("var/journal.db")
    commit_interval: PositiveNs = 20_000_000
    """How long the first row of a group waits for others."""
    commit_rows: Count = 512
    """Rows of one transaction."""
    max_queued: Count = 65_536
    """Rows waiting for the disk; a signal is never dropped, see ``on_full``."""
    on_full: Literal["halt", "drop_refusals"] = "drop_refusals"
    """``halt``: any row that finds the queue full asks for a halt. ``drop_refusals``: refusals and
    events yield at half the bound so that signals have the rest; a signal that finds the queue
    full asks for a halt."""
    on_failure: Literal["continue", "halt"] = "continue"
    """What a disk that is full, failing or silent does besides the alarm: go on and retry, or ask
    for a halt."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 8 << 20
    """A disk with less room counts as full before a write has failed."""
    slow_write: PositiveNs = 500_000_000
    """A write that has not come back for so long counts as failing."""
    check_interval: PositiveNs = 100_000_000
    """How often the disk, and the write in progress, are looked at."""
    refusals_first: Count = 100
    """Refusals of each reason written before sampling begins."""
    refusals_every: Count = 100
    """Then one refusal in so many of each reason is written; all are counted."""
    retry_min: PositiveNs = 100_000_000
    retry_max: PositiveNs = 1_000_000_000
    busy_timeout: PositiveNs = 250_000_000
    """How long SQLite waits for another process's lock before the write counts as failed."""
    keep_signals: Count = 1_000_000
    keep_refusals: Count = 200_000
    keep_events: Count = 200_000
    keep_age: PositiveNs | None = None
    """Rows older than this are removed, whatever their number; absent keeps them."""
    keep_bytes: Annotated[int, Field(ge=1 << 20)] | None = None
    """The oldest rows go until the rest needs no more than this; absent: no bound in bytes."""
    resume_signals: Count = 8192
    """Of the ``keep_signals``, the newest that neither age nor bytes remove: a client may resume
    that far back."""
    prune_interval: PositiveNs = 60_000_000_000
    prune_rows: Count = 512
    """Rows removed in one transaction."""
    close_timeout: PositiveNs = 5_000_000_000
