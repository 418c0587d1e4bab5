"""Writes what a gateway publishes to a log: it stands where the engine stands."""

import asyncio
import logging
import math
import signal
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import FrameError, LogError
from engine.core.records import INSTRUMENT, Instruments, Schema
from feeds.burst import BurstDecoder, Counter
from feeds.codec import decode_frame, decode_instruments, merge_instruments
from feeds.config import LinkConfig
from feeds.control_client import ControlClient
from feeds.control_messages import Welcome
from feeds.curve import gatekeeper_of
from feeds.link import TickReceiver
from feeds.log_writer import LogWriter

_log = logging.getLogger(__name__)

_FLUSH_S: Final = 0.1
_LEFT_OUT: Final = [
    Counter.DUPLICATE_FRAMES,
    Counter.STALE_EPOCH_FRAMES,
    Counter.REFUSED_STREAM_FRAMES,
]
"""Good frames that are not kept, as the engine would not take them either."""


class RecordLimits(NamedTuple):
    """When a recording ends by itself and when it begins another segment; None: never."""

    seconds: float | None = None
    ticks: int | None = None
    rotate_bytes: int | None = None
    rotate_ns: int | None = None


class Recording:
    """One log being written; owned by the loop that receives.

    Frames are kept byte for byte. Bad and duplicate ones are counted and left out.

    Attributes:
        done: Set, here or elsewhere, when nothing more is to be kept.
        frames: Frames kept.
        error: Why the log cannot be written, None while it can.

    Args:
        path: The log.
        epoch: The stream's epoch, for definitions that came over the control channel.
        limits: Ends and segments.
        done: Set when the tick limit is reached or the log cannot be written.
        overwrite: Replace an existing log.

    Raises:
        LogError: the log cannot be created.
    """

    def __init__(
        self,
        path: Path,
        *,
        epoch: int,
        limits: RecordLimits,
        done: asyncio.Event,
        overwrite: bool = False,
    ) -> None:
        self._limits = limits
        self._decoder = BurstDecoder(0)
        self._instruments: Instruments = np.zeros(0, INSTRUMENT)
        self._writer = LogWriter(
            path,
            self._instruments,
            epoch=epoch,
            rotate_bytes=limits.rotate_bytes,
            rotate_ns=limits.rotate_ns,
            overwrite=overwrite,
        )
        self.done = done
        self.frames = 0
        self.refused_definitions = 0
        self.error: LogError | None = None

    def define(self, instruments: Instruments) -> None:
        """Write definitions that came over the control channel, the first only.

        Later changes come in the stream itself, at their place in it.
        """
        if len(self._instruments):
            return
        try:
            self._learn(instruments)
            self._writer.define(instruments)
        except LogError as error:
            self._fail(error)
        except FrameError:
            self.refused_definitions += 1

    def on_burst(
        self,
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        count: int,
        woken_mono_ns: int,
    ) -> None:
        """Take one burst from the receiver."""
        try:
            for index in range(count):
                if self.done.is_set():
                    return
                if self._is_accepted(wire, offsets, lengths, index):
                    at = int(offsets[index])
                    self._keep(wire.data[at : at + int(lengths[index])])
        except LogError as error:
            self._fail(error)

    def flush(self) -> None:
        """Hand what waits to the operating system."""
        if self.error is None:
            try:
                self._writer.flush()
            except LogError as error:
                self._fail(error)

    def close(self) -> None:
        """End the log.

        Raises:
            LogError: the log could not be written, now or earlier.
        """
        self._writer.close()
        if self.error is not None:
            raise self.error

    def summary(self) -> dict[str, Any]:
        """Return what was kept and what was not, as JSON has it."""
        counted = self._decoder.count_by_name()
        return {
            "log": str(self._writer.path),
            "frames": self.frames,
            "ticks": counted.get("ticks", 0),
            "bars": counted.get("bars", 0),
            "gaps": counted.get("gaps", 0),
            "lost_records": counted.get("lost_records", 0),
            "epoch_changes": counted.get("epoch_changes", 0),
            "left_out": {
                name: value
                for name, value in counted.items()
                if name.startswith(("frame_", "refused_", "duplicate_", "stale_"))
            },
            "instruments": len(self._instruments),
        }

    def _is_accepted(
        self,
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        index: int,
    ) -> bool:
        counters = self._decoder.counters
        before = int(counters[Counter.FRAMES]) - int(counters[_LEFT_OUT].sum())
        consumed = 0
        while not consumed:
            segment = self._decoder.decode(wire, offsets, lengths, index, index + 1)
            consumed = segment.consumed
            if segment.schema == Schema.INSTRUMENTS:
                at = int(offsets[index])
                return self._accept_definitions(wire.data[at : at + int(lengths[index])])
        return int(counters[Counter.FRAMES]) - int(counters[_LEFT_OUT].sum()) > before

    def _accept_definitions(self, frame: memoryview) -> bool:
        try:
            self._learn(decode_frame(frame).records)
        except FrameError:
            self.refused_definitions += 1
            return False
        return True

    def _learn(self, instruments: Instruments) -> None:
        self._instruments = merge_instruments(self._instruments, instruments)
        self._decoder.known_instruments = len(self._instruments)

    def _keep(self, frame: memoryview) -> None:
        self._writer.append_frame(frame)
        self.frames += 1
        ticks = self._limits.ticks
        if ticks is not None and self._decoder.counters[Counter.TICKS] >= ticks:
            self.done.set()

    def _fail(self, error: LogError) -> None:
        self.error = error
        self.done.set()


async def record(
    link: LinkConfig, path: Path, limits: RecordLimits, *, overwrite: bool = False
) -> dict[str, Any]:
    """Record until a limit is reached or SIGINT or SIGTERM comes.

    Waits for the gateway, for as long as it takes.

    Returns:
        What was kept and what was not.

    Raises:
        LinkError: the data endpoint cannot be bound.
        LogError: the log exists already or cannot be written.
    """
    if path.exists() and not overwrite:  # noqa: ASYNC240 - once, before anything runs
        raise LogError(path, "exists already; overwrite it or record to another name")
    started = time.monotonic()
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    _log.info("waiting for the gateway at %s", link.control)
    try:
        summary = await _record_until(link, path, limits, overwrite, done)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return {**summary, "wall_s": round(time.monotonic() - started, 3)}


async def _record_until(
    link: LinkConfig, path: Path, limits: RecordLimits, overwrite: bool, done: asyncio.Event
) -> dict[str, Any]:
    recording: Recording | None = None

    def on_instruments(instruments: Instruments, _: int) -> None:
        if recording is not None:
            recording.define(instruments)

    # The first decoder of a machine is compiled, for longer than a gateway's ring may last.
    BurstDecoder(0).warm_up()
    receiver = TickReceiver(
        link.data,
        slots=link.slots,
        hwm=link.receive_hwm,
        gatekeeper=gatekeeper_of(link.keys),
    )
    try:
        async with ControlClient(link, name="record", on_instruments=on_instruments) as client:
            welcome = await _hello(client, done)
            if welcome is None:
                return {"log": None, "frames": 0, "ticks": 0}
            recording = Recording(
                path, epoch=welcome.epoch, limits=limits, overwrite=overwrite, done=done
            )
            recording.define(decode_instruments(welcome.instruments))
            _log.info("recording gateway %d, epoch %d, to %s", welcome.gateway, welcome.epoch, path)
            receiver.attach(asyncio.get_running_loop(), recording.on_burst)
            await _flush_until(recording, limits.seconds)
    finally:
        receiver.close()
    recording.close()
    return recording.summary()


async def _hello(client: ControlClient, done: asyncio.Event) -> Welcome | None:
    """Wait for the gateway, or for the end."""
    hello = asyncio.ensure_future(client.hello())
    end = asyncio.ensure_future(done.wait())
    try:
        await asyncio.wait((hello, end), return_when=asyncio.FIRST_COMPLETED)
        return hello.result() if hello.done() else None
    finally:
        hello.cancel()
        end.cancel()


async def _flush_until(recording: Recording, seconds: float | None) -> None:
    loop = asyncio.get_running_loop()
    ends = math.inf if seconds is None else loop.time() + seconds
    while not recording.done.is_set() and loop.time() < ends:
        try:
            async with asyncio.timeout(min(_FLUSH_S, ends - loop.time())):
                await recording.done.wait()
        except TimeoutError:
            recording.flush()
