"""The control channel: its messages, its two sides, and both over real sockets."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import uvloop
import zmq
import zmq.asyncio
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import LinkError
from engine.core.records import Instruments, instrument_row
from feeds.codec import encode_instruments
from feeds.config import LinkConfig
from feeds.control_client import ControlClient
from feeds.control_desk import ControlDesk, StreamFacts
from feeds.control_messages import (
    MAX_REQUEST_BYTES,
    PROTOCOL,
    ErrorReply,
    Hello,
    MessageError,
    NewInstruments,
    Ping,
    Pong,
    Resend,
    StatusReply,
    StatusRequest,
    Welcome,
    encode,
    parse_reply,
    parse_request,
)
from feeds.control_server import ControlServer
from feeds.control_session import ControlSession

MS = 1_000_000
DEADLINE_S = 10.0


def facts(epoch: int = 5, count: int = 2) -> StreamFacts:
    table = np.concatenate([instrument_row(f"I{i}.SIM", id=i) for i in range(count)])
    frames = encode_instruments(table, gateway=1, epoch=epoch, next_seq=1, ts_send=1)
    return StreamFacts(1, epoch, 1, 100 * MS, b"".join(frames))


def desk(epoch: int = 5, max_peers: int = 4) -> ControlDesk:
    return ControlDesk(lambda: facts(epoch), lambda: {"ticks": 3}, max_peers)


@given(st.binary(max_size=300))
def test_garbage_is_answered_with_an_error_and_nothing_else(payload: bytes) -> None:
    reply = parse_reply(desk().answer(b"x", [payload], 1, 1)[0])
    assert isinstance(reply, ErrorReply)
    assert reply.reason == "malformed"


@given(
    st.sampled_from(["hello", "ping", "status", "resend", "nonsense"]),
    st.dictionaries(
        st.sampled_from(["t1", "protocol", "name", "epoch", "first_seq", "count"]),
        st.none() | st.integers() | st.text() | st.floats(allow_nan=False),
    ),
)
def test_any_object_is_answered(kind: str, fields: dict[str, Any]) -> None:
    try:
        payload = orjson.dumps({"type": kind, **fields})
    except TypeError:
        return
    reply = parse_reply(desk().answer(b"x", [payload], 1, 1)[0])
    assert isinstance(reply, ErrorReply | Welcome | Pong | StatusReply)


def test_each_fault_has_its_reason() -> None:
    cases = {
        "malformed": b'{"type": "ping"}',
        "oversized": b" " * (MAX_REQUEST_BYTES + 1),
        "protocol": encode(Hello(PROTOCOL + 1, "x")),
    }
    for reason, payload in cases.items():
        with pytest.raises(MessageError, match=reason) as caught:
            parse_request(payload)
        assert caught.value.reason == reason


def test_desk_answers_and_counts_each_request() -> None:
    served = desk()
    assert isinstance(parse_reply(served.answer(b"a", [encode(Hello(1, "e"))], 1, 1)[0]), Welcome)
    pong = parse_reply(served.answer(b"a", [encode(Ping(7))], 9, 2)[0])
    assert pong == Pong(7, 9, 9, 5, 1)
    assert parse_reply(served.answer(b"a", [encode(StatusRequest())], 1, 3)[0]) == StatusReply(
        {"ticks": 3}
    )
    refused = parse_reply(served.answer(b"a", [encode(Resend(5, 1, 2))], 1, 4)[0])
    assert isinstance(refused, ErrorReply)
    assert refused.reason == "unsupported"
    assert isinstance(parse_reply(served.answer(b"a", [b"", b""], 1, 1)[0]), ErrorReply)
    assert served.answered == {
        "hello": 1, "ping": 1, "statusrequest": 1, "resend": 1, "refused_malformed": 1,
    }  # fmt: skip


def test_desk_forgets_the_peer_unheard_for_longest() -> None:
    served = desk(max_peers=2)
    for moment, peer in enumerate([b"a", b"b", b"a", b"c"]):
        served.answer(peer, [encode(Hello(1, "e"))], 1, moment)
    for stranger in (b"stranger", b"b"):
        reply = parse_reply(served.answer(stranger, [encode(Ping(1))], 1, 9)[0])
        assert reply == ErrorReply("unknown_peer", "say hello")
    assert served.peers == (b"a", b"c")
    assert served.alive(4, 1) == 1


def config(**keys: Any) -> LinkConfig:
    return LinkConfig(
        **{"hello_retry": 10 * MS, "ping_interval": 20 * MS, "peer_timeout": 100 * MS, **keys}
    )


def test_session_says_hello_until_it_is_welcome_then_pings() -> None:
    session = ControlSession(config(), "e")
    assert session.outgoing(0, 0) == encode(Hello(1, "e"))
    assert session.outgoing(9 * MS, 0) is None
    assert session.outgoing(10 * MS, 0) == encode(Hello(1, "e"))
    session.incoming(encode(Welcome(1, *facts())), 11 * MS, 0)
    assert session.outgoing(11 * MS, 123) == encode(Ping(123))
    assert session.wait_ns(12 * MS) == 19 * MS
    assert session.peer_alive(111 * MS)
    assert not session.peer_alive(112 * MS)


def test_another_epoch_in_a_pong_asks_for_a_new_welcome() -> None:
    session = ControlSession(config(), "e")
    session.incoming(encode(Welcome(1, *facts(5))), 0, 0)
    session.incoming(encode(Pong(0, 1, 1, 6, 1)), 1, 2)
    assert session.welcome is None
    assert session.outgoing(1, 0) == encode(Hello(1, "e"))


def test_a_session_that_was_forgotten_greets_anew_and_not_without_end() -> None:
    session = ControlSession(config(), "e")
    assert session.outgoing(0, 0) == encode(Hello(1, "e"))
    session.incoming(encode(Welcome(1, *facts())), MS, 0)
    forgotten = encode(ErrorReply("unknown_peer", ""))
    session.incoming(forgotten, 50 * MS, 0)
    assert session.welcome is None
    assert session.peer_alive(50 * MS)
    assert session.outgoing(50 * MS, 0) == encode(Hello(1, "e"))
    session.incoming(encode(Welcome(1, *facts())), 51 * MS, 0)
    session.incoming(forgotten, 52 * MS, 0)
    assert session.outgoing(59 * MS, 0) is None
    assert session.outgoing(60 * MS, 0) == encode(Hello(1, "e"))


def test_an_engine_pushed_out_by_others_is_a_peer_again() -> None:
    async def main() -> None:
        answers = desk(max_peers=2)
        server = ControlServer("tcp://127.0.0.1:*", answers)
        heard: list[int] = []
        async with server:
            link = config(control=server.endpoint)
            async with ControlClient(link, on_instruments=lambda _, e: heard.append(e)) as client:
                await client.hello()
                own = answers.peers
                for stranger in (b"x", b"y"):
                    answers.answer(stranger, [encode(Hello(PROTOCOL, "other"))], 1, 1 << 62)
                assert not set(own) & set(answers.peers)
                await until(lambda: set(own) <= set(answers.peers))
                await until(lambda: client.welcome is not None)
                before = len(heard)
                server.tell_instruments()
                await until(lambda: len(heard) > before)

    run(main)


def test_session_learns_the_clock_offset() -> None:
    session = ControlSession(config(), "e")
    session.incoming(encode(Pong(100, 1_000_150, 1_000_150, 5, 1)), 1, 200)
    assert session.estimate is not None
    assert session.estimate.offset_ns == 1_000_000
    assert session.estimate.error_bound_ns >= 50


@given(st.binary(max_size=200))
def test_garbage_from_the_gateway_is_counted(payload: bytes) -> None:
    session = ControlSession(config(), "e")
    assert session.incoming(payload, 1, 1) is None
    assert session.counters == {"refused_malformed": 1}
    assert not session.peer_alive(1)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await main()

    uvloop.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - bounded by run's deadline
        await asyncio.sleep(0.002)


def served(endpoint: str, epoch: int) -> tuple[ControlServer, ControlDesk]:
    answers = desk(epoch)
    return ControlServer(endpoint, answers), answers


@contextmanager
def raw_dealer(endpoint: str) -> Iterator[zmq.asyncio.Socket]:
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as raw:
        raw.linger = 0
        raw.connect(endpoint)
        yield raw


def test_client_is_welcomed_pings_and_learns_the_offset() -> None:
    async def main() -> None:
        server, answers = served("tcp://127.0.0.1:*", 5)
        heard: list[tuple[Instruments, int]] = []
        async with (
            server,
            ControlClient(
                config(control=server.endpoint), on_instruments=lambda i, e: heard.append((i, e))
            ) as client,
        ):
            welcome = await client.hello()
            assert (welcome.epoch, welcome.next_seq, client.peer_alive) == (5, 1, True)
            assert (heard[0][0]["symbol"].tolist(), heard[0][1]) == ([b"I0.SIM", b"I1.SIM"], 5)
            await until(lambda: client.counters.get("received_pong", 0) >= 3)
            assert client.offset is not None
            assert abs(client.offset.offset_ns) <= client.offset.error_bound_ns
            assert await client.status() == {"ticks": 3}
            server.tell_instruments()
            await until(lambda: len(heard) == 2)
        assert answers.answered["hello"] == 1

    run(main)


def test_client_follows_a_gateway_that_goes_and_returns_with_a_new_epoch() -> None:
    async def main() -> None:
        first, _ = served("tcp://127.0.0.1:*", 5)
        epochs: list[int] = []
        async with first:
            endpoint = first.endpoint
            link = config(control=endpoint)
            async with ControlClient(link, on_instruments=lambda _, e: epochs.append(e)) as client:
                await client.hello()
                await first.close()
                await until(lambda: not client.peer_alive)
                again, _ = served(endpoint, 6)
                async with again:
                    await until(lambda: client.welcome is not None and client.welcome.epoch == 6)
                    assert client.peer_alive
                    assert epochs == [5, 6]

    run(main)


def test_client_waits_for_a_gateway_that_is_not_there_yet(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/control"

    async def main() -> None:
        async with ControlClient(config(control=endpoint)) as client:
            await until(lambda: client.counters.get("unsent", 0) > 2)
            assert not client.peer_alive
            server, _ = served(endpoint, 7)
            async with server:
                assert (await client.hello()).epoch == 7

    run(main)


def test_client_stops_at_once_however_busy_it_is() -> None:
    async def main() -> None:
        server, _ = served("tcp://127.0.0.1:*", 5)
        async with server:
            link = config(control=server.endpoint, ping_interval=MS)
            for _ in range(20):
                async with ControlClient(link) as client:
                    await client.hello()

    run(main)


def test_a_peer_that_sends_garbage_is_answered_and_hurts_nobody() -> None:
    async def main() -> None:
        server, answers = served("tcp://127.0.0.1:*", 5)
        garbage = [b"", b"\xff" * 50, b"{}", b'{"type":"hello"}', b"[" * 5000, b"1" * 5000]
        async with server:
            with raw_dealer(server.endpoint) as raw:
                for payload in garbage:
                    await raw.send(payload)
                await raw.send_multipart([b"two", b"frames"])
                for _ in range(len(garbage) + 1):
                    assert isinstance(parse_reply(await raw.recv()), ErrorReply)
                async with ControlClient(config(control=server.endpoint)) as client:
                    assert (await client.hello()).epoch == 5
        assert answers.answered["refused_malformed"] == len(garbage) + 1

    run(main)


def test_a_message_too_long_to_be_one_does_not_reach_the_desk() -> None:
    async def main() -> None:
        server, answers = served("tcp://127.0.0.1:*", 5)
        async with server:
            with raw_dealer(server.endpoint) as raw:
                await raw.send(b"x" * (MAX_REQUEST_BYTES * 4))
                async with ControlClient(config(control=server.endpoint)) as client:
                    await client.hello()
                    await until(lambda: client.counters.get("received_pong", 0) >= 2)
        assert set(answers.answered) == {"hello", "ping"}

    run(main)


def test_an_endpoint_in_use_is_a_link_error() -> None:
    async def main() -> None:
        server, _ = served("tcp://127.0.0.1:*", 5)
        async with server:
            with pytest.raises(LinkError, match="cannot bind"):
                await ControlServer(server.endpoint, desk()).__aenter__()

    run(main)


def test_damaged_definitions_are_counted_and_not_delivered() -> None:
    async def main() -> None:
        broken = facts()._replace(instruments=b"not frames")
        server = ControlServer("tcp://127.0.0.1:*", ControlDesk(lambda: broken, dict, 4))
        heard: list[int] = []
        async with (
            server,
            ControlClient(
                config(control=server.endpoint), on_instruments=lambda _, e: heard.append(e)
            ) as client,
        ):
            await client.hello()
            assert client.counters["refused_instruments"] == 1
            assert not heard

    run(main)


def test_definitions_change_message_carries_the_epoch() -> None:
    reply = parse_reply(desk(9).new_instruments())
    assert isinstance(reply, NewInstruments)
    assert reply.epoch == 9
