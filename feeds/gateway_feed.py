"""What a gateway sends and when: a source's ticks, paced and numbered, or a log's own frames."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.core.records import Instruments, Ticks
from feeds.config import GatewayConfig, LogSourceConfig
from feeds.frame_ring import FrameRing
from feeds.pacing import Pacer
from feeds.player import FramePlayer, LogSource
from feeds.publisher import Publisher
from feeds.sequencer import Sequencer
from feeds.simulator.source import Simulator
from feeds.spool import Spool


class PacedSource(Protocol):
    """A TickSource that says how it is to be played."""

    @property
    def instruments(self) -> Instruments:
        """Definitions; another array when some are new or changed."""
        ...

    @property
    def speed(self) -> float:
        """How many times faster than its receive times."""
        ...

    @property
    def keep_times(self) -> bool:
        """Whether its times stay as they are."""
        ...

    @property
    def longest_gap_ns(self) -> int | None:
        """Longest wait between two ticks."""
        ...

    def batches(self) -> Iterator[Ticks]:
        """Yield raw ticks."""
        ...


class Feed(Protocol):
    """One stream on its way into the ring; pure but for the source and the spool behind it."""

    @property
    def instruments(self) -> Instruments:
        """Every definition so far."""
        ...

    @property
    def epoch(self) -> int:
        """The stream epoch."""
        ...

    @property
    def next_seq(self) -> int:
        """Sequence number of the next record."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether the source has ended and everything of it was published."""
        ...

    @property
    def counters(self) -> dict[str, int | dict[str, int]]:
        """What was seen, refused and framed so far."""
        ...

    def open(self, wall_ns: int) -> None:
        """Publish what comes before the first tick."""
        ...

    def next_due_ns(self, mono_ns: int) -> int | None:
        """Return when there is something to publish, monotonic ns; None when never again."""
        ...

    def turn(self, mono_ns: int, wall_ns: int, most: int) -> npt.NDArray[np.int64]:
        """Publish what is due, at most ``most``; return when each was due, wall ns, shape (N,)."""
        ...

    def heartbeat(self, mono_ns: int, wall_ns: int) -> None:
        """Publish that time passes."""
        ...


class TickFeed:
    """Paces a source, cleans its ticks and numbers them.

    Args:
        source: The source.
        publisher: Numbers and frames; begins with the source's definitions.
    """

    def __init__(self, source: PacedSource, publisher: Publisher) -> None:
        self._source = source
        self._publisher = publisher
        self._defined = source.instruments
        self._ticks = 0
        self._pacer = Pacer(
            source.batches(),
            speed=source.speed,
            keep_times=source.keep_times,
            longest_gap_ns=source.longest_gap_ns,
        )

    @property
    def instruments(self) -> Instruments:
        """Every definition so far."""
        return self._publisher.instruments

    @property
    def epoch(self) -> int:
        """The stream epoch."""
        return self._publisher.sequencer.epoch

    @property
    def next_seq(self) -> int:
        """Sequence number of the next record."""
        return self._publisher.sequencer.next_seq

    @property
    def exhausted(self) -> bool:
        """Whether the source has ended and everything of it was published."""
        return self._pacer.exhausted

    @property
    def counters(self) -> dict[str, int | dict[str, int]]:
        """What was seen, refused and framed so far."""
        publisher = self._publisher
        return {
            "ticks_in": publisher.seen,
            "ticks": self._ticks,
            "heartbeats": publisher.heartbeats,
            "frames": publisher.frames,
            "refused": publisher.refused,
        }

    def open(self, wall_ns: int) -> None:
        """Publish the definitions."""
        self._publisher.define(self._defined, wall_ns)

    def next_due_ns(self, mono_ns: int) -> int | None:
        """Return when the next tick is due, monotonic ns; None when there are no more."""
        return self._pacer.next_due_ns(mono_ns)

    def turn(self, mono_ns: int, wall_ns: int, most: int) -> npt.NDArray[np.int64]:
        """Publish the ticks that are due; see Feed."""
        paced = self._pacer.take(mono_ns, wall_ns, most)
        if self._source.instruments is not self._defined:
            self._defined = self._source.instruments
            self._publisher.define(self._defined, wall_ns)
        if len(paced.ticks):
            self._ticks += self._publisher.publish(paced.ticks, paced.intended, wall_ns)
        return paced.intended

    def heartbeat(self, mono_ns: int, wall_ns: int) -> None:
        """Publish a heartbeat, once there is a time to tell."""
        time = self._pacer.heartbeat_time(mono_ns, wall_ns)
        if time is not None:
            self._publisher.heartbeat(time, wall_ns)


class FrameFeed:
    """Sends a log's frames byte for byte; its numbers, epochs and heartbeats are the log's.

    Args:
        player: The log.
        ring: Takes every frame.
        spool: Takes every frame, if there is one.
    """

    def __init__(self, player: FramePlayer, ring: FrameRing, spool: Spool | None) -> None:
        self._player = player
        self._ring = ring
        self._spool = spool
        self.instruments: Instruments = player.instruments
        self.epoch = player.epoch
        self.next_seq = 1
        self._frames = 0
        self._records = 0
        self._pacer = Pacer(
            player.rows(),
            speed=player.speed,
            keep_times=True,
            longest_gap_ns=player.longest_gap_ns,
        )

    @property
    def exhausted(self) -> bool:
        """Whether every frame was published."""
        return self._pacer.exhausted

    @property
    def counters(self) -> dict[str, int | dict[str, int]]:
        """What was seen, refused and framed so far; nothing is refused here."""
        return {
            "ticks_in": self._records,
            "ticks": self._records,
            "heartbeats": 0,
            "frames": self._frames,
            "refused": {},
        }

    def open(self, wall_ns: int) -> None:
        """Publish the definitions with which the log opens."""
        for place in range(self._player.opening):
            self._keep(place)

    def next_due_ns(self, mono_ns: int) -> int | None:
        """Return when the next frame is due, monotonic ns; None when there are no more."""
        return self._pacer.next_due_ns(mono_ns)

    def turn(self, mono_ns: int, wall_ns: int, most: int) -> npt.NDArray[np.int64]:
        """Publish the frames that are due; see Feed."""
        paced = self._pacer.take(mono_ns, wall_ns, most)
        for place in paced.ticks["frame"].tolist() if len(paced.ticks) else ():
            self._keep(place)
        return paced.intended

    def heartbeat(self, mono_ns: int, wall_ns: int) -> None:
        """Do nothing: the log has its own."""

    def _keep(self, place: int) -> None:
        frame = self._player.frame(place)
        self._ring.push(frame)
        if self._spool is not None:
            self._spool.append(frame)
        self.next_seq = frame.first_seq + frame.consumed
        self._records += frame.consumed
        self._frames += 1


def make_feed(config: GatewayConfig, epoch: int, ring: FrameRing) -> tuple[Feed, Spool | None]:
    """Make what the configuration names.

    Args:
        config: The gateway.
        epoch: The stream epoch, for a stream of its own.
        ring: Takes every frame.

    Raises:
        HeqisError: the source or the spool cannot be opened.
    """
    source = config.source
    if isinstance(source, LogSourceConfig) and source.preserve:
        player = FramePlayer(source)
        spool = _make_spool(config, player.instruments, epoch)
        return FrameFeed(player, ring, spool), spool
    ticks = LogSource(source) if isinstance(source, LogSourceConfig) else Simulator(source)
    spool = _make_spool(config, ticks.instruments, epoch)
    publisher = Publisher(Sequencer(config.id, epoch), ring, spool, ticks.instruments)
    return TickFeed(ticks, publisher), spool


def _make_spool(config: GatewayConfig, instruments: Instruments, epoch: int) -> Spool | None:
    if config.spool is None:
        return None
    return Spool(config.spool, instruments, gateway=config.id, epoch=epoch)
