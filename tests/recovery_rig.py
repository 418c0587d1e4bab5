"""A gateway and an engine's receiving end without sockets or clocks, and a link that mangles."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from frame_cases import lay_out, make_ticks

from engine.clock import WallClock
from engine.core.records import Instruments, TickKind, Ticks
from engine.ingest import Ingest
from engine.link_recovery import LinkRecovery
from feeds.burst import BurstDecoder
from feeds.config import LinkConfig
from feeds.control_messages import (
    PROTOCOL,
    ErrorReply,
    Resend,
    Resent,
    Welcome,
    encode,
    parse_reply,
)
from feeds.frame_ring import FrameRing
from feeds.resend import Limits, Past, Resender
from feeds.sequencer import Sequencer
from feeds.spool_end import End
from feeds.spool_reader import Found
from latency.histogram import StageHistograms

GATEWAY = 1
MS = 1_000_000
RATE = 1 << 40


class Sink:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        self.events.append((kind, dict(fields)))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for told, fields in self.events if told == kind]


class Taker:
    """Stands where the pipeline does: keeps the place of every tick, and of every gap."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []
        self.gap_places: list[tuple[int, int, int]] = []
        self.resent = 0
        self.gaps = 0
        self.kernel = self
        self.instruments = 1 << 16
        self.judge = self
        self.sink = Sink()

    def define(self, instruments: Instruments) -> None:
        """Nothing depends on definitions here."""

    def run_ticks(self, ticks: Ticks, origins: npt.NDArray[np.void], at: int, stop: int) -> int:
        for tick, origin in zip(ticks[at:stop], origins[at:stop], strict=True):
            place = int(origin["epoch"]), int(origin["seq"])
            if tick["kind"] == TickKind.GAP:
                self.gap_places.append((*place, int(tick["size"])))
                self.gaps += 1
            else:
                self.places.append(place)
                self.resent += bool(tick["flags"] & 1024)
        return 0


class MemorySpool:
    """A spool's reader over frames in memory; of each epoch the oldest may be forgotten."""

    def __init__(self) -> None:
        self.logs: dict[int, list[tuple[int, int, bytes]]] = {}
        self.torn: set[int] = set()
        self.ends: dict[int, int] = {}

    def epochs(self) -> list[int]:
        return sorted({epoch for epoch, frames in self.logs.items() if frames} | set(self.ends))

    def first_held(self, epoch: int) -> int | None:
        frames = self.logs.get(epoch)
        return frames[0][0] if frames else None

    def end_of(self, epoch: int) -> End | None:
        frames = self.logs.get(epoch)
        whole = epoch not in self.torn
        if epoch in self.ends:
            return End(self.ends[epoch], whole)
        return End(frames[-1][0] + frames[-1][1], whole) if frames else None

    def read(self, epoch: int, seq: int, stop_seq: int, most_bytes: int) -> Found | None:
        taken: list[bytes] = []
        end = seq
        for first, count, frame in self.logs.get(epoch, []):
            if first + count <= seq or first >= stop_seq:
                continue
            if taken and sum(map(len, taken)) + len(frame) > most_bytes:
                break
            taken.append(frame)
            end = first + count
        return Found(np.frombuffer(b"".join(taken), np.uint8), end) if taken else None


class Rig:
    """One gateway, one engine; the test moves frames, requests and time by hand.

    Attributes:
        wire: Frames on their way to the engine.
        asked: Requests on their way to the gateway.
        mono_ns: Now.
        sent: Numbers given so far, by epoch.
    """

    def __init__(self, ring_frames: int = 64, past: MemorySpool | None = None, **link: Any) -> None:
        self.mono_ns = 10**12
        self.spool = past
        self.ring = FrameRing(ring_frames, 1 << 30)
        self.sequencer = Sequencer(GATEWAY, 1000)
        self.resender = self._make_resender()
        self.wire: deque[bytes] = deque()
        self.asked: deque[Resend] = deque()
        self.sent: dict[int, int] = {}
        self.heard_ns = 0
        self.paused = False
        self.answer_bytes = 1 << 12
        self.taker = Taker()
        self.decoder = BurstDecoder(4)
        self.ingest = Ingest(
            pipeline=self.taker,  # type: ignore[arg-type] # stands in for one
            decoder=self.decoder,
            clock=WallClock(),
            histograms=StageHistograms(),
            on_fault=self._on_fault,
        )
        self.recovery = LinkRecovery(
            self.ingest,
            LinkConfig(**link),
            ask=self._ask,
            heard_ns=lambda: self.heard_ns,
            wake=lambda: None,
            pause=self._pause,
        )

    def _on_fault(self, problem: str) -> None:
        raise AssertionError(problem)

    def _ask(self, request: Resend) -> bool:
        self.asked.append(request)
        return True

    def _pause(self, stop: bool) -> None:
        self.paused = stop

    def _make_resender(self, past: Past | None = None) -> Resender:
        return Resender(
            GATEWAY,
            self.ring,
            lambda: (self.sequencer.epoch, self.sequencer.next_seq),
            past or self.spool,
            lambda: None,
            Limits(1 << 12, RATE, 4),
        )

    def restart_gateway(self) -> None:
        """Begin a new epoch; what was in the ring is no more, what was spooled is."""
        self.ring = FrameRing(64, 1 << 30)
        self.sequencer = Sequencer(GATEWAY, self.sequencer.epoch + 10)
        self.resender = self._make_resender()
        self.asked.clear()

    def publish(self, count: int = 1, *, spooled: bool = True) -> bytes:
        """Number ticks and put their frame on the wire."""
        ticks = make_ticks(count, first=self.sequencer.next_seq)
        (frame,) = self.sequencer.ticks(ticks, self.mono_ns)
        self.ring.push(frame)
        if self.spool is not None and spooled:
            log = self.spool.logs.setdefault(self.sequencer.epoch, [])
            log.append((frame.first_seq, frame.consumed, frame.frame))
        self.sent[self.sequencer.epoch] = self.sequencer.next_seq
        self.wire.append(frame.frame)
        return frame.frame

    def deliver(self, count: int | None = None) -> None:
        """Hand frames that are on the wire to the engine as one burst."""
        burst = [self.wire.popleft() for _ in range(min(count or 1 << 30, len(self.wire)))]
        if burst and not self.paused:
            frames = lay_out(burst)
            self.ingest.on_burst(*frames, len(burst), self.mono_ns)

    def welcome(self) -> None:
        """Let the gateway say what it sends."""
        self.heard_ns = self.mono_ns
        self.recovery.on_welcome(
            Welcome(
                PROTOCOL, GATEWAY, self.sequencer.epoch, self.sequencer.next_seq, 100 * MS, b""
            ),
            self.mono_ns,
        )

    def serve(self) -> bool:
        """Let the gateway answer the oldest request; False if there is none."""
        if not self.asked:
            return False
        head, body = self.resender.serve(b"e", self.asked.popleft(), self.mono_ns)
        reply = parse_reply(encode(head))
        assert isinstance(reply, Resent | ErrorReply)
        self.heard_ns = self.mono_ns
        self.recovery.on_resent(reply, body, self.mono_ns)
        return True

    def turn(self, ms: float = 1) -> int | None:
        """Let time pass and the engine do what is due."""
        self.mono_ns += int(ms * MS)
        return self.recovery.on_turn(self.mono_ns)

    def settle(self, turns: int = 2000) -> None:
        """Serve and let time pass until the stream flows."""
        for _ in range(turns):
            self.deliver()
            while self.serve():
                pass
            if not self.recovery.holding and not self.wire:
                return
            self.turn(5)
        raise AssertionError("the stream never flows again")

    def assert_accounted(self) -> None:
        """Every number was delivered once, in order, or is in a declared gap; and not both."""
        delivered, told = self.taker.places, self.taker.sink.of("gap")
        assert delivered == sorted(set(delivered))
        lost: set[tuple[int, int]] = set()
        for gap in told:
            first, missing = gap["first_missing"], gap["missing"]
            lost |= {(gap["epoch"], seq) for seq in range(first, first + missing)}
            if gap.get("previous_missing"):
                first, missing = gap["previous_first_missing"], gap["previous_missing"]
                lost |= {(gap["previous_epoch"], seq) for seq in range(first, first + missing)}
        assert not lost & set(delivered)
        begin = delivered[0]
        last = delivered[-1]
        given = {(e, s) for e, end in self.sent.items() for s in range(1, end)}
        within = {place for place in given if begin <= place <= last}
        unknown = {g["previous_epoch"] for g in told if g.get("previous_missing", 0) is None}
        if self.spool is None:  # nobody is left who knows of an epoch that was never heard
            unknown |= set(self.sent) - {epoch for epoch, _ in delivered}
        owed = within - set(delivered) - lost
        assert {epoch for epoch, _ in owed} <= unknown
