"""One request at a time through the batcher, against a direct call of the backend.

Inline, on the loop thread, and through a device's thread; direct calls, bare hops to a thread and
requests take turns within a round, so that all meet the same moods of the machine.
"""

import argparse
import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, NamedTuple, Self

import uvloop
from bench.measuring import Figure, Outcome, report, say
from bench.model_parts import FAR_NS, Windows, demo_bundle, load_direct, make_inference

from runtime.asking import Answer, Ask
from runtime.inference import Inference
from runtime.prepared import PreparedModel

ROUNDS: Final = 40
BLOCK: Final = 250
RESTARTS: Final = 10
APART_S: Final = 0.004
"""Between two requests that find the loop asleep."""
ASLEEP_BELOW_NS: Final = 10_000_000
"""Calls that find the caches cold take longer than what usually runs on the loop."""
INLINE_US: Final = 15.0
THREADED_US: Final = 30.0

_now: Final = time.perf_counter_ns


class Hop:
    """The shortest way from a loop to a thread and back: a queue there, a call back here.

    Args:
        work: What the thread does for each item.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._inbox: SimpleQueue[asyncio.Future[int] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._back_ns = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.put(None)
        self._thread.join()

    async def there_and_back(self) -> tuple[int, int]:
        """Have it done once; return the nanoseconds of all, and of the work itself.

        It is over when the callback is called, not when whoever waits goes on.
        """
        done: asyncio.Future[int] = self._loop.create_future()
        began = _now()
        self._inbox.put(done)
        worked = await done
        return self._back_ns - began, worked

    def _on_done(self, done: asyncio.Future[int], worked: int) -> None:
        self._back_ns = _now()
        done.set_result(worked)

    def _run(self) -> None:
        while (done := self._inbox.get()) is not None:
            began = _now()
            self._work()
            self._loop.call_soon_threadsafe(self._on_done, done, _now() - began)


class BarredError(Exception):
    """A call on the loop thread was so slow that the model has to run elsewhere for a while."""


class Asker:
    """Asks for one score at a time and waits for it."""

    def __init__(
        self, windows: Windows, *, inline: bool, inline_below_ns: int | None = None
    ) -> None:
        self._windows = windows
        self._done: asyncio.Future[None] | None = None
        self._told_ns = 0
        self._loop = asyncio.get_running_loop()
        bundle = demo_bundle()
        self.inference: Inference = make_inference(
            bundle,
            windows.gather,
            self._on_answer,
            inline=inline,
            inline_below_ns=inline_below_ns,
        )

    async def once(self, place: int) -> int:
        """Return the nanoseconds from before the request is made to when its score is told."""
        contexts = self._windows.contexts
        self._done = self._loop.create_future()
        began = _now()
        answer = self.inference.ask([Ask(0, FAR_NS, contexts[place % len(contexts)])])[0]
        if answer is None:
            await self._done
            return self._told_ns - began
        if answer.score is None:
            raise SystemExit(f"no score: {answer.failure}")
        return _now() - began

    def at_once(self, place: int) -> int:
        """Do so where the score is there when ``ask`` returns."""
        contexts = self._windows.contexts
        began = _now()
        answer = self.inference.ask([Ask(0, FAR_NS, contexts[place % len(contexts)])])[0]
        taken = _now() - began
        if answer is None:
            raise BarredError
        if answer.score is None:
            raise SystemExit(f"no score: {answer.failure}")
        return taken

    def _on_answer(self, answer: Answer) -> None:
        self._told_ns = _now()
        if answer.score is None:
            raise SystemExit(f"no score: {answer.failure}")
        if self._done is not None:
            self._done.set_result(None)


def time_direct(loaded: PreparedModel) -> int:
    """Return how long one call of the backend takes, its window already in place."""
    began = _now()
    loaded.run(1)
    return _now() - began


class Round(NamedTuple):
    """Medians of one round, microseconds."""

    direct: float
    inline: float
    hop: float
    through_hop: float
    threaded: float


class Asleep(NamedTuple):
    """Medians of one round of calls far apart, microseconds."""

    direct: float
    inline: float


class Measured(NamedTuple):
    """All rounds."""

    rounds: list[Round]
    asleep: list[Asleep]


async def measure_round(
    loaded: PreparedModel, inline: Asker, threaded: Asker, hop: Hop, block: int
) -> Round:
    """Let all take turns."""
    direct_ns, inline_ns, hop_ns, through_ns, threaded_ns = [], [], [], [], []
    for place in range(block):
        direct_ns.append(time_direct(loaded))
        inline_ns.append(inline.at_once(place))
    for place in range(block):
        taken, worked = await hop.there_and_back()
        through_ns.append(taken)
        hop_ns.append(taken - worked)
        threaded_ns.append(await threaded.once(place))
    parts = (direct_ns, inline_ns, hop_ns, through_ns, threaded_ns)
    return Round(*(statistics.median(part) / 1e3 for part in parts))


async def measure_asleep(loaded: PreparedModel, inline: Asker, block: int) -> Asleep:
    """Let both take turns, the loop asleep before each."""
    direct_ns, inline_ns = [], []
    for place in range(block):
        await asyncio.sleep(APART_S)
        direct_ns.append(time_direct(loaded))
        await asyncio.sleep(APART_S)
        inline_ns.append(inline.at_once(place))
    return Asleep(statistics.median(direct_ns) / 1e3, statistics.median(inline_ns) / 1e3)


async def measure_rounds(rounds: int) -> Measured:
    """Measure with everything loaded once; what is far apart comes last."""
    windows = Windows(64)
    loaded = load_direct(demo_bundle(), 64)
    found = Measured([], [])
    with Hop(lambda: loaded.run(1)) as hop:
        for _ in range(RESTARTS):
            askers = (
                Asker(windows, inline=True),
                Asker(windows, inline=False),
                Asker(windows, inline=True, inline_below_ns=ASLEEP_BELOW_NS),
            )
            for asker in askers:
                await asker.inference.start()
            try:
                await measure_round(loaded, *askers[:2], hop, BLOCK)
                while len(found.rounds) < rounds:
                    found.rounds.append(await measure_round(loaded, *askers[:2], hop, BLOCK))
                while len(found.asleep) < rounds // 4:
                    found.asleep.append(await measure_asleep(loaded, askers[2], BLOCK // 5))
            except BarredError:
                say("the machine paused in a call: once more")
            else:
                return found
            finally:
                for asker in askers:
                    await asker.inference.stop()
    raise SystemExit("the machine paused too often")


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure inline and threaded."""
    rounds, pauses = uvloop.run(measure_rounds(ROUNDS // 5 if arguments.quick else ROUNDS))
    added = [one.inline - one.direct for one in rounds]
    beyond = [one.threaded - one.through_hop for one in rounds]
    asleep = [one.inline - one.direct for one in pauses]
    return Outcome(
        "Models, idle: one request through the batcher against a direct call",
        [
            Figure.of("direct call of the backend", [one.direct for one in rounds], "µs"),
            Figure.of("inline: request to score", [one.inline for one in rounds], "µs"),
            Figure.of("inline: more than the direct call", added, "µs", at_most=INLINE_US),
            Figure.of("bare hop to a thread and back", [one.hop for one in rounds], "µs"),
            Figure.of("direct call through a bare hop", [one.through_hop for one in rounds], "µs"),
            Figure.of("threaded: request to score", [one.threaded for one in rounds], "µs"),
            Figure.of("threaded: more than that", beyond, "µs", at_most=THREADED_US),
            Figure.of("loop asleep before, direct call", [one.direct for one in pauses], "µs"),
            Figure.of("loop asleep before, inline: more than that", asleep, "µs"),
        ],
        [
            f"The demo model, batch 1. Medians over {len(rounds)} rounds of their medians; "
            f"{BLOCK} calls of each kind a round, in turns.",
            "The direct call is the backend's `run` alone, on a window that already lies in its "
            "buffer. All else is ours: making the request, admission, the plan, gathering the "
            "window from the kernel's ring, checking that it is finite, the run, checking range "
            "and sum of the answer, making the score, counters, histograms, the latency model.",
            "The bare hop is a queue to a thread and one `call_soon_threadsafe` back, with the "
            "same run in the thread; its time alone is without the run's own. Threaded requests "
            "are held against the direct call through that hop. Both are over when the callback "
            "is called.",
            f"Loop asleep before: one call every {APART_S * 1e3:.0f} ms, so that the processor has "
            "forgotten the code; the target is for calls one after the other.",
        ],
    )


if __name__ == "__main__":
    report(measure, __doc__)
