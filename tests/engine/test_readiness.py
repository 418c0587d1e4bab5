"""Whether an engine is ready is asked over HTTP, by its own health page."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from engine.readiness import ask_health, wait_for_health
from engine.stream import Health, SignalStream
from engine.stream_config import StreamConfig

Facts = dict[str, Any]


def with_stream(
    answers: Callable[[], Health], act: Callable[[int], Awaitable[Facts | None]]
) -> Facts | None:
    async def run() -> Facts | None:
        stream = SignalStream(StreamConfig(port=0), epoch=1, health=answers)
        await stream.start()
        try:
            return await act(stream.port)
        finally:
            await stream.stop()

    return asyncio.run(run())


def health(good: bool) -> Health:
    return Health(good, {"healthy": good, "problems": [] if good else ["no data yet"]})


def test_health_is_read_whether_good_or_not() -> None:
    for good in (True, False):
        facts = with_stream(partial(health, good), partial(ask_health, "127.0.0.1"))
        assert facts == {"healthy": good, "problems": [] if good else ["no data yet"]}


def test_nobody_there_is_no_answer() -> None:
    assert asyncio.run(ask_health("127.0.0.1", 1)) is None


def test_another_server_is_no_answer() -> None:
    async def run(body: bytes) -> Facts | None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await ask_health("127.0.0.1", server.sockets[0].getsockname()[1])

    for body in (b"hello", b"", b"[1]", b'{"status": "ok"}'):
        assert asyncio.run(run(body)) is None


def test_it_waits_until_the_engine_gets_well() -> None:
    asked = 0

    def answers() -> Health:
        nonlocal asked
        asked += 1
        return health(asked > 3)

    def act(port: int) -> Awaitable[Facts | None]:
        return wait_for_health("127.0.0.1", port, answer_s=20, healthy_s=20)

    assert with_stream(answers, act) == {"healthy": True, "problems": []}
    assert asked == 4


def test_an_engine_that_stays_unwell_is_told_as_it_is() -> None:
    def act(port: int) -> Awaitable[Facts | None]:
        return wait_for_health("127.0.0.1", port, answer_s=20, healthy_s=0.2)

    assert with_stream(lambda: health(False), act) == {
        "healthy": False,
        "problems": ["no data yet"],
    }


def test_an_engine_that_never_answers_is_none() -> None:
    assert asyncio.run(wait_for_health("127.0.0.1", 1, answer_s=0.2, healthy_s=9)) is None
