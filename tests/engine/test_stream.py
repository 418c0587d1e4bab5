import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError
from raw_clients import deaf_client
from stream_fakes import INSTRUMENTS, make_signal
from stream_rig import Reader, closed_with, rig, run, subscribed
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from engine.core.errors import StreamError
from engine.core.settings import is_loopback
from engine.journal import Journal
from engine.stream import Health, SignalStream
from engine.stream_config import JournalConfig, StreamConfig
from engine.stream_messages import Operate, encode


def test_two_clients_with_two_filters_each_get_their_own(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            one = await subscribed(engine.client(instruments=[INSTRUMENTS[1]]))
            two = await subscribed(engine.client(sides=["SELL"], min_confidence=0.3))
            engine.emit(120)
            engine.emit(1, instrument=INSTRUMENTS[1], side="SELL", confidence=1.0)
            await one.until_last(121)
            await two.until_last(121)
            signals = [make_signal(1, seq) for seq in range(1, 121)]
            assert one.seqs[:-1] == [s.seq for s in signals if s.instrument == INSTRUMENTS[1]]
            assert two.seqs[:-1] == [
                s.seq for s in signals if s.side == "SELL" and s.confidence >= 0.3
            ]
            assert one.client.stats.chain_breaks == two.client.stats.chain_breaks == 0
            await one.close()
            await two.close()

    run(work)


def test_resume_crosses_from_journal_to_ring_to_live(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db", ring_signals=64, max_lag=64, page_rows=50) as engine:
            engine.emit(1_000)
            await engine.journal.flush()
            reader = Reader(engine.client(from_seq=1))
            await reader.until_last(1_000)
            engine.emit(10)
            await reader.until_last(1_010)
            assert reader.seqs == list(range(1, 1_011))
            assert reader.gaps == []
            assert engine.stream.counters["pages"] >= 18
            await reader.close()

    run(work)


def test_resume_while_signals_pour_in_has_no_seam(tmp_path: Path) -> None:
    async def work() -> None:
        settings: dict[str, Any] = {"ring_signals": 512, "max_lag": 512, "page_rows": 64}
        async with rig(tmp_path / "j.db", **settings) as engine:
            engine.emit(2_000)
            await engine.journal.flush()
            readers = []
            for turn in range(400):
                if turn % 40 == 0:
                    readers.append(Reader(engine.client(from_seq=1 + 50 * turn % 2_000)))
                engine.emit(20)
                await asyncio.sleep(0.001)
            for index, reader in enumerate(readers):
                await reader.until_last(10_000)
                first = 1 + 50 * (40 * index) % 2_000
                assert reader.gaps == []
                assert reader.seqs == list(range(first, 10_001))
                assert reader.client.stats.chain_breaks == 0
                await reader.close()

    run(work)


def test_a_client_that_never_reads_is_cut_off_while_others_get_everything(tmp_path: Path) -> None:
    async def work() -> None:
        settings: dict[str, Any] = {"send_buffer_bytes": 16_384, "socket_buffer_bytes": 16_384}
        async with rig(tmp_path / "j.db", **settings) as engine:
            good = await subscribed(engine.client())
            deaf = await deaf_client(engine.stream.port)
            while engine.stream.clients < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            began_s = blocked_s = time.monotonic()
            buffered = 0
            while engine.stream.counters["evicted_stalled"] == 0:
                engine.emit(5)
                await asyncio.sleep(0.005)
                if engine.stream.counters["fell_behind"] == 0:
                    blocked_s = time.monotonic()
                buffered = max(
                    buffered, *(c.buffered_bytes for c, _ in engine.stream._connections.values())
                )
            evicted_s = time.monotonic()
            assert evicted_s - blocked_s <= 2.0
            assert evicted_s - began_s <= 4.0
            assert buffered <= 16_384 + 2_048
            engine.emit(1)
            await good.until_last(engine.journal.next_seq - 1)
            assert good.seqs == list(range(1, engine.journal.next_seq))
            deaf.close()
            await good.close()

    run(work)


def test_a_slow_client_that_asked_for_it_is_conflated_over_the_wire(tmp_path: Path) -> None:
    async def work() -> None:
        settings: dict[str, Any] = {
            "send_buffer_bytes": 8_192, "socket_buffer_bytes": 8_192, "max_lag": 100,
            "stall_timeout": "20s",
        }  # fmt: skip
        async with rig(tmp_path / "j.db", **settings) as engine:
            client = engine.client(on_slow="conflate")
            first = asyncio.create_task(client.next_item())
            while client.position[1] is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            engine.emit(20_000)
            await engine.journal.flush()
            first.cancel()
            await asyncio.wait([first])
            reader = Reader(client)
            await reader.until_last(20_000)
            assert [gap.reason for gap in reader.gaps] == ["conflated"]
            assert reader.gaps[0].to_seq == 20_000
            assert reader.seqs[-6:] == list(range(19_995, 20_001))
            assert len(reader.seqs) < 20_000
            assert engine.stream.counters["conflations"] == 1
            assert client.stats.chain_breaks == 0
            await reader.close()

    run(work)


def test_a_slow_client_that_did_not_is_disconnected_and_resumes_without_loss(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        settings: dict[str, Any] = {
            "send_buffer_bytes": 8_192,
            "socket_buffer_bytes": 8_192,
            "max_lag": 100,
        }
        async with rig(tmp_path / "j.db", **settings) as engine:
            client = engine.client()
            first = asyncio.create_task(client.next_item())
            while client.position[1] is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            first.cancel()
            await asyncio.wait([first])
            while engine.stream.counters["evicted_slow"] == 0:
                engine.emit(500)
                await asyncio.sleep(0.01)
            reader = Reader(client)
            last = engine.journal.next_seq - 1
            await reader.until_last(last)
            assert reader.seqs == list(range(1, last + 1))
            assert client.stats.connects == 2
            await reader.close()

    run(work)


def test_garbage_is_answered_and_then_closed_with_1008(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db", max_errors=3) as engine:
            async with engine.connect() as connection:
                for data in ("{", b"\xff\x00", '{"type":"buy"}'):
                    await connection.send(data)
                assert await closed_with(connection) == 1008
            assert engine.stream.counters["bad_messages"] == 3

    run(work)


def test_a_flood_is_closed_and_others_do_not_notice(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            good = await subscribed(engine.client())
            async with engine.connect() as connection:
                for _ in range(200):
                    await connection.send('{"type":"ping"}')
                assert await closed_with(connection) == 1008
            engine.emit(100)
            await good.until_last(100)
            assert good.seqs == list(range(1, 101))
            assert engine.stream.counters["rate_limited"] == 1
            await good.close()

    run(work)


def test_a_message_too_big_is_closed_with_1009(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db", max_message_bytes=1_000) as engine:
            async with engine.connect() as connection:
                await connection.send("x" * 1_001)
                assert await closed_with(connection) == 1009
            while engine.stream.clients:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            assert engine.stream.counters["oversize_messages"] == 1

    run(work)


def test_bytes_that_are_not_http_are_counted_and_dropped(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            reader, writer = await asyncio.open_connection("127.0.0.1", engine.stream.port)
            writer.write(b"\x16\x03\x01\x02\x00garbage\r\n\r\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()
            while engine.stream.counters["handshakes_failed"] == 0:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            good = await subscribed(engine.client())
            await good.close()

    run(work)


def test_connections_are_capped(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db", max_connections=2) as engine:
            async with engine.connect(), engine.connect():
                with pytest.raises(InvalidStatus) as caught:
                    await connect(engine.url)
                assert caught.value.response.status_code == 503
            assert engine.stream.counters["refused_connections"] == 1

    run(work)


async def get(port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_health_answers_200_or_503_and_other_paths_404(tmp_path: Path) -> None:
    state = {"good": True}

    def health() -> Health:
        return Health(state["good"], {"healthy": state["good"], "ticks": 7})

    async def work() -> None:
        async with rig(tmp_path / "j.db", health) as engine:
            port = engine.stream.port
            status, body = await get(port, "/health")
            assert (status, orjson.loads(body)) == (200, {"healthy": True, "ticks": 7})
            state["good"] = False
            status, body = await get(port, "/health?verbose=1")
            assert (status, orjson.loads(body)["healthy"]) == (503, False)
            assert (await get(port, "/metrics"))[0] == 404
            with pytest.raises(InvalidStatus):
                await connect(f"{engine.url}/elsewhere")

    run(work)


def test_a_stop_tells_every_client_and_does_not_wait_for_deaf_ones(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db", close_timeout="200ms", stall_timeout="30s") as engine:
            connection = await engine.connect()
            deaf = await deaf_client(engine.stream.port)
            while engine.stream.clients < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            engine.emit(2_000)
            closing = asyncio.create_task(closed_with(connection))
            await asyncio.sleep(0)
            began_s = time.monotonic()
            await engine.stream.stop()
            assert time.monotonic() - began_s < 2.0
            assert await closing == 1001
            deaf.close()

    run(work)


def test_without_a_store_what_left_the_ring_is_a_gap() -> None:
    async def work() -> None:
        config = StreamConfig(port=0, ring_signals=10, max_lag=10)
        async with SignalStream(config, epoch=3, next_seq=5) as stream:
            for seq in range(5, 25):
                stream.publish(make_signal(3, seq))
            assert stream.next_seq == 25
            async with connect(f"ws://127.0.0.1:{stream.port}", close_timeout=1) as connection:
                await connection.send('{"type":"subscribe","from_seq":1}')
                kinds = [orjson.loads(await connection.recv()) for _ in range(13)]
            assert (kinds[2]["type"], kinds[2]["to_seq"]) == ("gap", 14)
            assert [m["signal"]["seq"] for m in kinds[3:]] == list(range(15, 25))

    run(work)


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            config = StreamConfig(port=engine.stream.port)
            with pytest.raises(StreamError, match="Address already in use"):
                await SignalStream(config, epoch=1).start()

    run(work)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "edge-7.example"])
def test_a_host_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="there is no authentication"):
        StreamConfig(host=host)


def test_loopback_hosts_are_known() -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "10.0.0.1")] == [
        True, True, True, True, False,
    ]  # fmt: skip


def test_a_lag_longer_than_the_ring_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_lag"):
        StreamConfig(ring_signals=10, max_lag=11)


@pytest.mark.parametrize("error", [StreamError("it cannot be"), OSError("disk gone")])
def test_a_command_that_fails_in_any_way_is_answered(error: Exception, tmp_path: Path) -> None:
    async def operate(message: Operate, who: str) -> dict[str, Any]:
        raise error

    async def work() -> None:
        async with Journal(tmp_path / "j.db", JournalConfig()) as journal:
            config = StreamConfig(port=0)
            epoch = journal.epoch
            stream = SignalStream(config, epoch=epoch, next_seq=1, store=journal, operate=operate)
            async with stream, connect(f"ws://127.0.0.1:{stream.port}") as client:
                await client.send(encode(Operate("model_swap", "m", "/b", "7")), text=True)
                answer = orjson.loads(await client.recv())
                while answer["type"] != "operated":
                    answer = orjson.loads(await client.recv())
                assert answer["id"] == "7"
                assert str(error) in answer["problem"]

    run(work)
