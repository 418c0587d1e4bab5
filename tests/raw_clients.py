"""Stream clients as cheap as can be, and the stream's server in another process."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from websockets.frames import Frame, Opcode

ROOT = Path(__file__).resolve().parents[1]
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_TCP_CLOSE = 7
"""The kernel's number for the state of a connection that is no more."""
_SIGNAL = b'{"type":"signal"'
_SEQ = b'"seq":'
_EMITTED = b'"ts_emit":'


def masked(message: dict[str, Any]) -> bytes:
    """Return the frame in which a client sends a message."""
    return Frame(Opcode.TEXT, orjson.dumps(message)).serialize(mask=True, extensions=[])


async def deaf_client(port: int) -> socket.socket:
    """Subscribe to everything over a small receive buffer, and never read again."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, UPGRADE)
    await loop.sock_recv(sock, 1024)
    await loop.sock_sendall(sock, masked({"type": "subscribe", "from_seq": 1}))
    return sock


def is_out(sock: socket.socket) -> bool:
    """Say whether the server has reset the connection, without reading from it."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE


async def until_out(sockets: list[socket.socket], limit_s: float) -> None:
    """Wait until the server has reset all of these.

    Raises:
        TimeoutError: it has not, in time.
    """
    async with asyncio.timeout(limit_s):
        while not all(map(is_out, sockets)):  # noqa: ASYNC110 - a reset is told to nobody
            await asyncio.sleep(0.01)


class RawClient(asyncio.Protocol):
    """Subscribes from a place on, and checks that what comes is unbroken.

    Attributes:
        next_seq: Number of the signal that must come next.
        breaks: Signals that came out of order, or gaps that were declared.
        reached: Set when ``target`` has come.
        latencies_ns: From ``ts_emit`` to here, of each signal, if ``timed``.
    """

    def __init__(self, from_seq: int, target: int, *, timed: bool = False) -> None:
        self.next_seq = from_seq
        self.target = target
        self.breaks = 0
        self.reached = asyncio.Event()
        self.lost = asyncio.Event()
        self.latencies_ns: list[int] = []
        self._timed = timed
        self._buffer = b""
        self._open = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # uvloop's has no such base
        self.transport.write(UPGRADE)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    async def follow(self, port: int) -> int:
        """Connect, and again after every loss, until ``target`` has come; return the losses."""
        loop = asyncio.get_running_loop()
        losses = 0
        while True:
            self.lost.clear()
            self._open, self._buffer = False, b""
            await loop.create_connection(lambda: self, "127.0.0.1", port)
            ends = [asyncio.ensure_future(event.wait()) for event in (self.reached, self.lost)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            if self.reached.is_set():
                return losses
            losses += 1

    async def close(self) -> None:
        """Hang up, without a word."""
        self.transport.close()
        await self.lost.wait()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._open, self._buffer = True, rest
            self.transport.write(masked({"type": "subscribe", "from_seq": self.next_seq}))
        at = 0
        while (end_at := self._frame_end(at)) is not None:
            start, stop = end_at
            if self._buffer[at] & 0x0F == Opcode.PING:
                pong = Frame(Opcode.PONG, self._buffer[start:stop])
                self.transport.write(pong.serialize(mask=True, extensions=[]))
            else:
                self._take(self._buffer[start:stop])
            at = stop
        self._buffer = self._buffer[at:]

    def _frame_end(self, at: int) -> tuple[int, int] | None:
        """Return where the payload of the frame at a place begins and ends; None if not all of it
        is there."""
        buffer = self._buffer
        if len(buffer) - at < 2:
            return None
        length, start = buffer[at + 1], at + 2
        wide = {126: 2, 127: 8}.get(length, 0)
        if wide:
            length, start = int.from_bytes(buffer[start : start + wide], "big"), start + wide
        return (start, start + length) if len(buffer) >= start + length else None

    def _take(self, message: bytes) -> None:
        if not message.startswith(_SIGNAL):
            self.breaks += message.startswith(b'{"type":"gap"')
            return
        seq = _number(message, _SEQ)
        self.breaks += seq != self.next_seq
        self.next_seq = seq + 1
        if self._timed:
            self.latencies_ns.append(time.time_ns() - _number(message, _EMITTED))
        if seq >= self.target:
            self.reached.set()


def _number(message: bytes, key: bytes) -> int:
    at = message.index(key) + len(key)
    end = at
    while message[end : end + 1].isdigit():
        end += 1
    return int(message[at:end])


class Server:
    """A ``stream_server`` process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, epoch: int) -> None:
        self.port = port
        self.epoch = epoch
        self._process = process

    async def ask(self, command: str) -> dict[str, float]:
        """Give a command and return what is measured: ``reset`` begins anew."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(command.encode() + b"\n")
        return dict(orjson.loads(await process.stdout.readline()))

    async def stop(self) -> dict[str, Any]:
        """End it and return what it says at its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        told = dict(orjson.loads(await self._process.stdout.read()))
        assert await self._process.wait() == 0
        return told


@asynccontextmanager
async def stream_server(journal: Path, signals: int, rate: float) -> AsyncIterator[Server]:
    """Run a server that has published signals already and goes on at a rate."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("stream_server.py")), str(journal),
        str(signals), str(rate), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = orjson.loads(await process.stdout.readline())
        yield Server(process, told["port"], told["epoch"])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
