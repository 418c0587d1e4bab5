"""Clients and gateways that misbehave, against a live engine: counted, cut off, felt by nobody."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
import zmq
from live_cases import live_tree, wait_until
from live_feed import HandFeed, assert_unharmed, feed_tree, journaled_ids
from raw_clients import deaf_client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from engine.client import Signal, SignalClient
from engine.composition import Blueprint, resolve
from engine.config import Config
from engine.daemon import Engine

Scene = Callable[[Engine, HandFeed], Awaitable[None]]
FLOOD = 10_000
SMALL = {"send_buffer_bytes": 16_384, "socket_buffer_bytes": 16_384}


class GoodClient:
    """Follows the stream from its first signal on, and keeps every id."""

    def __init__(self, port: int) -> None:
        self.ids: list[str] = []
        self.seqs: list[int] = []
        self.others: list[object] = []
        self.client = SignalClient(f"ws://127.0.0.1:{port}", from_seq=1)
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for item in self.client:
            if isinstance(item, Signal):
                self.ids.append(item.id)
                self.seqs.append(item.seq)
            else:
                self.others.append(item)

    async def close_after(self, signals: int) -> None:
        await wait_until(lambda: len(self.ids) >= signals)
        await self.client.aclose()
        await self.task


def live(tmp_path: Path, scene: Scene, **stream: Any) -> None:
    """Run a scene; a good client beside it must get every signal, as the good ticks give them."""
    tree = feed_tree(tmp_path, stream={"port": 0, **stream})
    blueprint = resolve(Config.model_validate(tree))
    feed = HandFeed(blueprint.config.link)
    good: list[GoodClient] = []

    async def main() -> None:
        async with feed, Engine(blueprint) as engine, asyncio.timeout(60):
            good.append(GoodClient(engine.stream.port))
            await assert_unharmed(engine, feed)
            await scene(engine, feed)
            await assert_unharmed(engine, feed)
            await good[0].close_after(engine.ingest.pipeline.signals)

    uvloop.run(main())
    assert_told_everything(good[0], blueprint, feed, tmp_path / "journal.db")


def assert_told_everything(
    good: GoodClient, blueprint: Blueprint, feed: HandFeed, journal: Path
) -> None:
    assert good.ids == journaled_ids(journal) == feed.expected_ids(blueprint)
    assert good.seqs == list(range(1, len(good.ids) + 1))
    assert (good.others, good.client.stats.connects) == ([], 1)


def connected(engine: Engine) -> connect:
    return connect(f"ws://127.0.0.1:{engine.stream.port}", compression=None, close_timeout=1)


async def close_code(connection: ClientConnection) -> int | None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass
    return connection.close_code


async def say(engine: Engine, *messages: str | bytes) -> int | None:
    """Send messages until the engine hangs up; return the code it does it with."""
    async with connected(engine) as connection:
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                await connection.send(message)
        return await close_code(connection)


def test_clients_that_send_garbage_are_told_and_closed(tmp_path: Path) -> None:
    rng = random.Random(3)
    wishes = [
        '"min_confidence":2', '"from_seq":-1', '"from_seq":1180591620717411303424', '"unknown":1',
        '"sides":["HOLD"]', '"instruments":"BTC"', '"topics":[]', '"on_slow":"wait"',
    ]  # fmt: skip
    texts = [
        "", "{", "null", "[]", "1e999", '"x"', "{}", '{"type":"buy"}', '{"type":7}', "[" * 10_000,
        '{"type":"unsubscribe"}', "\u0000\ud7ff", *(f'{{"type":"subscribe",{w}}}' for w in wishes),
    ]  # fmt: skip
    binary = [b"", b"\xff\xfe", bytes(100), *(rng.randbytes(40 * n + 1) for n in range(7))]
    garbage: list[str | bytes] = [*texts, *binary]

    async def scene(engine: Engine, feed: HandFeed) -> None:
        for said in range(0, len(garbage), 5):
            assert await say(engine, *garbage[said : said + 5]) == 1008
            assert engine.stream.counters["bad_messages"] == said + 5

    live(tmp_path, scene)


def test_a_client_that_floods_is_closed_while_others_are_served(tmp_path: Path) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        flood = ['{"type":"ping"}'] * FLOOD
        wishes = ['{"type":"subscribe","id":"x"}', '{"type":"unsubscribe","id":"x"}'] * (FLOOD // 2)
        noise = [b"\x00" * 2_000] * FLOOD
        closed = asyncio.gather(*(say(engine, *batch) for batch in (flood, wishes, noise)))
        await assert_unharmed(engine, feed, 2_000)
        assert await closed == [1008, 1008, 1008]
        assert engine.stream.counters["rate_limited"] == 2
        assert engine.stream.counters["messages_received"] < 200

    live(tmp_path, scene)


def test_a_message_too_long_is_closed_with_1009(tmp_path: Path) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        assert await say(engine, "x" * 16_385) == 1009
        assert await say(engine, bytes(5_000_000)) in {1009, 1006}
        await wait_until(lambda: engine.stream.counters["oversize_messages"] == 2)

    live(tmp_path, scene)


def test_clients_that_stop_reading_are_cut_off_while_others_get_everything(tmp_path: Path) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        deaf = [await deaf_client(engine.stream.port) for _ in range(3)]
        await wait_until(lambda: engine.stream.clients == 4)
        counters = engine.stream.counters
        while counters["evicted_stalled"] + counters["evicted_slow"] < 3:
            await feed.send_good(80)
            await asyncio.sleep(0.02)
        await wait_until(lambda: engine.stream.clients == 1)
        for sock in deaf:
            sock.close()

    live(tmp_path, scene, stall_timeout="300ms", check_interval="50ms", **SMALL)


def test_connections_that_are_none_are_dropped(tmp_path: Path) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        opened = [await asyncio.open_connection("127.0.0.1", engine.stream.port) for _ in range(20)]
        for index, (_, writer) in enumerate(opened):
            writer.write((b"", b"\x16\x03\x01garbage\r\n\r\n", b"GET / HTTP/1.1\r\n")[index % 3])
        await assert_unharmed(engine, feed)
        for reader, writer in opened:
            await reader.read()
            writer.close()
        await wait_until(lambda: engine.stream.counters["handshakes_failed"] >= 7)

    live(tmp_path, scene, open_timeout="1s")


def answer_with_garbage(endpoint: str, rounds: int) -> None:
    """Be a gateway that answers every message of the engine with something else."""
    rng = random.Random(4)
    garbage = [
        b"", b"{}", b"\xff" * 50, b"[" * 5_000, b'{"type":"welcome"}', b'{"type":"pong"}',
        b'{"type":"welcome","protocol":1,"gateway":1,"epoch":1,"next_seq":1,'
        b'"heartbeat_interval_ns":1,"instruments":"bm8gZnJhbWVz"}',
    ]  # fmt: skip
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger, router.rcvtimeo = 0, 10_000
        router.bind(endpoint)
        for index in range(rounds):
            peer, *_ = router.recv_multipart()
            noise = garbage[index] if index < len(garbage) else rng.randbytes(index)
            router.send_multipart([peer, noise])
            router.send_multipart([peer, b"two", b"frames"])


def test_a_gateway_that_talks_nonsense_is_waited_out(tmp_path: Path) -> None:
    link = {"hello_retry": "10ms", "ping_interval": "20ms", **live_tree(tmp_path)["link"]}
    blueprint = resolve(Config.model_validate(feed_tree(tmp_path, link=link)))
    feed = HandFeed(blueprint.config.link)

    async def main() -> None:
        async with Engine(blueprint) as engine, asyncio.timeout(60):
            await asyncio.to_thread(answer_with_garbage, blueprint.config.link.control, 30)
            control = engine.board.control
            assert control is not None
            assert engine.ingest.decoder.known_instruments == 0
            refused = {k: v for k, v in control.counters.items() if k.startswith("refused_")}
            assert sum(refused.values()) >= 30
            assert refused["refused_instruments"] == 1
            async with feed:
                await assert_unharmed(engine, feed)

    uvloop.run(main())
    assert journaled_ids(tmp_path / "journal.db") == feed.expected_ids(blueprint)
