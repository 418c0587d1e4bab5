"""WebSocket clients that note when each signal came: ``python -m replay.lab.clients URL COUNT``.

All of them share one process and one loop, so that they take one processor's time from the engine
at most. A signal is read as far as the lab needs, which takes a microsecond.
"""

import argparse
import asyncio
import contextlib
from array import array
from typing import Final

import msgspec
import numpy as np
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from engine.core.errors import CheckFailedError, HeqisError
from engine.stream_messages import Subscribe, encode
from replay.lab.talk import fail, lab_ns, listen, say

MAX_NOTES: Final = 4_000_000
"""Most signals noted, over all clients; more are counted."""
QUIET_S: Final = 0.3
"""The stream has ended when nothing came for so long."""
OPEN_S: Final = 20.0
COLUMNS: Final = ("client", "recv_ns", "epoch", "tick_seq", "ts_emit", "queue_ns", "service_ns")


class Brief(msgspec.Struct, gc=False):
    """What is read of a signal."""

    tick_epoch: int
    tick_seq: int
    ts_emit: int
    queue_ns: int | None = None
    service_ns: int | None = None


class Message(msgspec.Struct, gc=False):
    """What is read of a message."""

    type: str
    signal: Brief | None = None


class Notes:
    """What came, a row a signal and client; bounded.

    Attributes:
        rows: Values of COLUMNS, one row after the other.
        untold: Signals beyond the bound.
        gaps: Gaps that the stream told of.
    """

    def __init__(self) -> None:
        self.rows = array("q")
        self.untold = 0
        self.gaps = 0
        self.last_ns = 0
        self._decode = msgspec.json.Decoder(Message).decode

    def take(self, client: int, data: bytes) -> None:
        """Note one message."""
        now = lab_ns()
        message = self._decode(data)
        brief = message.signal
        if brief is None:
            self.gaps += message.type == "gap"
            return
        self.last_ns = now
        if len(self.rows) >= MAX_NOTES * len(COLUMNS):
            self.untold += 1
            return
        self.rows.extend(
            (
                client, now, brief.tick_epoch, brief.tick_seq, brief.ts_emit,
                -1 if brief.queue_ns is None else brief.queue_ns,
                -1 if brief.service_ns is None else brief.service_ns,
            )
        )  # fmt: skip

    def table(self) -> dict[str, np.ndarray]:
        """Return the columns by name, int64, shape (N,)."""
        rows = np.array(self.rows, np.int64).reshape(-1, len(COLUMNS))
        return {name: rows[:, column] for column, name in enumerate(COLUMNS)}


async def follow(client: int, connection: ClientConnection, notes: Notes) -> None:
    """Note what comes on one connection until it ends."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            notes.take(client, await connection.recv(decode=False))


async def subscribe(url: str) -> ClientConnection:
    """Connect and ask for every signal.

    Raises:
        CheckFailedError: the stream cannot be had.
    """
    try:
        connection = await connect(
            url, compression=None, ping_interval=None, open_timeout=OPEN_S, proxy=None
        )
        await connection.send(encode(Subscribe()), text=True)
        async with asyncio.timeout(OPEN_S):
            while b'"subscribed"' not in await connection.recv(decode=False):
                pass
    except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
        raise CheckFailedError(f"a client could not subscribe at {url}: {error}") from error
    return connection


async def watch(url: str, count: int) -> None:
    """Follow the stream with so many clients until told to end; then write the notes."""
    notes = Notes()
    connections = [await subscribe(url) for _ in range(count)]
    following = [
        asyncio.create_task(follow(client, connection, notes))
        for client, connection in enumerate(connections)
    ]
    say("listening")
    wish = await asyncio.get_running_loop().run_in_executor(None, listen)
    while lab_ns() - notes.last_ns < QUIET_S * 1e9:  # noqa: ASYNC110 - silence is no event
        await asyncio.sleep(QUIET_S / 4)
    lost = sum(task.done() for task in following)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    np.savez(wish["out"], **notes.table())  # type: ignore[arg-type] # numpy takes them by name
    say("heard", gaps=notes.gaps, untold=notes.untold, lost=lost)


def main() -> None:
    """Be the clients' process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    try:
        uvloop.run(watch(arguments.url, arguments.count))
    except HeqisError as error:
        fail(error)


if __name__ == "__main__":
    main()
