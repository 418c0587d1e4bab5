"""Asks an inference for more than it can serve, and counts what comes back."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from runtime.asking import Answer, Ask
from runtime.inference import Inference

AT_ONCE: Final = 64


class Saturation:
    """Keeps a number of requests outstanding; the loop thread owns it.

    Args:
        contexts: Windows to ask for, in turn.
        outstanding: Requests kept waiting.
    """

    inference: Inference

    def __init__(self, contexts: Sequence[object], outstanding: int) -> None:
        self._contexts = contexts
        self._outstanding = outstanding
        self._open = 0
        self._answered = 0
        self._ending = False
        self._scheduled = False
        self._deadline_ns = 0
        self._turn = self._in_turn()
        self._ended: asyncio.Future[None] | None = None

    def on_answer(self, answer: Answer) -> None:
        """Take an answer that came later."""
        self._count(answer)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._fill)

    async def run(self, seconds: float, deadline_ns: int) -> float:
        """Saturate for some time; return answers a second."""
        loop = asyncio.get_running_loop()
        self._ending, self._deadline_ns = False, deadline_ns
        self._ended = loop.create_future()
        began_answered, began_s = self._answered, time.perf_counter()
        loop.call_later(seconds, self._end)
        self._fill()
        await self._ended
        taken_s = time.perf_counter() - began_s
        return (self._answered - began_answered) / taken_s

    def _end(self) -> None:
        self._ending = True
        if not self._open and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _fill(self) -> None:
        """Ask until enough is outstanding; what is answered at once leaves room in a later turn."""
        self._scheduled = False
        if self._ending:
            if not self._open and self._ended is not None and not self._ended.done():
                self._ended.set_result(None)
            return
        while self._open + AT_ONCE <= self._outstanding:
            asks = [Ask(0, self._deadline_ns, one) for one in islice(self._turn, AT_ONCE)]
            self._open += len(asks)
            answered = False
            for answer in self.inference.ask(asks):
                if answer is not None:
                    self._count(answer)
                    answered = True
            if answered:
                break
        if self._open + AT_ONCE <= self._outstanding and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _count(self, answer: Answer) -> None:
        if answer.score is None:
            raise SystemExit(f"no score: {answer.failure}")
        self._open -= 1
        self._answered += 1

    def _in_turn(self) -> Iterator[object]:
        while True:
            yield from self._contexts
