"""Sends a log to an engine on a fixed schedule, whatever becomes of it: ``-m replay.lab.injector``.

All frames are made before the first is due. Between two it sleeps, then spins. It never waits for
the engine: what the engine does not take lies in ZeroMQ, without a bound but the number of frames.
Each frame carries the time it is due; how late it really left is written down beside.
"""

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zmq

from engine.core.errors import CheckFailedError, HeqisError
from engine.core.records import Schema, Ticks
from feeds.codec import encode_frame
from latency.steady import CLOCK
from replay.lab.schedule import Int64s, Pace, Schedule, make_schedule, stamped
from replay.lab.talk import LAB_BASE_NS, fail, lab_ns, listen, say, sleep_exactly, take_precedence
from replay.lab.window import load_window

SPIN_NS: Final = 100_000
"""The last part of a wait is spent spinning: a sleep may end so much too late."""
SEND_NS: Final = 50_000
"""More than it takes to send a frame."""
CONNECT_MS: Final = 10_000
LINGER_MS: Final = 60_000
LEAST_LEAD_NS: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class Stream:
    """Where frames go, and what they are called.

    Attributes:
        endpoint: The engine's data endpoint.
        gateway: The gateway's id.
        epoch: Of the stream.
        market_times: Keep the times of the log.
    """

    endpoint: str
    gateway: int
    epoch: int
    market_times: bool


def sleeps_enough(due_ns: Int64s) -> bool:
    """Say whether sending on time leaves half of every second to sleep in.

    Args:
        due_ns: When each frame is due, ascending, shape (K,).
    """
    within = np.searchsorted(due_ns, due_ns + 1_000_000_000) - np.arange(len(due_ns))
    return int(within.max(initial=0)) * (SPIN_NS + SEND_NS) <= 500_000_000


def make_frames(schedule: Schedule, stream: Stream, start_ns: int) -> list[bytes]:
    """Encode every frame with the time it is due; the records are numbered from 1."""
    ticks: Ticks = schedule.ticks if stream.market_times else stamped(schedule, start_ns)
    ends = [*schedule.firsts[1:].tolist(), len(ticks)]
    return [
        encode_frame(
            Schema.TICK,
            ticks[first:end],
            gateway=stream.gateway,
            epoch=stream.epoch,
            first_seq=first + 1,
            ts_send=due_ns,
        )
        for first, end, due_ns in zip(
            schedule.firsts.tolist(), ends, (schedule.due_ns + start_ns).tolist(), strict=True
        )
    ]


def send_on_time(socket: zmq.Socket[bytes], frames: list[bytes], due_ns: Int64s) -> Int64s:
    """Send each frame when it is due, or at once if that is past.

    Args:
        socket: Connected.
        frames: What is sent.
        due_ns: When, on the lab's clock, shape (K,).

    Returns:
        When each was sent, on the same clock, shape (K,); 0 where the socket did not take it.
    """
    base, clock_id, read, send = LAB_BASE_NS, CLOCK, time.clock_gettime_ns, socket.send
    sent: list[int] = []
    note = sent.append
    for frame, due in zip(frames, (due_ns - base).tolist(), strict=True):
        now = read(clock_id)
        if due - now > SPIN_NS:
            time.sleep((due - now - SPIN_NS) / 1e9)
            now = read(clock_id)
        while now < due:
            now = read(clock_id)
        try:
            send(frame, zmq.NOBLOCK)
        except zmq.Again:
            now = -base
        note(now)
    return np.array(sent, np.int64) + base


def open_socket(context: zmq.Context[Any], stream: Stream, frames: int) -> zmq.Socket[bytes]:
    """Connect to the engine, and wait until it is there.

    Raises:
        CheckFailedError: it is not.
    """
    socket: zmq.Socket[bytes] = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.SNDHWM, frames + 1)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.connect(stream.endpoint)
    if not socket.poll(CONNECT_MS, zmq.POLLOUT):
        socket.close(linger=0)
        raise CheckFailedError(f"no engine takes ticks at {stream.endpoint}")
    return socket


def play(schedule: Schedule, stream: Stream, start_ns: int) -> npt.NDArray[np.int64]:
    """Send the whole schedule.

    Returns:
        When each frame was sent, on the lab's clock, shape (K,).

    Raises:
        CheckFailedError: the engine is not there, or the frames were not ready at the start.
    """
    frames = make_frames(schedule, stream, start_ns)
    with zmq.Context() as context:
        socket = open_socket(context, stream, len(frames))
        try:
            missed_ns = lab_ns() + LEAST_LEAD_NS - start_ns
            if missed_ns > 0:
                text = f"{len(frames):,} frames were not ready in time: {missed_ns / 1e6:.0f} ms"
                raise CheckFailedError(text)
            gc.collect()
            gc.disable()
            sent_ns = send_on_time(socket, frames, schedule.due_ns + start_ns)
            gc.enable()
        finally:
            socket.close()
    return sent_ns


def serve() -> None:
    """Do one play as told on stdin: prepare, wait for the start, send, tell."""
    wish = listen()
    window = load_window(Path(wish["log"]), wish["skip_ns"])
    schedule = make_schedule(window.ticks, Pace(**wish["pace"]))
    del window
    facts = {"frames": len(schedule.due_ns), "ticks": len(schedule.ticks)}
    say("prepared", **facts, priority=take_precedence(real_time=sleeps_enough(schedule.due_ns)))
    start_ns = listen()["start_ns"]
    sent_ns = play(schedule, Stream(**wish["stream"]), start_ns)
    np.savez(
        wish["out"],
        firsts=schedule.firsts,
        due_ns=schedule.due_ns + start_ns,
        sent_ns=sent_ns,
        ticks=np.int64(len(schedule.ticks)),
    )
    say("sent", unsent=int(np.count_nonzero(sent_ns == 0)))


def main() -> None:
    """Be the injector's process."""
    sleep_exactly()
    try:
        serve()
    except HeqisError as error:
        fail(error)


if __name__ == "__main__":
    main()
