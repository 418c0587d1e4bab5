"""A crowd that connects to a stream at one moment, in a process of its own and in nobody's way.

``python crowd.py PORT CLIENTS FROM_SEQ TARGET`` follows from a number until all have the target,
then hangs up, all at once; says, as JSON, what came of it.
"""

import asyncio
import os
import sys
import time

import orjson
import uvloop
from raw_clients import RawClient

LIMIT_S = 90.0
LOWEST = 19


async def follow(port: int, clients: int, from_seq: int, target: int) -> dict[str, float]:
    crowd = [RawClient(from_seq, target) for _ in range(clients)]
    began = time.monotonic()
    async with asyncio.timeout(LIMIT_S):
        losses = await asyncio.gather(*(one.follow(port) for one in crowd))
    seconds = time.monotonic() - began
    await asyncio.gather(*(one.close() for one in crowd))
    return {
        "breaks": sum(one.breaks for one in crowd),
        "reached": min(one.next_seq for one in crowd) - 1,
        "again": sum(losses),
        "seconds": seconds,
    }


if __name__ == "__main__":
    os.nice(LOWEST)
    told = uvloop.run(follow(*map(int, sys.argv[1:])))
    sys.stdout.buffer.write(orjson.dumps(told))
