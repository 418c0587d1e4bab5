"""The bounds that hold after every turn: of rings, hold, queues and buffers, and of the spool.

Each is what the configuration says; where one step may exceed it, then by that step at most.
"""

import os
from pathlib import Path
from typing import Final

from simulation.checks import require
from simulation.clients import Client
from simulation.devices import LaneInference
from simulation.disk import Disk

from engine.config import Config
from engine.daemon import Engine
from feeds.frame_ring import FrameRing
from feeds.gateway import Gateway
from feeds.hold import Hold

_MESSAGES_A_ROW: Final = 3
"""Of a page: an epoch that ended, a gap and the signal."""


class Bounds:
    """Looks at everything that is bounded; owned by the world.

    Args:
        config: The bounds.
        disk: Tells what was written.
        device_queue: Requests that may wait for the device.
    """

    def __init__(self, config: Config, disk: Disk, device_queue: int) -> None:
        self._config = config
        self._disk = disk
        self._device_queue = device_queue
        spool = config.gateway.spool
        self._directory = "" if spool is None else os.path.realpath(spool.directory)
        self._written = 0
        self._most_at_once = 0
        self._spooled = 0
        """No more lies in the spool: what it held when it was looked at, and what came since."""

    def check_gateway(self, gateway: Gateway) -> None:
        """Look at the ring."""
        config, ring = self._config.gateway, gateway._ring
        require(len(ring) <= config.ring_frames, f"{len(ring)} frames in the ring")
        fits = ring.held_bytes <= config.ring_bytes or len(ring) == 1
        require(fits, f"{ring.held_bytes} bytes in the ring")

    def check_spool(self) -> None:
        """Look at the directory, if anything was written to it; one turn's part may exceed it."""
        spool, written = self._config.gateway.spool, self._disk.written[self._directory]
        if spool is None or written == self._written:
            return
        now, self._written = written - self._written, written
        self._most_at_once = max(self._most_at_once, now)
        self._spooled += now
        most = spool.max_bytes + self._most_at_once
        if self._spooled > most:
            self._spooled = _bytes_under(spool.directory)
        require(self._spooled <= most, f"{self._spooled} bytes in the spool, {most} allowed")

    def check_hold(self, hold: Hold, largest_burst: int) -> None:
        """Look at what is held behind a gap; a burst may exceed it."""
        most = self._config.link.hold_bytes + largest_burst
        require(hold.held_bytes <= most, f"{hold.held_bytes} bytes held, {most} allowed")

    def check_engine(self, engine: Engine) -> None:
        """Look at the journal's queue, the stream's ring and the requests for the device."""
        config, queued = self._config, engine.journal.queued
        require(queued <= config.journal.max_queued + 1, f"{queued} queued")  # one for a halt
        ring = engine.stream._core.ring
        kept = ring.head + 1 - ring.oldest
        fits = kept <= config.stream.ring_signals == len(ring._slots)
        require(fits, f"{kept} signals in the stream's ring, of {len(ring._slots)}")
        keys = len(ring._latest)
        require(keys <= config.stream.snapshot_keys, f"{keys} in the snapshot")
        desk = engine.ingest.pipeline.desk
        if desk is not None and isinstance(desk.inference, LaneInference):
            planner = desk.inference.lane.planner
            waiting = sum(map(len, planner._queues.values()))
            require(waiting == planner.queued, f"{waiting} requests wait, not {planner.queued}")
            require(waiting <= self._device_queue, f"{waiting} requests wait for the device")

    def check_client(self, client: Client) -> None:
        """Look at what was handed over and not read; what is handed over at once may exceed it."""
        stream, connection = self._config.stream, client._connection
        if connection is None:
            return
        most = stream.send_buffer_bytes + connection.largest_bytes
        buffered = connection.buffered
        require(buffered <= most, f"{client.name}: {buffered} bytes buffered, {most} allowed")
        at_once = max(stream.slice_signals, _MESSAGES_A_ROW * stream.page_rows)
        messages = connection.most_messages
        require(messages <= at_once, f"{client.name}: {messages} messages at once")


def check_count(ring: FrameRing) -> None:
    """What a ring says it holds is what it holds."""
    held = sum(len(ring[index].frame) for index in range(ring.tail, ring.head))
    require(held == ring.held_bytes, f"{held} bytes in the ring, which says {ring.held_bytes}")


def _bytes_under(directory: Path) -> int:
    return sum(
        os.path.getsize(os.path.join(where, name))
        for where, _, names in os.walk(directory)
        for name in names
    )
