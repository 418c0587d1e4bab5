"""The data link over real sockets: nothing is lost, nothing hangs, nothing is trusted."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import uvloop
import zmq
from frame_cases import make_ticks, tick_frame
from process_rig import ROOT, eventually

from engine.core.errors import LinkError
from engine.core.records import MAX_FRAME_BYTES
from feeds.burst import BurstDecoder, Counter
from feeds.link import TickReceiver, TickSender

DEADLINE_S = 20


class Sink:
    """Keeps what bursts hold, and lets a test await a number of messages."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.bursts: list[int] = []
        self._waiting: tuple[int, asyncio.Future[None]] | None = None

    def on_burst(
        self,
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        count: int,
        woken_ns: int,
    ) -> None:
        assert woken_ns > 0
        self.bursts.append(count)
        for at, length in zip(offsets[:count].tolist(), lengths[:count].tolist(), strict=True):
            self.messages.append(wire[at : at + length].tobytes())
        if self._waiting is not None and len(self.messages) >= self._waiting[0]:
            self._waiting[1].set_result(None)
            self._waiting = None

    async def reached(self, count: int) -> None:
        if len(self.messages) < count:
            done = asyncio.get_running_loop().create_future()
            self._waiting = (count, done)
            await asyncio.wait_for(done, DEADLINE_S)


async def until(check: Callable[[], bool]) -> None:
    """Turn the loop until something is so, or the deadline passes."""
    async with asyncio.timeout(DEADLINE_S):
        while not check():  # noqa: ASYNC110 - a socket tells of its peers by polling only
            await asyncio.sleep(0.005)


def with_receiver(
    test: Callable[[TickReceiver, Sink, "zmq.Socket[bytes]"], Awaitable[None]], **how: Any
) -> None:
    """Run a test on an attached receiver with a connected PUSH."""

    async def run() -> None:
        receiver = TickReceiver("tcp://127.0.0.1:*", **how)
        context: zmq.Context[Any] = zmq.Context()
        push = context.socket(zmq.PUSH)
        push.connect(receiver.endpoint)
        sink = Sink()
        receiver.attach(asyncio.get_running_loop(), sink.on_burst)
        try:
            await test(receiver, sink, push)
        finally:
            receiver.close()
            context.destroy(linger=0)

    uvloop.run(run())


def test_thousands_of_messages_of_one_wake_all_arrive_in_order() -> None:
    async def check(receiver: TickReceiver, sink: Sink, push: "zmq.Socket[bytes]") -> None:
        sent = [b"%d" % i for i in range(5000)]
        for message in sent:
            push.send(message)
        await sink.reached(5000)
        assert sink.messages == sent
        assert receiver.messages == 5000
        assert receiver.bursts == len(sink.bursts)

    with_receiver(check, slots=64)


def test_messages_that_waited_before_the_loop_came_are_received() -> None:
    async def check() -> None:
        receiver = TickReceiver("tcp://127.0.0.1:*", slots=16)
        sender = TickSender(receiver.endpoint)
        await until(lambda: sender.send(b"0"))
        assert all(sender.send(b"%d" % i) for i in range(1, 1000))
        sink = Sink()
        receiver.attach(asyncio.get_running_loop(), sink.on_burst)
        await sink.reached(1000)
        assert sink.messages == [b"%d" % i for i in range(1000)]
        receiver.close()
        sender.close()

    uvloop.run(check())


def test_messages_one_by_one_arrive_one_by_one() -> None:
    async def check(receiver: TickReceiver, sink: Sink, push: "zmq.Socket[bytes]") -> None:
        for i in range(200):
            push.send(b"x")
            await sink.reached(i + 1)
        assert receiver.rescued == 0

    with_receiver(check)


def test_a_turn_takes_no_more_than_the_slots_and_lets_others_run() -> None:
    async def check(receiver: TickReceiver, sink: Sink, push: "zmq.Socket[bytes]") -> None:
        receiver.detach()
        for _ in range(1000):
            push.send(b"x")
        turns: list[int] = []
        loop = asyncio.get_running_loop()
        receiver.attach(loop, sink.on_burst)

        def turn() -> None:
            turns.append(len(sink.messages))
            if turns[-1] < 1000:
                loop.call_soon(turn)

        loop.call_soon(turn)
        await sink.reached(1000)
        assert max(sink.bursts) == 50
        assert max(np.diff(turns, prepend=0)) <= 100
        assert receiver.full_bursts >= 1000 // 50 - 1

    with_receiver(check, slots=50)


def test_empty_garbage_and_multipart_messages_are_counted_by_the_decoder() -> None:
    async def check(receiver: TickReceiver, sink: Sink, push: "zmq.Socket[bytes]") -> None:
        decoder = BurstDecoder(2)

        def on_burst(wire: Any, offsets: Any, lengths: Any, count: int, woken_ns: int) -> None:
            at = 0
            while at < count:
                at += decoder.decode(wire, offsets, lengths, at, count).consumed
            sink.on_burst(wire, offsets, lengths, count, woken_ns)

        receiver.detach()
        receiver.attach(asyncio.get_running_loop(), on_burst)
        good = tick_frame(make_ticks(1), 1)
        push.send(b"")
        push.send(b"garbage" * 30)
        push.send_multipart([good, tick_frame(make_ticks(1), 2)])
        push.send(good[:100])
        push.send(tick_frame(make_ticks(256), 3))
        await sink.reached(6)
        assert decoder.counters[Counter.TICKS] == 258
        counts = decoder.count_by_name()
        assert (counts["frame_bad_length"], counts["frame_bad_magic"]) == (2, 1)

    with_receiver(check)


def test_an_overlong_message_costs_its_sender_the_connection_and_no_more() -> None:
    async def check(receiver: TickReceiver, sink: Sink, push: "zmq.Socket[bytes]") -> None:
        push.send(bytes(MAX_FRAME_BYTES))
        await sink.reached(1)
        push.send(bytes(MAX_FRAME_BYTES + 1))
        await until(lambda: receiver.disconnections == 1)
        assert receiver.counters["disconnections"] == 1
        push.send(b"after")
        await until(lambda: b"after" in sink.messages)
        assert len(sink.messages) == 2
        await until(lambda: receiver.connections == 2)
        assert receiver.peers == 1

    with_receiver(check)


FULL = """
import time
from feeds.link import TickReceiver

receiver = TickReceiver("tcp://127.0.0.1:*", hwm=10)
print(receiver.endpoint, flush=True)
time.sleep(3)
receiver.close()
"""


def test_a_sender_that_dies_while_the_queue_is_full_takes_nobody_with_it() -> None:
    """ZeroMQ's own heartbeats would: libzmq aborts the receiver at the next one."""
    with subprocess.Popen(
        [sys.executable, "-c", FULL], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as receiver, zmq.Context() as context:  # fmt: skip
        assert receiver.stdout is not None
        sender = context.socket(zmq.PUSH)
        sender.set_hwm(10)
        sender.connect(receiver.stdout.readline().strip())
        while sender.poll(300, zmq.POLLOUT):
            sender.send(bytes(1_000), zmq.NOBLOCK)
        sender.close(linger=0)
        assert receiver.wait(60) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")
def test_the_kernel_looks_after_both_ends_of_an_idle_connection() -> None:
    receiver = TickReceiver("tcp://127.0.0.1:*")
    sender = TickSender(receiver.endpoint)
    port = f":{int(receiver.endpoint.rpartition(':')[2]):04X}"

    def kept_alive() -> int:
        """Return how many ends of the connection have a keepalive timer running."""
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ends = [row for row in rows if (row[1] + row[2]).count(port) and row[3] == "01"]
        return sum(row[5].startswith("02:") for row in ends)

    eventually(lambda: kept_alive() == 2, "both ends are looked after", 10)
    sender.close()
    receiver.close()


def test_an_error_in_the_callback_does_not_stop_the_receiver() -> None:
    async def check(receiver: TickReceiver, sink: Sink, push: "zmq.Socket[bytes]") -> None:
        failed: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
        receiver.detach()
        fail = [True] * 3

        def on_burst(*burst: Any) -> None:
            sink.on_burst(*burst)
            if fail and fail.pop():
                raise RuntimeError

        receiver.attach(loop, on_burst)
        for _ in range(100):
            push.send(b"x")
        await sink.reached(100)
        assert 1 <= len(failed) <= 3

    with_receiver(check, slots=10)


def test_a_sender_without_an_engine_says_no_at_once() -> None:
    sender = TickSender("tcp://127.0.0.1:1")
    assert not sender.send(b"x")
    assert (sender.sent, sender.refused) == (0, 1)
    sender.close(linger_ms=0)
    sender.close()


def test_a_full_link_refuses_and_loses_nothing_it_took() -> None:
    async def check() -> None:
        receiver = TickReceiver("tcp://127.0.0.1:*", slots=64, hwm=10)
        sender = TickSender(receiver.endpoint, hwm=10)
        await until(lambda: sender.send(bytes(40_000)))
        while sender.send(bytes(40_000)):
            pass
        sink = Sink()
        receiver.attach(asyncio.get_running_loop(), sink.on_burst)
        await sink.reached(sender.sent)
        assert sender.refused >= 1
        sender.close()
        receiver.close()
        assert len(sink.messages) == sender.sent

    uvloop.run(check())


def test_endpoints_that_cannot_be_are_link_errors() -> None:
    receiver = TickReceiver("tcp://127.0.0.1:*")
    with pytest.raises(LinkError, match="cannot listen for ticks on"):
        TickReceiver(receiver.endpoint)
    receiver.close()
    receiver.close()
    with pytest.raises(LinkError, match="cannot send ticks to nowhere"):
        TickSender("nowhere")


def test_a_shared_context_stays_open() -> None:
    context: zmq.Context[Any] = zmq.Context()
    receiver = TickReceiver("tcp://127.0.0.1:*", context=context)
    sender = TickSender(receiver.endpoint, context=context)
    sender.close()
    receiver.close()
    assert not context.closed
    context.term()
