"""What many clients bring at once is done a little at a time, and leaves no garbage behind."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raw_clients import UPGRADE, masked
from stream_fakes import Bench, BenchClient
from stream_rig import rig, run

from engine.stream_messages import Subscribe
from engine.stream_pacing import TurnQueue

EVERYTHING = Subscribe(from_seq=1)


def test_a_turn_does_so_much_and_no_more_in_order() -> None:
    woken: list[Callable[[], None]] = []
    done: list[int] = []
    turns = TurnQueue(3, woken.append)
    for number in range(7):
        turns.add(lambda number=number: done.append(number))  # type: ignore[misc] # bound now
    sizes = []
    while woken:
        woken.pop()()
        sizes.append(len(done))
    assert sizes == [3, 6, 7]
    assert done == list(range(7))


def test_work_that_brings_more_work_does_not_go_on_forever() -> None:
    woken: list[Callable[[], None]] = []
    done: list[int] = []
    turns = TurnQueue(3, woken.append)

    def again() -> None:
        done.append(len(done))
        turns.add(again)

    turns.add(again)
    for _ in range(4):
        woken.pop()()
    assert len(woken) == 1
    assert len(done) == 4


def test_a_signal_is_written_to_so_many_at_once_and_to_the_others_in_later_turns() -> None:
    bench = Bench(fan_out=10, turn_signals=32)
    clients = [BenchClient(bench, EVERYTHING) for _ in range(25)]
    bench.publish()
    assert sum(len(client.link.sent) > 2 for client in clients) == 10  # after two greetings
    assert bench.woken
    bench.publish(3)  # in the same turn of the loop: no further write
    assert bench.core.counters["put_off"] == 25
    rounds = 0
    while bench.core.delivery.work(32):
        rounds += 1
    assert rounds > 3
    bench.publish()
    bench.settle()
    for client in clients:
        client.read()
        assert client.signals == [1, 2, 3, 4, 5]
        assert not client.gaps


def test_few_clients_are_all_sent_a_signal_at_once() -> None:
    bench = Bench(fan_out=10)
    clients = [BenchClient(bench, EVERYTHING) for _ in range(10)]
    for _ in range(5):
        bench.publish()
        for client in clients:
            client.read()
            assert client.signals[-1] == bench.ring.head
        bench.core.delivery.work(512)
    assert bench.core.counters["put_off"] == 0


async def come_and_go(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(masked({"type": "subscribe", "from_seq": 1}))
    await reader.read(300)
    writer.close()
    await writer.wait_closed()


def test_connections_that_ended_leave_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as r:
            r.emit(3)
            await come_and_go(r.stream.port)
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await come_and_go(r.stream.port)
                while r.stream.clients or len(asyncio.all_tasks()) > 8:  # noqa: ASYNC110 - polled
                    await asyncio.sleep(0.002)
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                left = [type(one).__name__ for one in gc.garbage]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert "StreamConnection" not in left
            assert "ServerProtocol" not in left
            assert len(left) < 20

    run(work)


def test_a_client_that_hung_up_one_way_and_never_reads_is_cut_off_too(tmp_path: Path) -> None:
    small = dict.fromkeys(("send_buffer_bytes", "socket_buffer_bytes"), 4_096)
    settings: dict[str, Any] = {"stall_timeout": "200ms", "check_interval": "20ms", **small}

    async def work() -> None:
        async with rig(tmp_path / "j.db", **settings) as r:
            _, writer = await asyncio.open_connection("127.0.0.1", r.stream.port, limit=1)
            writer.write(UPGRADE)
            while not r.stream.clients:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.002)
            writer.transport.pause_reading()  # type: ignore[attr-defined] # asyncio's has it
            writer.write(masked({"type": "subscribe", "from_seq": 1}))
            while not r.stream.counters["fell_behind"]:
                r.emit(100)
                await asyncio.sleep(0.005)
            writer.write_eof()
            while r.stream.clients:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)
            writer.transport.abort()

    run(work)
