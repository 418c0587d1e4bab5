"""A client that never reads is put out in time, and nobody else is served any later for it."""

import asyncio
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import uvloop
from raw_clients import RawClient, Server, deaf_client, stream_server, until_out

RATE = 300.0
SIGNALS = 2_000
LISTENERS = 5
DEAF = 5
OUT_S = 2.0
QUIET_S = 2.0
CHECK_S = 0.25
"""Between two looks at who has stopped reading."""


def forget(listeners: list[RawClient]) -> None:
    for one in listeners:
        one.latencies_ns.clear()


def p99_ms(listeners: list[RawClient]) -> float:
    """Return the p99 of the latencies since the last call, over all listeners."""
    taken = [one.latencies_ns.copy() for one in listeners]
    forget(listeners)
    return float(np.percentile(np.concatenate(taken), 99)) / 1e6


def best_quarter(rounds: list[float]) -> float:
    """Return the mean of the lowest quarter.

    Others use this machine too, and make rounds slower, never faster; what deaf clients cost, the
    best rounds have as well.
    """
    return statistics.fmean(sorted(rounds)[: len(rounds) // 4])


async def listen(server: Server) -> list[RawClient]:
    listeners = [RawClient(SIGNALS, SIGNALS, timed=True) for _ in range(LISTENERS)]
    await asyncio.gather(*(one.follow(server.port) for one in listeners))
    return listeners


async def measure(server: Server, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Return p99 without and with deaf clients, ms, and how long these stayed, s, a round each."""
    quiet, noisy, stayed = [], [], []
    listeners = await listen(server)
    read = [one.transport.get_extra_info("socket") for one in listeners]
    for _ in range(rounds):
        forget(listeners)
        with pytest.raises(TimeoutError):  # looking costs the same in both
            await until_out(read, QUIET_S)
        quiet.append(p99_ms(listeners))
        began = time.monotonic()
        deaf = [await deaf_client(server.port) for _ in range(DEAF)]
        await asyncio.sleep(0.3)  # what they are owed fills their buffers: a replay like any other
        forget(listeners)
        await until_out(deaf, 20.0)
        stayed.append(time.monotonic() - began)
        noisy.append(p99_ms(listeners))
        for sock in deaf:
            sock.close()
    assert [one.breaks for one in listeners] == [0] * LISTENERS
    await asyncio.gather(*(one.close() for one in listeners))
    return quiet, noisy, stayed


def run_rounds(tmp_path: Path, rounds: int) -> tuple[list[float], list[float], list[float]]:
    async def main() -> tuple[list[float], list[float], list[float]]:
        async with stream_server(tmp_path / "journal.db", SIGNALS, RATE) as server:
            measured = await measure(server, rounds)
            counters = (await server.stop())["counters"]
            assert counters["evicted_stalled"] + counters["evicted_slow"] == DEAF * rounds
            return measured

    return uvloop.run(main())


def test_clients_that_never_read_are_out_in_time_and_others_miss_nothing(tmp_path: Path) -> None:
    _, _, stayed = run_rounds(tmp_path, 1)
    assert stayed[0] < OUT_S + 2 * CHECK_S + 1.0  # until the kernel's buffers are full


@pytest.mark.slow
@pytest.mark.alone
def test_clients_that_never_read_cost_the_others_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet, noisy, stayed = run_rounds(tmp_path, 24)
    before, during = best_quarter(quiet), best_quarter(noisy)
    with capsys.disabled():
        print(f"\n{DEAF} deaf clients: p99 of {LISTENERS} others {before:.2f} ms without and "  # noqa: T201
              f"{during:.2f} ms with them; out after {max(stayed):.2f} s", end="")  # fmt: skip
    assert during <= 1.10 * before
