import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
import uvloop
from stream_fakes import make_signal
from stream_rig import Reader, rig, run, subscribed
from websockets.asyncio.server import ServerConnection, serve

from engine.client import Backoff, Gap, Signal, SignalClient, Status
from engine.client_state import KNOWN_IDS, ClientState
from engine.core.errors import StreamError
from engine.stream_messages import (
    ErrorMessage,
    GapMessage,
    Heartbeat,
    SignalMessage,
    SnapshotMessage,
    Subscribe,
    Subscribed,
    Welcome,
    encode,
)


def greeted(position: int | None = None, epoch: int | None = None) -> ClientState:
    """Return the state of a client whose subscription to epoch 5 has just begun."""
    state = ClientState(Subscribe(), position, epoch)
    state.subscribe()
    state.receive(encode(Welcome(1, 5, 10, 2_000)))
    state.receive(encode(Subscribed("main", 5, 10, 11 if position is None else position + 1)))
    return state


def signal_message(prev: int, seq: int) -> bytes:
    return encode(SignalMessage("main", prev, make_signal(5, seq)))


def test_a_first_subscription_asks_for_what_is_next_and_a_later_one_for_the_rest() -> None:
    state = greeted()
    assert (state.epoch, state.position) == (5, 10)
    state.receive(signal_message(0, 11))
    state.receive(signal_message(11, 14))
    again = state.subscribe()
    assert (again.from_seq, again.epoch) == (15, 5)


def test_a_heartbeat_moves_the_place_to_resume_from() -> None:
    state = greeted()
    state.receive(encode(Heartbeat(5, 90, 80, 0)))
    assert state.position == 80
    state.receive(encode(Heartbeat(5, 90, 0, 0)))
    assert state.position == 80


def test_duplicates_are_dropped_and_counted() -> None:
    state = greeted()
    assert len(state.receive(signal_message(0, 11))) == 1
    assert state.receive(signal_message(0, 11)) == []
    assert state.stats.duplicates == 1


def test_a_signal_that_comes_again_in_a_new_epoch_is_dropped_by_its_id() -> None:
    state = greeted()
    state.receive(signal_message(0, 11))
    state.subscribe()
    state.receive(encode(Welcome(1, 6, 1, 2_000)))
    state.receive(encode(Subscribed("main", 6, 2, 1)))
    [gap] = state.receive(encode(GapMessage("main", 5, 12, None, "epoch_changed", False)))
    assert isinstance(gap, Gap)
    again = make_signal(6, 1, id=make_signal(5, 11).id)
    assert state.receive(encode(SignalMessage("main", 0, again))) == []
    assert state.position == 1
    assert state.receive(encode(SignalMessage("main", 1, make_signal(6, 2)))) == [make_signal(6, 2)]
    assert (state.stats.duplicates, state.stats.chain_breaks, state.stats.signals) == (1, 0, 2)


def test_only_the_newest_ids_are_kept() -> None:
    state = greeted()
    last = 11 + KNOWN_IDS
    for seq in range(11, last + 1):
        state.receive(signal_message(0 if seq == 11 else seq - 1, seq))
    oldest, next_one = make_signal(5, 11).id, make_signal(5, 12).id
    assert (
        state.receive(encode(SignalMessage("main", last, make_signal(5, last + 1, id=next_one))))
        == []
    )
    [signal] = state.receive(
        encode(SignalMessage("main", last + 1, make_signal(5, last + 2, id=oldest)))
    )
    assert isinstance(signal, Signal)


def test_a_broken_chain_is_a_gap() -> None:
    state = greeted()
    state.receive(signal_message(0, 11))
    gap, signal = state.receive(signal_message(13, 15))
    assert gap == Gap(5, 12, 14, "chain_broken")
    assert isinstance(signal, Signal)
    assert state.stats.chain_breaks == 1


def test_a_gap_waits_for_its_snapshot() -> None:
    state = greeted(position=2)
    assert state.receive(encode(GapMessage("main", 5, 3, 8, "pruned", True))) == []
    assert state.receive(encode(SnapshotMessage("main", [make_signal(5, 7)], True))) == []
    assert state.position == 2
    [gap] = state.receive(encode(SnapshotMessage("main", [make_signal(5, 8)], False)))
    assert gap == Gap(5, 3, 8, "pruned", (make_signal(5, 7), make_signal(5, 8)))
    assert state.position == 8


def test_a_gap_cut_off_before_its_snapshot_is_asked_for_again() -> None:
    state = greeted(position=2)
    state.receive(encode(GapMessage("main", 5, 3, 8, "pruned", True)))
    assert state.subscribe().from_seq == 3
    assert state.receive(encode(SnapshotMessage("main", [], False))) == []


def test_messages_of_a_later_version_are_passed_over() -> None:
    state = greeted()
    assert state.receive(b'{"type":"weather","sun":true}') == []
    assert state.stats.unknown_messages == 1


@pytest.mark.parametrize("data", [b"", b"[]", b'{"type":"signal"}', b"\xff"])
def test_a_malformed_message_is_an_error(data: bytes) -> None:
    with pytest.raises(StreamError, match="malformed"):
        greeted().receive(data)


def test_a_refusal_and_another_protocol_are_errors() -> None:
    with pytest.raises(StreamError, match="bad_message: no"):
        greeted().receive(encode(ErrorMessage("bad_message", "no")))
    with pytest.raises(StreamError, match="protocol 2"):
        ClientState(Subscribe()).receive(encode(Welcome(2, 5, 10, 2_000)))


def test_waits_double_up_to_a_bound_and_begin_again() -> None:
    backoff = Backoff(first_s=1.0, last_s=5.0, draw=lambda: 1.0)
    assert [backoff.next_s() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next_s() == 1
    assert Backoff(first_s=1.0, draw=lambda: 0.25).next_s() == 0.25


def test_ten_lines_are_enough(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            engine.emit(3)
            seen = []
            async for item in SignalClient(engine.url, from_seq=1):
                match item:
                    case Signal():
                        seen.append(item.seq)
                    case Gap():
                        pytest.fail("nothing was missed")
                if len(seen) == 3:
                    break
            assert seen == [1, 2, 3]

    run(work)


def test_a_clean_restart_goes_on_in_the_same_epoch_without_loss(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "j.db"
        async with rig(path) as engine:
            port = engine.stream.port
            reader = await subscribed(engine.client())
            engine.emit(10)
            await reader.until_last(10)
        async with rig(path, port=port) as engine:
            engine.emit(5)
            await reader.until_last(15)
            assert reader.seqs == list(range(1, 16))
            assert reader.gaps == []
            assert reader.client.stats.connects == 2
            await reader.close()

    run(work)


def test_signals_of_the_time_without_a_connection_are_resumed(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "j.db"
        async with rig(path) as engine:
            port = engine.stream.port
            reader = await subscribed(engine.client())
            engine.emit(10)
            await reader.until_last(10)
        async with rig(path) as elsewhere:
            elsewhere.emit(100)
        async with rig(path, port=port):
            await reader.until_last(110)
            assert reader.seqs == list(range(1, 111))
            assert reader.gaps == []
            await reader.close()

    run(work)


def test_an_unclean_restart_is_a_new_epoch_and_a_gap(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "j.db"
        async with rig(path) as engine:
            port, epoch = engine.stream.port, engine.journal.epoch
            reader = await subscribed(engine.client())
            engine.emit(10)
            await reader.until_last(10)
        with closing(sqlite3.connect(path, isolation_level=None)) as crash:
            crash.execute("UPDATE meta SET value = 0 WHERE key = 'clean'")
        async with rig(path, port=port) as engine:
            assert engine.journal.epoch != epoch
            await reader.until(lambda: bool(reader.gaps))
            engine.emit(4)
            await reader.until(lambda: len(reader.seqs) == 14)
            [gap] = reader.gaps
            assert (gap.epoch, gap.from_seq, gap.to_seq) == (epoch, 11, None)
            assert gap.reason == "epoch_changed"
            assert sorted(signal.seq for signal in gap.snapshot) == [5, 6, 7, 8, 9, 10]
            assert reader.seqs == [*range(1, 11), *range(1, 5)]
            assert reader.client.position == (engine.journal.epoch, 4)
            await reader.close()

    run(work)


def test_gaps_go_to_the_callback_if_there_is_one(tmp_path: Path) -> None:
    gaps: list[Gap] = []

    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            client = engine.client(from_seq=100, on_gap=gaps.append)
            reader = await subscribed(client)
            while not gaps:  # noqa: ASYNC110 - the callback tells nobody else
                await asyncio.sleep(0.001)
            engine.emit(1)
            await reader.until_last(1)
            assert reader.gaps == []
            await reader.close()

    run(work)
    assert [gap.reason for gap in gaps] == ["ahead"]


def test_status_alone_can_be_followed(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine, engine.client(topics=["status"]) as client:
            waiting = asyncio.create_task(client.next_item())
            while client.position[1] is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            engine.emit(1)
            engine.stream.publish_status({"state": "ACTIVE"})
            item = await waiting
            assert isinstance(item, Status)
            assert item.status == {"state": "ACTIVE"}

    run(work)


def test_closing_ends_the_iteration_and_iterating_again_resumes(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            client = engine.client()
            reader = await subscribed(client)
            engine.emit(2)
            await reader.until_last(2)
            await reader.close()
            engine.emit(2)
            again = Reader(client)
            await again.until_last(4)
            assert again.seqs == [3, 4]
            await again.close()

    run(work)


def test_a_silent_server_is_left_for_a_new_connection() -> None:
    async def work() -> None:
        connections = 0

        async def mute(connection: ServerConnection) -> None:
            nonlocal connections
            connections += 1
            await connection.send(encode(Welcome(1, 5, 0, 20)), text=True)
            await connection.wait_closed()

        async with serve(mute, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = SignalClient(f"ws://127.0.0.1:{port}", backoff=Backoff(first_s=0.001))
            reading = asyncio.create_task(client.next_item())
            while connections < 3:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            await client.aclose()
            reading.cancel()
            await asyncio.wait([reading])
            assert client.stats.failures >= 2

    run(work)


def test_no_stream_at_the_address_is_said_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            with pytest.raises(StreamError, match="HTTP 404"):
                await SignalClient(f"{engine.url}/nowhere").next_item()
            with pytest.raises(StreamError, match="bad_message"):
                await engine.client(min_confidence=2.0).next_item()
        with pytest.raises(StreamError, match="not the address"):
            await SignalClient("http://127.0.0.1").next_item()

    run(work)


def test_a_first_connection_is_given_up_after_so_many_attempts() -> None:
    async def work() -> None:
        backoff = Backoff(first_s=0.001)
        client = SignalClient("ws://127.0.0.1:1", backoff=backoff, first_attempts=3)
        began_s = time.monotonic()
        with pytest.raises(StreamError, match="cannot be reached"):
            await client.next_item()
        assert client.stats.failures == 3
        assert time.monotonic() - began_s < 5

    uvloop.run(work())
