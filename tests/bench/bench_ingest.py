"""Live ingest of one-tick messages over TCP, against a bare drained PULL, in one run.

A sender in another process floods the socket; the receivers take turns, a round each, so that the
machine's moods meet all of them.
"""

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import uvloop
import zmq
from bench.bench_burst import make_ingest
from bench.market import market_ticks
from bench.measuring import Figure, Outcome, report, say

from engine.config import CONFIGS
from engine.core.records import Schema
from feeds.burst import BurstDecoder, Counter
from feeds.codec import encode_frame
from feeds.link import TickReceiver

MESSAGES: Final = 150_000
ROUNDS: Final = 7
INSTRUMENTS: Final = 20
TARGET: Final = 0.85
SPARE: Final = 8192
BLOCK: Final = 512


def make_frames(count: int) -> list[bytes]:
    """Encode frames of one tick each."""
    ticks = market_ticks(count, INSTRUMENTS)
    return [
        encode_frame(Schema.TICK, ticks[i : i + 1], gateway=1, epoch=1, first_seq=i + 1, ts_send=i)
        for i in range(count)
    ]


def flood(endpoint: str, count: int) -> None:
    """Send ``count`` one-tick frames as fast as the socket takes them."""
    frames = make_frames(count)
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.set_hwm(100_000)
    socket.connect(endpoint)
    for frame in frames:
        socket.send(frame)
    socket.close(linger=-1)
    context.term()


class Counted:
    """Counts what one receiver took, and tells when it is enough."""

    def __init__(self, done: Callable[[], None]) -> None:
        self.count = 0
        self.began_ns = 0
        self.ended_ns = 0
        self._done = done

    def add(self, count: int) -> None:
        """Add messages; the clock runs from the first burst to the one that is enough."""
        if not self.began_ns:
            self.began_ns = time.perf_counter_ns()
            return
        self.count += count
        if self.count >= MESSAGES and not self.ended_ns:
            self.ended_ns = time.perf_counter_ns()
            self._done()

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.count * 1e9 / (self.ended_ns - self.began_ns)


def run_round(measure: Callable[[asyncio.AbstractEventLoop, Counted], Any]) -> float:
    """Run one receiver against one sender process; return messages a second."""

    async def round_of() -> float:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        counted = Counted(lambda: done.set_result(None))
        endpoint, close = measure(loop, counted)
        sender = multiprocessing.get_context("spawn").Process(
            target=flood, args=(endpoint, MESSAGES + SPARE), daemon=True
        )
        sender.start()
        await asyncio.wait_for(done, 60)
        close()
        sender.terminate()
        sender.join()
        return counted.rate

    return uvloop.run(round_of())


def measure_bare(loop: asyncio.AbstractEventLoop, counted: Counted) -> tuple[str, Any]:
    """Drain a PULL by its descriptor and drop what comes."""
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.PULL)
    socket.set_hwm(100_000)
    socket.bind("tcp://127.0.0.1:*")
    receive = socket.recv
    again = int(zmq.NOBLOCK)

    def drain() -> None:
        if socket.closed:
            return
        count = 0
        try:
            for _ in range(BLOCK):
                receive(again)
                count += 1
            loop.call_soon(drain)
        except zmq.Again:
            pass
        if count:
            counted.add(count)

    loop.add_reader(socket.fileno(), drain)

    def close() -> None:
        loop.remove_reader(socket.fileno())
        context.destroy(linger=0)

    return socket.getsockopt_string(zmq.LAST_ENDPOINT), close


def measure_ours(loop: asyncio.AbstractEventLoop, counted: Counted) -> tuple[str, Any]:
    """Receive, check and decode with TickReceiver and BurstDecoder."""
    decoder = BurstDecoder(INSTRUMENTS)
    warm = np.zeros(64, np.uint8)
    decoder.decode(warm, np.zeros(1, np.int64), np.zeros(1, np.int64), 0, 1)
    receiver = TickReceiver("tcp://127.0.0.1:*", slots=BLOCK)

    def on_burst(
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        count: int,
        woken_ns: int,
    ) -> None:
        start = 0
        while start < count:
            start += decoder.decode(wire, offsets, lengths, start, count).consumed
        counted.add(count)

    def close() -> None:
        receiver.close()
        if int(decoder.counters[Counter.TICKS]) != receiver.messages:
            raise SystemExit(f"not every message was decoded: {decoder.count_by_name()}")

    receiver.attach(loop, on_burst)
    return receiver.endpoint, close


def measure_whole(loop: asyncio.AbstractEventLoop, counted: Counted) -> tuple[str, Any]:
    """The engine's duty cycle: decoder, kernel of the default configuration, histograms."""
    ingest = make_ingest(CONFIGS / "replay.toml")
    receiver = TickReceiver("tcp://127.0.0.1:*", slots=BLOCK)

    def on_burst(
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        count: int,
        woken_ns: int,
    ) -> None:
        ingest.on_burst(wire, offsets, lengths, count, woken_ns)
        counted.add(count)

    receiver.attach(loop, on_burst)
    return receiver.endpoint, receiver.close


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure all three, turn by turn."""
    rounds = 3 if arguments.quick else ROUNDS
    bare, ours, whole = [], [], []
    for turn in range(rounds):
        bare.append(run_round(measure_bare))
        ours.append(run_round(measure_ours))
        whole.append(run_round(measure_whole))
        say(f"round {turn + 1}: {bare[-1]:,.0f}, {ours[-1]:,.0f} and {whole[-1]:,.0f} messages/s")
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    ratios_whole = [a / b for a, b in zip(whole, bare, strict=True)]
    return Outcome(
        "Live ingest of one-tick messages over TCP",
        [
            Figure.of("bare drained PULL, messages dropped", bare, "msg/s"),
            Figure.of("received, checked and decoded", ours, "msg/s"),
            Figure.of("received, checked and decoded: ratio", ratios, "x", at_least=TARGET),
            Figure.of("the same with the kernel of configs/replay.toml", whole, "msg/s"),
            Figure.of("with the kernel: ratio", ratios_whole, "x"),
        ],
        [
            f"Medians of {rounds} rounds of {MESSAGES:,} messages from one flooding sender; the "
            "three receivers take turns and a ratio is within a round. Checked means CRC, "
            "sequence, schema and every record.",
        ],
    )


if __name__ == "__main__":
    report(measure, __doc__)
