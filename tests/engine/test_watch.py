"""The view follows a real stream: as lines into a file, drawn on a terminal."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from rich.console import Console
from view_cases import LEFT, make_model_status, make_signal, make_status

from engine import watch as watching
from engine.core.errors import StreamError
from engine.stream import SignalStream
from engine.stream_config import StreamConfig
from engine.view_state import ViewState
from engine.watch import watch

LIMIT_S = 20.0


class Output(io.StringIO):
    """Text that tells when something was written."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal
        self.grew = asyncio.Event()

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        self.grew.set()
        return super().write(text)

    async def until(self, part: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            while part not in self.getvalue():
                self.grew.clear()
                await self.grew.wait()


@asynccontextmanager
async def streaming() -> AsyncIterator[SignalStream]:
    stream = SignalStream(StreamConfig(port=0), epoch=1)
    await stream.start()
    try:
        yield stream
    finally:
        await stream.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - a counter tells nobody that it rose
            await asyncio.sleep(0.01)


def make_console(out: Output) -> Console:
    options = {"force_terminal": True, "color_system": "truecolor"} if out.terminal else {}
    return Console(file=out, width=80, height=24, **options)  # type: ignore[arg-type]  # a literal


async def follow(*, terminal: bool, plain: bool = False) -> tuple[ViewState, str]:
    async with streaming() as stream:
        stop, out = asyncio.Event(), Output(terminal=terminal)
        url = f"ws://127.0.0.1:{stream.port}"
        task = asyncio.create_task(watch(url, make_console(out), stop, plain=plain))
        await until(lambda: stream.clients == 1 and stream.counters["messages_received"] == 1)
        stream.publish_status(make_status())
        stream.publish(make_signal(1))
        await out.until("BTCUSDT.SIM")
        stop.set()
        return await task, out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_without_a_terminal_or_on_demand_it_writes_lines(terminal: bool) -> None:
    state, written = asyncio.run(follow(terminal=terminal, plain=terminal))
    lines = written.splitlines()
    assert lines[0].startswith("waiting for the engine at ws://127.0.0.1:")
    assert "BUY  BTCUSDT.SIM at 61,234.5" in lines[1]
    assert "\x1b" not in written
    assert state.received == 1
    assert state.status["signals"] == 42


def test_lines_tell_what_became_of_models() -> None:
    async def run() -> str:
        stop, out = asyncio.Event(), Output(terminal=False)
        async with streaming() as stream:
            task = asyncio.create_task(
                watch(f"ws://127.0.0.1:{stream.port}", make_console(out), stop)
            )
            await until(lambda: stream.counters["messages_received"] == 1)
            stream.publish_status(make_model_status("cpu"))
            stream.publish(make_signal(1))
            await out.until("BTCUSDT.SIM")
            stream.publish_status(make_model_status("cpu:1"))
            await out.until("models: ")
            await out.until(LEFT)
            stop.set()
            await task
            return out.getvalue()

    line = next(one for one in asyncio.run(run()).splitlines() if one.startswith("models: "))
    assert line.endswith(f"tcn: degraded: cpu:1 serves, cpu is left ({LEFT})")


def test_on_a_terminal_it_draws_on_a_screen_of_its_own() -> None:
    _, written = asyncio.run(follow(terminal=True))
    assert written.index("\x1b[?1049h") < written.index("BTCUSDT") < written.index("\x1b[?1049l")
    assert "ticks/s" in written


def test_lines_tell_the_status_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "STATUS_LINE_S", 0.05)

    async def run() -> None:
        stop, out = asyncio.Event(), Output(terminal=False)
        async with streaming() as stream:
            url = f"ws://127.0.0.1:{stream.port}"
            task = asyncio.create_task(watch(url, make_console(out), stop))
            await out.until(f"waiting for the engine at {url}: 0 s")
            await until(lambda: stream.counters["messages_received"] == 1)
            stream.publish_status(make_status())
            await out.until("status: healthy, up 1:02:05")
            stop.set()
            await task

    asyncio.run(run())


def test_an_engine_that_comes_later_is_found() -> None:
    async def run() -> int:
        async with streaming() as stream:
            port = stream.port
        stop, out = asyncio.Event(), Output(terminal=False)
        url = f"ws://127.0.0.1:{port}"
        task = asyncio.create_task(watch(url, make_console(out), stop))
        await out.until("waiting")
        late = SignalStream(StreamConfig(port=port), epoch=1)
        await late.start()
        await until(lambda: late.counters["messages_received"] == 1)
        late.publish(make_signal(1))
        await out.until("BTCUSDT")
        stop.set()
        state = await task
        await late.stop()
        return state.received

    assert asyncio.run(run()) == 1


def test_something_else_at_the_address_is_an_error() -> None:
    async def run() -> None:
        async with streaming() as stream:
            url = f"ws://127.0.0.1:{stream.port}/nothing"
            await watch(url, make_console(Output(terminal=False)), asyncio.Event())

    with pytest.raises(StreamError, match="answered HTTP 404"):
        asyncio.run(run())
