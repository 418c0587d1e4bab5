"""An engine without an inside: the same receiver and the same stream, and nothing in between.

A message whose last tick is marked becomes a signal at once: no frame check, no sequence, no
kernel, no gate, no journal, no histogram.
"""

import argparse
import asyncio
import gc
import signal
import sys
import time
from struct import unpack_from
from typing import Final

import numpy as np
import numpy.typing as npt
import uvloop
from bench.tick_injector import MARK

from engine.core.records import TICK
from engine.core.signals import Signal
from engine.stream import SignalStream
from engine.stream_config import StreamConfig
from feeds.link import TickReceiver

EPOCH: Final = 1
_SIZE_AT: Final = TICK.itemsize - TICK.fields["size"][1] if TICK.fields else 0


class Shortcut:
    """From the receiver into the stream."""

    def __init__(self, stream: SignalStream) -> None:
        self._stream = stream

    def on_burst(
        self,
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        count: int,
        woken_ns: int,
    ) -> None:
        """Look at the last tick of every message."""
        for place, length in zip(offsets[:count].tolist(), lengths[:count].tolist(), strict=True):
            end = place + length
            if unpack_from("<d", wire.data, end - _SIZE_AT)[0] >= MARK:
                (event_ns,) = unpack_from("<q", wire.data, end - TICK.itemsize)
                self._stream.publish(self._signal(event_ns))

    def _signal(self, event_ns: int) -> Signal:
        return Signal(
            id="0" * 32,
            epoch=EPOCH,
            seq=self._stream.next_seq,
            instrument="S0.SIM",
            side="BUY",
            strength=1.0,
            confidence=1.0,
            price=100.0,
            edge_bps=None,
            strategy="marked",
            version="1",
            tick_epoch=EPOCH,
            tick_seq=1,
            ts_event=event_ns,
            ts_recv=event_ns,
            ts_emit=time.time_ns(),
            valid_until=event_ns,
            age_ns=0,
            gates=("data", "liquidity", "risk", "cost"),
        )


async def run(endpoint: str) -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    stream = SignalStream(StreamConfig(port=0), epoch=EPOCH)
    await stream.start()
    receiver = TickReceiver(endpoint, hwm=4096)
    receiver.attach(loop, Shortcut(stream).on_burst)
    gc.collect()
    gc.freeze()
    sys.stdout.write(f"ready: signals on port {stream.port}\n")
    sys.stdout.flush()
    await stop.wait()
    receiver.close()
    await stream.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint")
    uvloop.run(run(parser.parse_args().endpoint))
