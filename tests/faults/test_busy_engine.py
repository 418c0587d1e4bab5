"""Clients do to an engine that takes 5,000 ticks a second what they do to an idle stream."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop
from process_rig import RULES, Rig, eventually, source_toml
from raw_clients import RawClient, deaf_client, until_out

from engine.operating import read_status

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(300)]
CROWD = Path(__file__).resolve().parents[1] / "crowd.py"
RATE = 5_000.0
BEHIND = 1_000
MORE = 50
"""Signals that come while the crowd is live."""
DEAF = 5
LISTENERS = 5
STREAM = """
[stream]
handshakes_per_s = 1e6
send_buffer_bytes = 4096
socket_buffer_bytes = 4096
"""
"""A crowd has many addresses, and here it has one; what is not read fills small buffers soon."""


def status(rig: Rig) -> dict[str, Any]:
    return asyncio.run(read_status(rig.url))


def head(rig: Rig) -> int:
    """Return the number of the newest signal in the journal."""
    ((newest,),) = rig.rows("SELECT MAX(seq) FROM signals")
    return int(newest or 0)


@contextmanager
def busy(tmp_path: Path) -> Iterator[Rig]:
    """Run a gateway and an engine until clients can be far behind; no tick may be lost then."""
    config = RULES.replace("size = 20", "size = 4") + STREAM + source_toml(RATE)
    with Rig(tmp_path, config) as rig:
        rig.start("engine")
        rig.start("gateway")
        rig.until_live()
        eventually(lambda: head(rig) > BEHIND, "signals enough", every_s=0.5)
        yield rig
        told = status(rig)
        assert (told["healthy"], told["problems"]) == (True, [])
        assert told["input"].get("gaps", 0) == told["input"].get("lost_records", 0) == 0
        assert told["stream"]["gaps"] == 0
        for process in reversed(rig.processes):
            rig.stop(process)
        assert rig.ask("journal", "verify", str(rig.journal)).returncode == 0


def crowd(rig: Rig, clients: int) -> dict[str, float]:
    """Have clients come at once, a thousand signals back; return what they say."""
    now = head(rig)
    words = [rig.port, clients, now - BEHIND, now + MORE]
    environ = {**rig.environ, "PYTHONPATH": f"{CROWD.parents[1]}:{CROWD.parent}"}
    done = subprocess.run(
        [sys.executable, str(CROWD), *map(str, words)],
        env=environ, stdout=subprocess.PIPE, timeout=120, check=True,
    )  # fmt: skip
    told: dict[str, float] = orjson.loads(done.stdout)
    assert told["breaks"] == 0
    assert told["reached"] >= now + MORE
    return told


def test_five_hundred_clients_come_back_at_once_and_miss_nothing(tmp_path: Path) -> None:
    with busy(tmp_path) as rig:
        worst_ms = [status(rig)["loop"]["worst_ns"] / 1e6]
        for _ in range(3):
            told = crowd(rig, 500)
            worst_ms.append(status(rig)["loop"]["worst_ns"] / 1e6)
            print(  # noqa: T201 - the figure
                f"\nFIGURE crowd: live after {told['seconds']:.1f} s, connections lost "
                f"{told['again']:.0f}, loop late by {worst_ms[-2]:.1f} ms at most until then, "
                f"{worst_ms[-1]:.1f} ms afterwards"
            )


def test_clients_that_never_read_are_out_in_time_and_others_miss_nothing(tmp_path: Path) -> None:
    async def beset(rig: Rig) -> float:
        now = head(rig)
        others = [RawClient(now, 1 << 62) for _ in range(LISTENERS)]
        following = [asyncio.create_task(one.follow(rig.port)) for one in others]
        deaf = [await deaf_client(rig.port) for _ in range(DEAF)]
        began = time.monotonic()
        await until_out(deaf, 20.0)
        stayed = time.monotonic() - began
        for sock in deaf:
            sock.close()
        await asyncio.sleep(1.0)
        assert [one.breaks for one in others] == [0] * LISTENERS
        assert min(one.next_seq for one in others) > now + MORE
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await asyncio.gather(*(one.close() for one in others))
        return stayed

    with busy(tmp_path) as rig:
        stayed = uvloop.run(beset(rig))
        told = status(rig)["stream"]
        assert told["evicted_stalled"] + told["evicted_slow"] == DEAF
        assert stayed < 3.5
        print(f"\nFIGURE deaf clients of a busy engine: out after {stayed:.2f} s")  # noqa: T201
