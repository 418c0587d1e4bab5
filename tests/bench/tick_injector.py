"""Sends ticks on a fixed schedule, whatever becomes of them, and tells how late it was itself.

All frames are made before the first is due; between two it sleeps, then spins. A frame carries
the time it is due, and so do its ticks; nothing is left out when it is late.
"""

import argparse
import ctypes
import json
import sys
import time
from typing import Final

import numpy as np
import zmq
from bench.market import market_ticks

from engine.core.records import Schema, TickKind, Ticks
from feeds.codec import encode_frame

FRAMES_PER_S: Final = 2000
"""Most frames a second: the gateway publishes every 0.5 ms, and what is due shares a frame."""
MARK: Final = 1_000_003.0
LEAD_NS: Final = 300_000_000
SPIN_NS: Final = 100_000
_PR_SET_TIMERSLACK: Final = 29


def make_ticks(arguments: argparse.Namespace) -> tuple[Ticks, int]:
    """Return all ticks, marked ones among them, and how many share a frame."""
    a_frame = max(1, arguments.rate // FRAMES_PER_S)
    frames = int(arguments.seconds * arguments.rate / a_frame)
    ticks = market_ticks(frames * a_frame, arguments.instruments)
    a_stride = arguments.rate // a_frame // arguments.signals
    rng = np.random.default_rng(2)
    for number, first in enumerate(range(0, frames - a_stride + 1, a_stride)):
        tick = ticks[(first + int(rng.integers(a_stride))) * a_frame + a_frame - 1]
        tick["kind"] = TickKind.TRADE
        tick["instrument"] = number % arguments.instruments
        tick["size"] = MARK + number // arguments.instruments % 2
        tick["turnover"] = tick["price"] * tick["size"]
    return ticks, a_frame


def make_frames(ticks: Ticks, a_frame: int, due: list[int], epoch: int) -> list[bytes]:
    """Encode every frame with the time it is due."""
    frames = []
    for number, due_ns in enumerate(due):
        part = ticks[number * a_frame : (number + 1) * a_frame]
        part["ts_event"] = part["ts_recv"] = due_ns
        first_seq = number * a_frame + 1
        frames.append(
            encode_frame(
                Schema.TICK, part, gateway=1, epoch=epoch, first_seq=first_seq, ts_send=due_ns
            )
        )
    return frames


def send_on_time(socket: zmq.Socket[bytes], frames: list[bytes], due: list[int]) -> list[int]:
    """Send each frame when it is due, or at once if that is past; return how late each was, ns."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    late, clock, send = [], time.time_ns, socket.send
    for frame, due_ns in zip(frames, due, strict=True):
        now = clock()
        if due_ns - now > SPIN_NS:
            time.sleep((due_ns - now - SPIN_NS) / 1e9)
            now = clock()
        while now < due_ns:
            now = clock()
        send(frame)
        late.append(now - due_ns)
    return late


def main() -> None:
    """Send, then print the lateness as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint")
    for name in ("rate", "signals", "instruments", "epoch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.set_hwm(100_000)
    socket.connect(arguments.endpoint)
    ticks, a_frame = make_ticks(arguments)
    count = len(ticks) // a_frame
    gap_ns = a_frame * 1_000_000_000 // arguments.rate
    encoding_ns = 40_000 * count
    start_ns = time.time_ns() + encoding_ns + LEAD_NS
    due = [start_ns + number * gap_ns for number in range(count)]
    frames = make_frames(ticks, a_frame, due, arguments.epoch)
    late = send_on_time(socket, frames, due)
    p50, p99 = np.percentile(late, [50, 99]).tolist()
    told = {"start_ns": start_ns, "ticks": len(ticks), "p50_ns": p50, "p99_ns": p99}
    sys.stdout.write(json.dumps({**told, "max_ns": max(late)}) + "\n")
    socket.close(linger=1000)
    context.term()


if __name__ == "__main__":
    main()
