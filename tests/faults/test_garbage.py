"""Strangers send garbage to every port: all of it is counted, and good traffic does not notice."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psutil
import pytest
import zmq
from process_rig import FULL, RULES, Rig, eventually, source_toml
from stranger import messages

from engine.operating import read_status
from feeds.control_messages import StatusReply, StatusRequest, encode, parse_reply
from latency.counts import merge_all
from latency.hlog_reader import read_hlog

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

STRANGER = Path(__file__).resolve().parents[1] / "stranger.py"
RATE = 5_000.0
GIGABYTE = 1 << 30
MEMORY_BYTES = 16 << 20
CUT_OFF_BYTES = 64 << 20
"""What may have been under way in the kernel's buffers when a connection was cut off."""
ROUNDS = 20 if FULL else 2
FLIPS = 1_000_000 if FULL else 40_000
GARBAGE_RATE = 5_000.0
ASKED = 4_000
ASKED_RATE = 2_000.0
WARM_UP_S = 10.0
SETTLE_S = 1.5
"""What a stranger's process takes to begin."""

Stretch = tuple[int, int]
"""From when to when, wall clock, ns."""


class Flipped(NamedTuple):
    """What flipping bits did to an engine.

    Attributes:
        counted: Frames it refused meanwhile.
        growth_bytes: Of its resident memory, at most.
        quiet_ns: p99 of the stage ``wire`` without flips.
        noisy_ns: The same with them.
    """

    counted: int
    growth_bytes: int
    quiet_ns: int
    noisy_ns: int

    @property
    def ratio(self) -> float:
        """How many times as long good frames took."""
        return self.noisy_ns / self.quiet_ns


def stranger(rig: Rig, *arguments: str) -> dict[str, int]:
    """Run a stranger to its end; return what it says it sent."""
    environ = {**rig.environ, "PYTHONPATH": f"{STRANGER.parents[1]}:{STRANGER.parent}"}
    done = subprocess.run(
        [sys.executable, str(STRANGER), *arguments],
        env=environ, stdout=subprocess.PIPE, timeout=300, check=True,
    )  # fmt: skip
    return dict(orjson.loads(done.stdout))


def status(rig: Rig) -> dict[str, Any]:
    return asyncio.run(read_status(rig.url))


def refused_frames(told: dict[str, Any]) -> int:
    return sum(n for name, n in told["input"].items() if name.startswith("frame_"))


def refused_requests(told: dict[str, Any]) -> int:
    return sum(n for name, n in told["control"].items() if name.startswith("refused_"))


@contextmanager
def dealing(rig: Rig) -> Iterator["zmq.Socket[bytes]"]:
    """Connect to the gateway's control port."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.sndtimeo = dealer.rcvtimeo = 20_000
        dealer.connect(rig.environ["HEQIS__LINK__CONTROL"])
        yield dealer


@contextmanager
def asking_gateway(rig: Rig) -> Iterator[Callable[[], dict[str, Any]]]:
    """Stay connected to the gateway; yields what asks it for its counters."""
    with dealing(rig) as dealer:

        def ask() -> dict[str, Any]:
            dealer.send(encode(StatusRequest()))
            reply = parse_reply(dealer.recv())
            assert isinstance(reply, StatusReply)
            return reply.status

        yield ask


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[int]]:
    """Sample a process's resident memory, bytes, while the block runs."""
    samples = [process.memory_info().rss]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            samples.append(process.memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


@contextmanager
def live(tmp_path: Path) -> Iterator[tuple[Rig, psutil.Process]]:
    """Run a gateway and an engine, warmed up; afterwards nothing good may be missing."""
    environ = {"HEQIS__ENGINE__HLOG_INTERVAL": "500ms"}
    with Rig(tmp_path, RULES + source_toml(RATE), environ) as rig:
        engine = rig.start("engine")
        rig.start("gateway")
        rig.until_live()
        time.sleep(WARM_UP_S)
        yield rig, engine
        signals = rig.signals()
        eventually(lambda: rig.signals() > signals + 5, "signals after the garbage")
        told = status(rig)
        assert (told["healthy"], told["problems"]) == (True, [])
        assert told["input"].get("gaps", 0) == told["input"].get("lost_records", 0) == 0


@contextmanager
def beset(rig: Rig, engine: psutil.Process) -> Iterator[Callable[[], dict[str, Any]]]:
    """Watch the memory of both processes, which may not grow; yields what asks the gateway."""
    gateway = rig.processes[1]
    with asking_gateway(rig) as ask, watched(engine) as ours, watched(gateway) as theirs:
        yield ask
    grown = {"engine": max(ours) - ours[0], "gateway": max(theirs) - theirs[0]}
    print(f"\nmemory, bytes more: {grown}")  # noqa: T201 - the figure
    assert max(grown.values()) <= MEMORY_BYTES, grown


def send_huge(rig: Rig, port: str, protocol: str) -> None:
    """Have a stranger send one huge message; the other side must hang up early."""
    sent = stranger(rig, "huge", port, protocol, str(GIGABYTE))["sent_bytes"]
    assert sent < CUT_OFF_BYTES, (port, protocol)


def stretch(seconds: float) -> Stretch:
    """Wait; return the time that passed, without its first seconds."""
    time.sleep(SETTLE_S)
    began = time.time_ns()
    time.sleep(seconds - SETTLE_S)
    return began, time.time_ns()


def p99_ns(rig: Rig, stretches: Sequence[Stretch]) -> int:
    """Return the p99 of good frames' way, from the gateway's send to the engine's loop."""
    intervals = read_hlog(rig.directory / "latency.hlog").of_stage("wire")
    chosen = [
        interval.counts
        for interval in intervals
        if any(a <= interval.start_wall_ns and interval.end_wall_ns <= b for a, b in stretches)
    ]
    return int(merge_all(chosen).values_at([99.0])[0])


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Flipped:
    """Flips bits beside good traffic, in turns with good traffic alone."""
    share = FLIPS // ROUNDS
    quiet: list[Stretch] = []
    noisy: list[Stretch] = []
    with live(tmp_path_factory.mktemp("flips")) as (rig, engine), watched(engine) as samples:
        before = refused_frames(status(rig))
        data = rig.environ["HEQIS__LINK__DATA"]
        for _ in range(ROUNDS):
            quiet.append(stretch(share / GARBAGE_RATE))
            work = threading.Thread(
                target=stranger, args=(rig, "flips", data, str(share), str(GARBAGE_RATE))
            )
            work.start()
            noisy.append(stretch(share / GARBAGE_RATE))
            work.join()
        eventually(
            lambda: refused_frames(status(rig)) - before >= FLIPS, "every flip counted", 30, 0.5
        )
        counted = refused_frames(status(rig)) - before
        quiet_ns, noisy_ns = p99_ns(rig, quiet), p99_ns(rig, noisy)
    return Flipped(counted, max(samples) - samples[0], quiet_ns, noisy_ns)


def test_bit_flips_are_all_counted_and_cost_no_memory(flipped: Flipped) -> None:
    print(  # noqa: T201 - the figure
        f"\n{FLIPS:,} flips: p99 {flipped.quiet_ns / 1e3:.0f} us without and "
        f"{flipped.noisy_ns / 1e3:.0f} us with them, ratio {flipped.ratio:.3f}; memory "
        f"+{flipped.growth_bytes / 1e6:.1f} MB"
    )
    assert flipped.counted == FLIPS
    assert flipped.growth_bytes <= MEMORY_BYTES


@pytest.mark.skipif(not FULL, reason="few stretches cannot tell 10 %: HEQIS_FAULTS=full")
def test_bit_flips_make_good_traffic_no_slower(flipped: Flipped) -> None:
    assert flipped.ratio <= 1.10


def test_empty_messages_and_garbage_are_all_counted(tmp_path: Path) -> None:
    with live(tmp_path) as (rig, engine), beset(rig, engine):
        before = refused_frames(status(rig))
        data = rig.environ["HEQIS__LINK__DATA"]
        for kind in ("zeros", "garbage"):
            assert stranger(rig, kind, data, "20000", "10000")["sent"] == 20_000
        eventually(lambda: refused_frames(status(rig)) - before >= 40_000, "counted", 30, 0.2)
        assert refused_frames(status(rig)) - before == 40_000


def test_empty_messages_and_garbage_for_the_gateway_are_all_counted(tmp_path: Path) -> None:
    with live(tmp_path) as (rig, engine), beset(rig, engine) as asked, dealing(rig) as dealer:
        before = refused_requests(asked())
        for number, message in enumerate(messages("asked", ASKED)):
            dealer.send_multipart([message] * (1 + number % 3))
            time.sleep(1 / ASKED_RATE)
        # Who hangs up sooner takes along what the gateway has not yet read.
        eventually(lambda: refused_requests(asked()) - before >= ASKED, "counted", 30, 0.2)
        assert refused_requests(asked()) - before == ASKED


def test_a_gigabyte_in_one_message_is_cut_off_on_every_port(tmp_path: Path) -> None:
    with live(tmp_path) as (rig, engine), beset(rig, engine) as asked:

        def cut_off() -> tuple[int, int]:
            ours, theirs = status(rig)["peers"], asked()["strangers"]
            return ours["disconnections"], theirs["disconnections"]

        data, control = cut_off()
        send_huge(rig, rig.environ["HEQIS__LINK__DATA"].removeprefix("tcp://"), "zmtp")
        eventually(lambda: cut_off() == (data + 1, control), "counted by the engine", 10, 0.2)
        send_huge(rig, rig.environ["HEQIS__LINK__CONTROL"].removeprefix("tcp://"), "zmtp")
        eventually(lambda: cut_off() == (data + 1, control + 1), "counted by both", 10, 0.2)
        send_huge(rig, f"127.0.0.1:{rig.port}", "websocket")
        assert status(rig)["stream"]["oversize_messages"] == 1
