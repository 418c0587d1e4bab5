"""What ``StreamConnection`` takes for granted of the websockets library, on the real one."""

import asyncio

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from engine.stream_link import StreamConnection, text_frame


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_frame_is_the_librarys_own_to_the_byte(length: int) -> None:
    payload = b"x" * length
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False, extensions=[])


def run_handler(handler: object, client: object, **options: object) -> None:
    """Serve ``handler`` on a free port and run ``client`` with its address."""

    async def main() -> None:
        done = asyncio.get_running_loop().create_future()

        async def wrapped(connection: ServerConnection) -> None:
            assert isinstance(connection, StreamConnection)
            assert callable(handler)
            try:
                done.set_result(await handler(connection))
            except (AssertionError, RuntimeError) as error:
                done.set_exception(error)
            await connection.wait_closed()

        server = await serve(
            wrapped,
            "127.0.0.1",
            0,
            compression=None,
            create_connection=StreamConnection,
            **options,  # type: ignore[arg-type] # keywords of the library
        )
        async with server, asyncio.timeout(20):
            port = server.sockets[0].getsockname()[1]
            assert callable(client)
            await client(f"ws://127.0.0.1:{port}")
            await done

    uvloop.run(main())


def test_frames_written_past_the_library_arrive_between_its_own_in_order() -> None:
    async def handler(connection: StreamConnection) -> None:
        assert connection.protocol.extensions == []
        assert connection.protocol.state is State.OPEN
        connection.push(b'"first"')
        await connection.ping()
        connection.push_many([b'"second"', b'"third"'])
        await ServerConnection.send(connection, "fourth")
        connection.push("\u4e94".encode())

    async def client(url: str) -> None:
        async with connect(url, compression=None) as connection:
            got = [await connection.recv() for _ in range(5)]
        assert got == ['"first"', '"second"', '"third"', "fourth", "\u4e94"]

    run_handler(handler, client)


def test_a_full_buffer_pauses_and_a_drained_one_calls_for_more() -> None:
    reading = asyncio.Event()

    async def handler(connection: StreamConnection) -> None:
        room = asyncio.Event()
        connection.on_room = room.set
        assert not connection.paused
        while not connection.paused:
            connection.push(b"x" * 4096)
        assert 8_192 < connection.buffered_bytes <= connection.handed_bytes
        left = connection.handed_bytes - connection.buffered_bytes
        reading.set()
        await room.wait()
        assert not connection.paused
        assert connection.handed_bytes - connection.buffered_bytes > left
        await connection.close()

    async def client(url: str) -> None:
        async with connect(url, compression=None, max_queue=1) as connection:
            await reading.wait()
            async for _ in connection:
                pass

    run_handler(handler, client, write_limit=8_192)


def test_what_the_kernel_takes_only_in_part_arrives_whole_and_in_order() -> None:
    messages = [str(n) * 2_000_000 for n in range(9)]
    reading = asyncio.Event()

    async def handler(connection: StreamConnection) -> None:
        room = asyncio.Event()
        connection.on_room = room.set
        for message in messages:
            connection.push(message.encode())
        assert connection.buffered_bytes > 0
        reading.set()
        await room.wait()
        connection.push(b"last")
        assert connection.buffered_bytes == 0

    async def client(url: str) -> None:
        async with connect(url, compression=None, max_queue=1, max_size=None) as connection:
            await reading.wait()
            assert [await connection.recv() for _ in range(10)] == [*messages, "last"]

    run_handler(handler, client, write_limit=1)


def test_nothing_is_written_to_a_connection_that_is_closing() -> None:
    async def handler(connection: StreamConnection) -> None:
        await connection.close()
        before = connection.handed_bytes
        connection.push(b"late")
        assert connection.handed_bytes == before

    async def client(url: str) -> None:
        async with connect(url, compression=None) as connection:
            assert [message async for message in connection] == []

    run_handler(handler, client)


def test_nothing_is_written_to_a_connection_that_was_cut_off() -> None:
    async def handler(connection: StreamConnection) -> None:
        connection.transport.abort()
        before = connection.handed_bytes
        connection.push(b"late")
        assert connection.handed_bytes == before

    async def client(url: str) -> None:
        async with connect(url, compression=None) as connection:
            await connection.wait_closed()

    run_handler(handler, client)
