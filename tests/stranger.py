"""Somebody who has no business here: sends what is wrong to a port, from a process of its own.

``python stranger.py flips|zeros|garbage tcp://… COUNT RATE`` sends messages over ZeroMQ;
``python stranger.py huge HOST:PORT zmtp|websocket BYTES`` announces one huge message and sends it
until it is cut off. Says, as JSON, what it sent.
"""

import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from typing import Final

import orjson
import zmq
from frame_cases import make_ticks, tick_frame
from raw_clients import UPGRADE

CHUNK: Final = bytes(1 << 16)
GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)
READY: Final = b"\x05READY" + b"\x0bSocket-Type" + b"\x00\x00\x00\x04PUSH"


def messages(kind: str, count: int) -> Iterator[bytes]:
    """Yield messages of which none is good."""
    rng = random.Random(7)
    frames = [tick_frame(make_ticks(1 + n % 8, first=n), 1 + 8 * n) for n in range(64)]
    for n in range(count):
        if kind == "zeros":
            yield b""
        elif kind == "garbage" or (kind == "asked" and n % 2):
            yield rng.randbytes(rng.randrange(1, 400))
        elif kind == "asked":
            yield b""
        else:
            frame = bytearray(frames[n % 64])
            bit = rng.randrange(8 * len(frame))
            frame[bit // 8] ^= 1 << bit % 8
            yield bytes(frame)


def send_all(kind: str, endpoint: str, count: int, rate: float) -> int:
    """Send at a rate, in bunches of a few milliseconds; return how many."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.linger = 20_000
        push.connect(endpoint)
        began, sent = time.monotonic(), 0
        for message in messages(kind, count):
            push.send(message)
            sent += 1
            ahead = sent / rate - (time.monotonic() - began)
            if ahead > 0.002:
                time.sleep(ahead)
    return sent


def open_huge(address: str, protocol: str, size: int) -> socket.socket:
    """Connect and announce a message of ``size`` bytes."""
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=20)
    if protocol == "zmtp":
        sock.sendall(GREETING + bytes([4, len(READY)]) + READY)
        sock.sendall(b"\x02" + size.to_bytes(8, "big"))
    else:
        sock.sendall(UPGRADE)
        sock.recv(4096)
        sock.sendall(b"\x82\xff" + size.to_bytes(8, "big") + b"mask")
    return sock


def send_huge(address: str, protocol: str, size: int) -> int:
    """Send until it is all sent or the other side hangs up; return the bytes that went."""
    sent = 0
    with open_huge(address, protocol, size) as sock:
        try:
            while sent < size:
                sent += sock.send(CHUNK)
        except (ConnectionError, TimeoutError):
            return sent
    return sent


def main(arguments: list[str]) -> None:
    kind, where, third, fourth = arguments
    os.nice(19)  # on a machine of its own it would not take the engine's cores
    if kind == "huge":
        told = {"sent_bytes": send_huge(where, third, int(fourth))}
    else:
        told = {"sent": send_all(kind, where, int(third), float(fourth))}
    sys.stdout.buffer.write(orjson.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
