"""The demo model behind this batcher, and behind LitServe and Ray Serve with theirs.

The peers are optional (extra ``bench-serving``); one that is not installed is left out, and the
page says so. They run under ``.venv-bench-serving``, or under ``HEQIS_SERVING_PYTHON``, or under
this Python if it has them.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvloop
from bench.measuring import Figure, Outcome, report, say
from bench.model_parts import FAR_NS, ROOT, Windows, demo_bundle, make_inference
from bench.serving import arrivals

from runtime.asking import Answer, Ask
from runtime.inference import Inference

PEERS: Final = {"litserve": "litserve_peer.py", "ray": "ray_peer.py"}
SERVING: Final = Path(__file__).with_name("serving")
OPTIONS: Final = {
    "rate": 100.0, "seconds": 10.0, "rounds": 3, "outstanding": 64, "warm_s": 2.0, "batch": 32,
}  # fmt: skip
FAST_PER_S: Final = 10_000.0
PEER_LIMIT_S: Final = 400
Found = dict[str, list[float]]


class Ours:
    """Requests to an inference in this process; the loop thread owns it."""

    inference: Inference

    def __init__(self, windows: Windows) -> None:
        self._contexts = windows.contexts
        self._waiting: dict[int, Callable[[], None]] = {}

    def begin(self, place: int, done: Callable[[], None]) -> None:
        """Ask for one score."""
        ask = Ask(0, FAR_NS, _Tagged(self._contexts[place % len(self._contexts)], done))
        answer = self.inference.ask([ask])[0]
        if answer is not None:
            self.on_answer(answer)

    def on_answer(self, answer: Answer) -> None:
        """Call whoever asked."""
        if answer.score is None:
            raise SystemExit(f"no score: {answer.failure}")
        answer.context.done()  # type: ignore[attr-defined] # a _Tagged


class _Tagged:
    """A request and who waits for it."""

    __slots__ = ("candidate", "done")

    def __init__(self, pending: Any, done: Callable[[], None]) -> None:
        self.candidate = pending.candidate
        self.done = done


async def measure_ours(options: dict[str, Any], *, inline: bool) -> Found:
    """Measure this batcher with the same arrivals."""
    windows = Windows(256)
    ours = Ours(windows)
    ours.inference = make_inference(
        demo_bundle(), windows.gather, ours.on_answer, max_batch=options["batch"], inline=inline
    )
    await ours.inference.start()
    try:
        found = await arrivals.measure(ours.begin, options)
        if inline:
            taken = await arrivals.on_schedule(ours.begin, FAST_PER_S, options["seconds"] / 2, 0)
            found["fast_ms"] = sorted(taken)[int(0.99 * len(taken)) : int(0.99 * len(taken)) + 1]
        return found
    finally:
        await ours.inference.stop()


def peer_python(module: str) -> str:
    """Return a Python that has a peer, "" if there is none."""
    beside = ROOT / ".venv-bench-serving" / "bin" / "python"
    for python in (os.environ.get("HEQIS_SERVING_PYTHON", ""), str(beside)):
        if python and Path(python).exists():
            code = f"import importlib.util as u; raise SystemExit(u.find_spec({module!r}) is None)"
            if not subprocess.run([python, "-c", code], check=False).returncode:
                return python
    return sys.executable if importlib.util.find_spec(module) is not None else ""


def measure_peer(module: str, options: dict[str, Any]) -> dict[str, Any]:
    """Run a peer's program; return what it found, or why it found nothing under ``skipped``."""
    python = peer_python(module)
    if not python:
        return {"skipped": "not installed (extra bench-serving)"}
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(SERVING)}
    done = subprocess.run(
        [python, str(SERVING / PEERS[module]), json.dumps(options)],
        capture_output=True, text=True, check=False,
        env=environment, timeout=PEER_LIMIT_S,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        return {"skipped": f"it failed: {lines[-1][:200]}"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def figures_of(name: str, found: Found, ours: Found | None) -> list[Figure]:
    """Return one server's rows; beside ``ours`` as a ratio too."""
    figures = [
        Figure.of(f"{name}: p50", found["p50_ms"], "ms"),
        Figure.of(f"{name}: p99", found["p99_ms"], "ms"),
        Figure.of(f"{name}: saturated", found["per_s"], "requests/s"),
    ]
    if ours is not None:
        faster = [a / b for a, b in zip(ours["per_s"], found["per_s"], strict=True)]
        sooner = [a / b for a, b in zip(found["p99_ms"], ours["p99_ms"], strict=True)]
        figures.append(Figure.of(f"HEQIS over {name}: requests a second", faster, "x"))
        figures.append(Figure.of(f"{name} over HEQIS: p99", sooner, "x"))
    return figures


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure ours, then each peer that is here."""
    options: dict[str, Any] = {**OPTIONS, "model": str(demo_bundle().reference.path)}
    if arguments.quick:
        options |= {"seconds": 3.0, "rounds": 2, "warm_s": 1.0}
    outcome = Outcome("Models: the same requests behind other servers")
    inline: Found = uvloop.run(measure_ours(options, inline=True))
    threaded: Found = uvloop.run(measure_ours(options, inline=False))
    fast = inline.pop("fast_ms")
    outcome.figures += figures_of("HEQIS, on the loop", inline, None)
    outcome.figures.append(
        Figure.of(f"HEQIS, on the loop: p99 at {FAST_PER_S:,.0f} requests/s", fast, "ms")
    )
    outcome.figures += figures_of("HEQIS, on its thread", threaded, None)
    versions = []
    for module in PEERS:
        say(f"{module} ...")
        found = measure_peer(module, options)
        if "skipped" in found:
            outcome.notes.append(f"{module}: {found['skipped']}.")
            continue
        versions.append(f"{module} {found.pop('version')}")
        for name, one in found.items():
            outcome.figures += figures_of(name, one, threaded)
    outcome.notes += _notes(options, versions)
    return outcome


def _notes(options: dict[str, Any], versions: list[str]) -> list[str]:
    return [
        f"The demo model in ONNX Runtime, set up alike: one thread, no spinning, batches of at "
        f"most {options['batch']}, no waiting for a batch to fill. p50 and p99: open loop, Poisson "
        f"arrivals at {options['rate']:.0f} a second, the same for all, timed from when a request "
        f"was meant to be sent. Saturated: {options['outstanding']} requests always unanswered. "
        f"{options['rounds']} rounds of {options['seconds']:g} s each.",
        "HEQIS answers inside the engine's process, which is what it is for; the others are "
        "servers, and most of what they take is the way to them, not the batching. Over HTTP the "
        "client is bare sockets with kept connections. Ray's handle is its way without HTTP, to "
        "another process. The ratios are to HEQIS on its thread.",
        f"Peers: {', '.join(versions) or 'none installed'}; clients and servers share the "
        "machine's cores.",
    ]


if __name__ == "__main__":
    report(measure, __doc__)
