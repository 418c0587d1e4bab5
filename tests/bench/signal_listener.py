"""A WebSocket client that notes when each signal arrived; prints it when its input ends."""

import argparse
import asyncio
import json
import sys
import time

import orjson
import uvloop
from websockets.asyncio.client import connect


async def listen(url: str, strategies: list[str]) -> list[tuple[int, bytes]]:
    """Return arrival, wall ns, and bytes of every message until standard input ends."""
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    came: list[tuple[int, bytes]] = []
    async with connect(url, compression=None, ping_interval=None) as client:
        wish = {"type": "subscribe", "strategies": strategies or None}
        await client.send(orjson.dumps(wish).decode())
        while b'"subscribed"' not in await client.recv(decode=False):
            pass
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        reading = asyncio.create_task(read_all(client, came))
        await ended
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return came


async def read_all(client: object, came: list[tuple[int, bytes]]) -> None:
    """Take messages for ever; nothing else is done between one and the next."""
    receive, clock = client.recv, time.time_ns  # type: ignore[attr-defined] # a connection
    while True:
        data = await receive(decode=False)
        came.append((clock(), data))


def main() -> None:
    """Listen, then print ``[ts_event, latency]`` of every signal as JSON, ns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("strategies", nargs="*")
    arguments = parser.parse_args()
    found = []
    for came_ns, data in uvloop.run(listen(arguments.url, arguments.strategies)):
        message = orjson.loads(data)
        if message["type"] == "signal":
            due_ns = message["signal"]["ts_event"]
            found.append([due_ns, came_ns - due_ns])
    sys.stdout.write(json.dumps({"signals": found}) + "\n")


if __name__ == "__main__":
    main()
