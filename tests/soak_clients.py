"""Clients that come and go for a long time, each checking that it never misses a signal."""

import asyncio
import random
import threading
from typing import Self

from engine.client import Gap, Signal, SignalClient

_STAY_S = (3.0, 20.0)
_AWAY_S = (0.1, 5.0)
_END_S = 15.0


class Wanderer:
    """One client: follows the stream for a while, leaves, and goes on where it was.

    Attributes:
        signals: Signals it was given.
        gaps: Gaps it was told of.
        visits: Times it came.
        problems: What it was given against the protocol, at most a few.

    Args:
        url: The stream.
        seed: Of when it comes and goes.
    """

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._random = random.Random(seed)
        self._position: tuple[int | None, int | None] = (None, None)
        self.signals = 0
        self.gaps: list[tuple[int, int | None, str]] = []
        self.visits = 0
        self.problems: list[str] = []

    async def wander(self, stop: asyncio.Event) -> None:
        """Come and go until told to stop."""
        while not stop.is_set():
            await self._visit(self._random.uniform(*_STAY_S))
            await _pass(stop, self._random.uniform(*_AWAY_S))

    async def catch_up(self, last_seq: int) -> None:
        """Come a last time, and stay until the stream's last signal is here."""
        async with asyncio.timeout(_END_S):
            await self._visit(_END_S, last_seq)

    @property
    def seq(self) -> int:
        """Number of the last signal or gap dealt with, 0 before the first."""
        return self._position[1] or 0

    async def _visit(self, seconds: float, until_seq: int | None = None) -> None:
        self.visits += 1
        epoch, seq = self._position
        from_seq = None if seq is None else seq + 1
        async with SignalClient(self._url, from_seq=from_seq, epoch=epoch) as client:
            try:
                async with asyncio.timeout(seconds):
                    while until_seq is None or self.seq < until_seq:
                        await self._take(client)
            except TimeoutError:
                return

    async def _take(self, client: SignalClient) -> None:
        item = await client.next_item()
        epoch, seq = self._position
        if isinstance(item, Gap):
            self.gaps.append((item.from_seq, item.to_seq, item.reason))
        elif isinstance(item, Signal):
            self.signals += 1
            if epoch == item.epoch and seq is not None and item.seq != seq + 1:
                self._blame(f"after {seq} came {item.seq}")
            self._position = item.epoch, item.seq
            return
        self._position = client.position

    def _blame(self, problem: str) -> None:
        if len(self.problems) < 5:
            self.problems.append(problem)


class Crowd:
    """So many wanderers on a thread and loop of their own; a context.

    Args:
        url: The stream.
        count: How many.
    """

    def __init__(self, url: str, count: int) -> None:
        self.wanderers = [Wanderer(url, seed) for seed in range(count)]
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let all leave; twice does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def catch_up(self, last_seq: int) -> None:
        """Let every one that has left read on to the stream's last signal."""

        async def all_of_them() -> None:
            seen = [one for one in self.wanderers if one.signals]
            await asyncio.gather(*(one.catch_up(last_seq) for one in seen))

        asyncio.run(all_of_them())

    def _run(self) -> None:
        self._loop.run_until_complete(self._wander())
        self._loop.close()

    async def _wander(self) -> None:
        tasks = [asyncio.create_task(one.wander(self._stop)) for one in self.wanderers]
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                self.failures.append(f"{type(result).__name__}: {result}")


async def _pass(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
