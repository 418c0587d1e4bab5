"""Intruders that beset an engine; run as a process of its own, prints what it did as JSON.

Each kind comes from an address of its own on loopback, at a rate of its own.
"""

import asyncio
import json
import os
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import zmq
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Origin

from feeds.curve import CurveClient
from feeds.keystore import KeyStore

DONE: Counter[str] = Counter()
MESSAGE = '{"type":"subscribe","id":"%d"}'


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def at_rate(per_s: float, ends: float, act: Callable[[int], Awaitable[None]]) -> None:
    """Begin ``act`` so often, whether or not earlier ones have ended, but not without bound."""
    running: set[asyncio.Task[None]] = set()
    number, began = 0, time.monotonic()
    while time.monotonic() < ends:
        if len(running) < 400:
            task = asyncio.ensure_future(act(number))
            running.add(task)
            task.add_done_callback(running.discard)
        number += 1
        await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def knock(port: int) -> Callable[[int], Awaitable[None]]:
    """Connect; say nothing, nonsense, or half a TLS greeting."""

    async def act(number: int) -> None:
        DONE["knocks"] += 1
        try:
            async with asyncio.timeout(3):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, local_addr=("127.0.0.2", 0)
                )
                if number % 3:
                    writer.write(b"\x16\x03\x01\x02\x00" if number % 3 == 1 else b"GET / nonsense")
                await reader.read()
                writer.close()
        except (OSError, TimeoutError):
            DONE["knocks_lost"] += 1

    return act


def come(
    port: int, context: ssl.SSLContext, token: str, address: str, origin: Origin | None = None
) -> connect:
    """Connect over TLS from an address, with a token if it is not empty."""
    return connect(
        f"wss://127.0.0.1:{port}",
        ssl=context,
        additional_headers={"Authorization": f"Bearer {token}"} if token else {},
        local_addr=(address, 0),
        origin=origin,
        proxy=None,
        max_queue=None,
    )


def beg(port: int, pleas: list[tuple[str, Origin | None]]) -> Callable[[int], Awaitable[None]]:
    """Come over TLS, in turns with these tokens, "" for none, and from pages of these origins."""
    context = trusting()

    async def act(number: int) -> None:
        token, origin = pleas[number % len(pleas)]
        DONE["begged"] += 1
        try:
            async with asyncio.timeout(5), come(port, context, token, "127.0.0.3", origin):
                DONE["let_in"] += 1
        except InvalidStatus as error:
            DONE[f"status_{error.response.status_code}"] += 1
        except (OSError, TimeoutError, WebSocketException):
            DONE["beg_lost"] += 1

    return act


def chatter(port: int, token: str) -> Callable[[int], Awaitable[None]]:
    """With a good token: subscriptions and messages without end, then again."""
    context = trusting()

    async def act(number: int) -> None:
        try:
            async with (
                asyncio.timeout(5),
                come(port, context, token, "127.0.0.4") as connection,
            ):
                for at in range(300):
                    await connection.send(MESSAGE % at if number % 2 else '{"type":"ping"}')
                    DONE["chattered"] += 1
                await connection.wait_closed()
                DONE[f"closed_{connection.close_code}"] += 1
        except ConnectionClosed as closed:
            DONE[f"closed_{closed.rcvd.code if closed.rcvd else 0}"] += 1
        except (OSError, TimeoutError, WebSocketException):
            DONE["chatter_lost"] += 1

    return act


def pick(endpoints: list[str], stores: list[str], keys: list[str]) -> Callable[[int], Any]:
    """Try the link's sockets with unknown, revoked and no keys."""
    context: zmq.Context[Any] = zmq.Context()

    async def act(number: int) -> None:
        at = number % 2
        socket = context.socket(zmq.PUSH if at == 0 else zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        which = number // 2 % 3
        if which < len(stores):
            CurveClient(Path(stores[which]), keys[at]).secure(socket)
        try:
            socket.connect(endpoints[at])
            DONE["picked"] += 1
            await asyncio.sleep(0.5)
            try:
                socket.send(random.randbytes(2000), zmq.NOBLOCK)
            except zmq.Again:
                DONE["unsent"] += 1
        finally:
            socket.close(linger=0)

    return act


async def main(plan: dict[str, Any]) -> None:
    os.nice(19)  # from another machine they would not take this one's processors
    ends = time.monotonic() + plan["seconds"]
    port = plan["port"]
    for store in plan["stores"]:
        KeyStore(Path(store)).own()
    await asyncio.gather(
        at_rate(plan["knocks_per_s"], ends, knock(port)),
        at_rate(plan["begs_per_s"], ends, beg(port, plan["pleas"])),
        at_rate(plan["chats_per_s"], ends, chatter(port, plan["noisy"])),
        at_rate(plan["picks_per_s"], ends, pick(plan["endpoints"], plan["stores"], plan["keys"])),
    )
    sys.stdout.write(json.dumps(DONE))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
