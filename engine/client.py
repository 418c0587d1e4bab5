"""A client of the signal stream that reconnects, resumes, and never loses a signal in silence.

Needs ``websockets``, ``orjson`` and ``msgspec`` only::

    async for item in SignalClient("ws://127.0.0.1:8765", instruments=["BTCUSDT.BINANCE"]):
        match item:
            case Signal():
                print(item.side, item.instrument, item.price)
            case Gap():
                print("missed", item.from_seq, "to", item.to_seq, item.reason)
"""

import asyncio
import random
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from engine.access import Access, refusal
from engine.client_state import ClientState, ClientStats, Gap, Item, Status
from engine.core.errors import StreamError
from engine.core.signals import Side, Signal
from engine.stream_messages import DataGap, OnSlow, Subscribe, Topic, encode

__all__ = ["Access", "Backoff", "DataGap", "Gap", "Item", "Signal", "SignalClient", "Status"]

DEFAULT_URL: Final = "ws://127.0.0.1:8765"
OPEN_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0
MISSED_HEARTBEATS: Final = 3
"""Heartbeats that may fail to come before the connection counts as dead."""
STABLE_S: Final = 1.0
"""A connection that lived so long was a good one: the next wait is short again."""
_BUSY: Final = 503


class Backoff:
    """Doubling waits with full jitter, so that many clients do not come back at once.

    Args:
        first_s: Upper bound of the first wait.
        last_s: Upper bound of every wait.
        draw: Returns a number in [0, 1).
    """

    def __init__(
        self, first_s: float = 0.1, last_s: float = 10.0, draw: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._last_s = last_s
        self._draw = draw
        self._bound_s = first_s

    def next_s(self) -> float:
        """Return how long to wait before the next attempt."""
        bound_s, self._bound_s = self._bound_s, min(2 * self._bound_s, self._last_s)
        return bound_s * self._draw()

    def reset(self) -> None:
        """Begin again with the first wait: a connection worked."""
        self._bound_s = self._first_s


class SignalClient:
    """One subscription as an asynchronous iterator of ``Signal``, ``Gap``, ``Status``, ``DataGap``.

    It ends with ``aclose()``, or by leaving the loop; broken connections are made anew without end
    and resumed where they broke. What cannot be resumed is a ``Gap``.

    Args:
        url: ``ws://host:port``.
        instruments: Only these; None for all.
        strategies: Only these; None for all.
        sides: Only these; None for both.
        min_confidence: Only signals of at least this confidence, 0 to 1.
        from_seq: Start with this sequence number, None with the next signal.
        epoch: The epoch of ``from_seq``; None: the server's present one.
        on_slow: What the server does when this client falls too far behind: ``"disconnect"``
            (this client then resumes: everything, late) or ``"conflate"`` (the newest, with a gap).
        topics: Some of ``"signals"``, ``"status"`` and ``"data"``, gaps in the market data.
        on_gap: Called with each gap instead of yielding it.
        backoff: Waits between attempts.
        first_attempts: Attempts at the first connection before giving up; None for no end.
        access: Its token and whom it trusts, where the engine asks for such.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        instruments: Sequence[str] | None = None,
        strategies: Sequence[str] | None = None,
        sides: Sequence[Side] | None = None,
        min_confidence: float | None = None,
        from_seq: int | None = None,
        epoch: int | None = None,
        on_slow: OnSlow = "disconnect",
        topics: Sequence[Topic] = ("signals",),
        on_gap: Callable[[Gap], None] | None = None,
        backoff: Backoff | None = None,
        first_attempts: int | None = None,
        access: Access | None = None,
    ) -> None:
        self.url = url
        wish = Subscribe(
            instruments=None if instruments is None else list(instruments),
            strategies=None if strategies is None else list(strategies),
            sides=None if sides is None else list(sides),
            min_confidence=min_confidence,
            on_slow=on_slow,
            topics=tuple(topics),
        )
        position = None if from_seq is None else max(0, from_seq - 1)
        self._state = ClientState(wish, position, epoch)
        self._on_gap = on_gap
        self._backoff = backoff or Backoff()
        self._first_attempts = first_attempts
        self._access = access or Access()
        self._items: deque[Item] = deque()
        self._connection: ClientConnection | None = None
        self._connected_s = 0.0
        self._closed = False

    @property
    def stats(self) -> ClientStats:
        """What this client has seen so far."""
        return self._state.stats

    @property
    def position(self) -> tuple[int | None, int | None]:
        """Epoch and sequence number up to which everything is dealt with: keep it to resume."""
        return self._state.epoch, self._state.position

    async def __aiter__(self) -> AsyncIterator[Item]:
        self._closed = False
        try:
            while (item := await self.next_item()) is not None:
                yield item
        finally:
            await self.aclose()

    async def next_item(self) -> Item | None:
        """Return the next item, however many connections it takes; None after ``aclose``.

        May be cancelled without losing anything.

        Raises:
            StreamError: there is no stream at the address, or it refuses the subscription.
        """
        while not self._items:
            if self._closed:
                return None
            await self._receive(self._connection or await self._connect())
        return self._items.popleft()

    async def aclose(self) -> None:
        """Close the connection and end the iteration; iterating again resumes."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _receive(self, connection: ClientConnection) -> None:
        """Take in one message; part with a connection that broke or fell silent."""
        try:
            async with asyncio.timeout(MISSED_HEARTBEATS * self._state.heartbeat_interval_s):
                data = await connection.recv(decode=False)
        except (ConnectionClosed, TimeoutError):
            await self._part(connection)
            return
        for item in self._state.receive(data):
            if isinstance(item, Gap) and self._on_gap is not None:
                self._on_gap(item)
            else:
                self._items.append(item)

    async def _part(self, connection: ClientConnection) -> None:
        self._connection = None
        await connection.close()
        if self._closed:
            return
        self.stats.failures += 1
        if asyncio.get_running_loop().time() - self._connected_s >= STABLE_S:
            self._backoff.reset()
        await asyncio.sleep(self._backoff.next_s())

    async def _connect(self) -> ClientConnection:
        attempts = 0
        while True:
            try:
                connection = await self._open()
            except InvalidURI as error:
                raise StreamError(f"{self.url} is not the address of a stream: {error}") from error
            except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
                attempts += 1
                self._give_up_or_go_on(error, attempts)
                await asyncio.sleep(self._backoff.next_s())
            else:
                self.stats.connects += 1
                self._connected_s = asyncio.get_running_loop().time()
                self._connection = connection
                return connection

    async def _open(self) -> ClientConnection:
        connection = await connect(
            self.url,
            **self._access.options(self.url),
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
        )
        await connection.send(encode(self._state.subscribe()), text=True)
        return connection

    def _give_up_or_go_on(self, error: Exception, attempts: int) -> None:
        self.stats.failures += 1
        if isinstance(error, InvalidStatus) and error.response.status_code != _BUSY:
            status = error.response.status_code
            raise StreamError(f"{self.url} answered HTTP {status}: {refusal(status)}") from error
        if isinstance(error, ssl.SSLCertVerificationError):
            why = error.verify_message
            raise StreamError(f"{self.url} has a certificate that is not trusted: {why}") from error
        bound = self._first_attempts
        if self.stats.connects == 0 and bound is not None and attempts >= bound:
            raise StreamError(f"{self.url} cannot be reached: {error}") from error
