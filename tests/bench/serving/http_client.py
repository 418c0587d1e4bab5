"""A client of HTTP/1.1 that costs next to nothing: kept connections, one request at a time each."""

import asyncio
from typing import Final

_LENGTH: Final = b"content-length:"


class HttpPool:
    """Connections to one server; a request waits for one that is free.

    Args:
        port: On this machine.
        path: What is posted to.
        kind: Content type of the bodies.
    """

    def __init__(self, port: int, path: str, kind: str) -> None:
        self._port = port
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
        self._head = f"{head}Content-Length: ".encode()
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        self._free = asyncio.Queue()

    async def open(self, count: int) -> None:
        """Connect."""
        for _ in range(count):
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))

    async def post(self, body: bytes) -> bytes:
        """Return the body of the answer.

        Raises:
            RuntimeError: the answer is not 200.
        """
        reader, writer = await self._free.get()
        writer.write(self._head + str(len(body)).encode() + b"\r\n\r\n" + body)
        head = await reader.readuntil(b"\r\n\r\n")
        answer = await _read_body(reader, head.lower())
        self._free.put_nowait((reader, writer))
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"{head!r} {answer[:200]!r}")
        return answer

    async def close(self) -> None:
        """Close what is free."""
        while not self._free.empty():
            _, writer = self._free.get_nowait()
            writer.close()


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """Read a body of a stated length, or in chunks up to one of length 0."""
    if _LENGTH in head:
        start = head.index(_LENGTH) + len(_LENGTH)
        return await reader.readexactly(int(head[start : head.index(b"\r\n", start)]))
    parts = []
    while length := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(length + 2))[:length])
    await reader.readexactly(2)
    return b"".join(parts)
