"""Live gateways and engines on free ports, for tests."""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

DEADLINE_S = 30.0


def free_endpoints(count: int) -> list[str]:
    """Return TCP endpoints on loopback that are free at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    endpoints = [f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return endpoints


def live_tree(tmp_path: Path, rate: float = 2_000.0, **changes: Any) -> dict[str, Any]:
    """Return a configuration of a simulated live session that makes signals within a second."""
    data, control = free_endpoints(2)
    tree: dict[str, Any] = {
        "link": {"data": data, "control": control},
        "gateway": {
            "outputs": [data],
            "control": control,
            "source": {"kind": "simulator", "rate": rate, "instruments": 5, "seed": 7},
        },
        "bars": [{"name": "20t", "kind": "tick", "size": 20}],
        "strategies": [
            {
                "name": "macd",
                "rule": "macd_cross",
                "on": "20t",
                "params": {"fast": 2, "slow": 3, "signal": 2},
            }
        ],
        "risk": {
            "limits": {"max_position": 0, "cool_down": 0},
            "data": {"max_late": "20s", "gap_hold": 0},
        },
        "engine": {"record": tmp_path / "recordings", "hlog": tmp_path / "stages.hlog"},
        "journal": {"path": tmp_path / "journal.db"},
        "stream": {"port": 0},
    }
    for section, values in changes.items():
        tree[section] = {**tree.get(section, {}), **values}
    return tree


async def wait_until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: it did not within the deadline.
    """
    ends = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError("the condition did not come true")
        await asyncio.sleep(0.01)


async def read_health(port: int) -> tuple[int, dict[str, Any]]:
    """Ask ``GET /health``; return the HTTP status and the JSON body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), orjson.loads(body)
