"""What 200 instruments with a window a second each cost: CPU time of the process."""

import argparse
import asyncio
import time
from typing import Final

import uvloop
from bench.measuring import Figure, Outcome, report, say
from bench.model_parts import FAR_NS, Windows, demo_bundle, make_inference

from runtime.asking import Answer, Ask
from runtime.inference import Inference

INSTRUMENTS: Final = 200
SECONDS: Final = 15
ROUNDS: Final = 3


class Pace:
    """Asks for every instrument's score once a second, in so many groups.

    Args:
        windows: One an instrument.
        groups: 1: all at once, as bars close; 200: each on its own, evenly spread.
    """

    inference: Inference

    def __init__(self, windows: Windows, groups: int) -> None:
        contexts = windows.contexts[:INSTRUMENTS]
        self.groups = [contexts[start::groups] for start in range(groups)]
        self.scores = 0

    def on_answer(self, answer: Answer) -> None:
        """Count an answer."""
        if answer.score is None:
            raise SystemExit(f"no score: {answer.failure}")
        self.scores += 1

    async def run(self, seconds: int) -> float:
        """Ask for some seconds; return the share of a core that the process took."""
        loop = asyncio.get_running_loop()
        began, began_cpu = loop.time(), time.process_time()
        apart_s = 1 / len(self.groups)
        for turn in range(seconds * len(self.groups)):
            await asyncio.sleep(began + turn * apart_s - loop.time())
            asks = [Ask(0, FAR_NS, one) for one in self.groups[turn % len(self.groups)]]
            for answer in self.inference.ask(asks):
                if answer is not None:
                    self.on_answer(answer)
        await asyncio.sleep(began + seconds - loop.time())
        return 100 * (time.process_time() - began_cpu) / (loop.time() - began)


async def measure_pace(windows: Windows, groups: int, seconds: int) -> float:
    """Return the share in percent with the demo model at its defaults."""
    pace = Pace(windows, groups)
    pace.inference = make_inference(demo_bundle(), windows.gather, pace.on_answer)
    await pace.inference.start()
    try:
        await pace.run(1)
        before = pace.scores
        share = await pace.run(seconds)
        asked = sum(len(group) for group in pace.groups) * seconds
        if pace.scores - before != asked:
            raise SystemExit(f"{pace.scores - before} scores for {asked} requests")
        return share
    finally:
        await pace.inference.stop()


async def measure_idle(windows: Windows, wakes: int, seconds: int) -> float:
    """Return the share in percent when the loop wakes so often a second and asks nothing."""
    inference = make_inference(demo_bundle(), windows.gather, lambda answer: None)
    await inference.start()
    loop = asyncio.get_running_loop()
    began, began_cpu = loop.time(), time.process_time()
    for turn in range(seconds * wakes):
        await asyncio.sleep(began + (turn + 1) / wakes - loop.time())
    share = 100 * (time.process_time() - began_cpu) / (loop.time() - began)
    await inference.stop()
    return share


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure both ways to come."""
    seconds, rounds = (4, 1) if arguments.quick else (SECONDS, ROUNDS)
    windows = Windows(INSTRUMENTS)
    together, spread, idle, woken = [], [], [], []
    for turn in range(rounds):
        idle.append(uvloop.run(measure_idle(windows, 1, seconds)))
        woken.append(uvloop.run(measure_idle(windows, INSTRUMENTS, seconds)))
        together.append(uvloop.run(measure_pace(windows, 1, seconds)))
        spread.append(uvloop.run(measure_pace(windows, INSTRUMENTS, seconds)))
        say(f"round {turn + 1}: {together[-1]:.2f} % together, {spread[-1]:.2f} % spread")
    return Outcome(
        f"Models: {INSTRUMENTS} instruments, a window a second each",
        [
            Figure.of("all at the end of a second, as bars close", together, "% of a core"),
            Figure.of("evenly spread, each on its own", spread, "% of a core"),
            Figure.of("nothing asked", idle, "% of a core"),
            Figure.of(f"nothing asked, {INSTRUMENTS} wake-ups a second", woken, "% of a core"),
        ],
        [
            f"CPU time of the whole process over {seconds} s of real time, {rounds} rounds: the "
            "event loop, its timer, gathering windows from the kernel's rings, the batcher, ONNX "
            "Runtime and the scores. Ticks and indicators are not in it, nor what strategies and "
            "the risk gate do with a score.",
            "The demo model at its defaults: at most 64 a batch, on the loop thread. What comes on "
            "its own finds the processor asleep and its caches cold, which costs many times what "
            "the same request costs among others.",
        ],
    )


if __name__ == "__main__":
    report(measure, __doc__)
