"""The lab's own processes, one at a time: frames as they should be, on time; silence and death."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
import zmq
from live_cases import free_endpoints
from pipeline_cases import market_ticks

from engine.core.errors import CheckFailedError
from engine.core.records import TickKind, Ticks
from feeds.codec import decode_frame
from latency.hlog import HlogWriter
from replay.lab import injector
from replay.lab.engine_side import last_end_ns
from replay.lab.injector import Stream, make_frames, open_socket, play, send_on_time, sleeps_enough
from replay.lab.measured import counts_of
from replay.lab.schedule import Pace, Schedule, make_schedule
from replay.lab.spawn import spawned
from replay.lab.talk import lab_ns

MS = 1_000_000
DEADLINE_MS = 10_000


def schedule_of(count: int = 300, speed: float = 20.0, slot_ns: int = 2 * MS) -> Schedule:
    ticks = market_ticks(count)
    return make_schedule(ticks[ticks["kind"] != TickKind.HEARTBEAT], Pace(speed, 10**12, slot_ns))


def stream_to(endpoint: str, *, market_times: bool = False) -> Stream:
    return Stream(endpoint, 3, 77, market_times)


@pytest.fixture
def pull() -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context:
        socket = context.socket(zmq.PULL)
        socket.set_hwm(0)
        socket.bind("tcp://127.0.0.1:*")
        yield socket
        socket.close(linger=0)


def take(pull: "zmq.Socket[bytes]", count: int) -> list[bytes]:
    frames = []
    for _ in range(count):
        assert pull.poll(DEADLINE_MS), "a frame is missing"
        frames.append(pull.recv())
    return frames


def test_frames_carry_the_time_they_are_due_and_number_every_tick() -> None:
    schedule = schedule_of()
    start = 9_000_000_000_000_000_000
    frames = [decode_frame(frame) for frame in make_frames(schedule, stream_to("x"), start)]
    assert [frame.ts_intended - start for frame in frames] == schedule.due_ns.tolist()
    assert [frame.first_seq for frame in frames] == (schedule.firsts + 1).tolist()
    assert {(frame.gateway, frame.epoch) for frame in frames} == {(3, 77)}
    sent: Ticks = np.concatenate([frame.records for frame in frames])
    assert len(sent) == len(schedule.ticks)
    assert sent["price"].tobytes() == schedule.ticks["price"].tobytes()
    assert (sent["ts_recv"] >= start).all()


@pytest.mark.parametrize(
    ("gap_us", "frames", "enough"),
    [(500, 10_000, True), (500, 10, True), (200, 10_000, False), (200, 1_000, True), (10, 0, True)],
)
def test_only_one_that_sleeps_much_asks_to_be_real_time(
    gap_us: int, frames: int, enough: bool
) -> None:
    due_ns = np.arange(frames) * gap_us * 1000
    assert sleeps_enough(due_ns) == enough
    later = due_ns.max(initial=0) + 10**10
    busy = np.concatenate([due_ns, later + np.arange(5_000) * 1000])
    assert not sleeps_enough(busy)


def test_market_times_stay_as_they_are() -> None:
    schedule = schedule_of()
    frames = make_frames(schedule, stream_to("x", market_times=True), 5)
    sent: Ticks = np.concatenate([decode_frame(frame).records for frame in frames])
    assert sent.tobytes() == schedule.ticks.tobytes()


def test_a_play_sends_every_frame_in_order_and_none_early(pull: "zmq.Socket[bytes]") -> None:
    schedule = schedule_of()
    stream = stream_to(pull.getsockopt_string(zmq.LAST_ENDPOINT))
    start = lab_ns() + 400 * MS
    sent_ns = play(schedule, stream, start)
    came = take(pull, len(schedule.due_ns))
    assert came == make_frames(schedule, stream, start)
    late = sent_ns - (schedule.due_ns + start)
    assert (late >= 0).all()
    assert (np.diff(sent_ns) > 0).all()


def test_a_slow_reader_delays_nothing(pull: "zmq.Socket[bytes]") -> None:
    """Nobody receives until all is due: it waits in ZeroMQ, and every frame was taken."""
    schedule = schedule_of(2_000, speed=100.0, slot_ns=0)
    stream = stream_to(pull.getsockopt_string(zmq.LAST_ENDPOINT))
    start = lab_ns() + 600 * MS
    with ThreadPoolExecutor(1) as executor:
        playing = executor.submit(play, schedule, stream, start)
        wait([playing], timeout=(start + int(schedule.due_ns[-1]) - lab_ns()) / 1e9)
        assert len(take(pull, len(schedule.due_ns))) == len(schedule.due_ns)
        sent_ns = playing.result()
    assert (sent_ns > 0).all()


def test_frames_that_are_not_ready_in_time_are_an_error_not_a_late_start(
    pull: "zmq.Socket[bytes]",
) -> None:
    stream = stream_to(pull.getsockopt_string(zmq.LAST_ENDPOINT))
    with pytest.raises(CheckFailedError, match="frames were not ready in time"):
        play(schedule_of(), stream, lab_ns())


def test_without_an_engine_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injector, "CONNECT_MS", 50)
    stream = stream_to(free_endpoints(1)[0])
    with zmq.Context() as context:
        with pytest.raises(CheckFailedError, match="no engine takes ticks at tcp://127"):
            open_socket(context, stream, 10)
        socket = context.socket(zmq.PUSH)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.connect(stream.endpoint)
        sent_ns = send_on_time(socket, [b"x"], np.array([lab_ns()]))
        socket.close(linger=0)
    assert sent_ns.tolist() == [0]


def test_noise_is_measured_on_a_fixed_schedule_until_told(tmp_path: Path) -> None:
    async def run() -> None:
        async with spawned("noise", "replay.lab.noise", tmp_path / "noise.log") as noise:
            await noise.hear("measuring", 60)
            await asyncio.sleep(0.3)
            await noise.tell({"out": str(tmp_path / "noise.npz")})
            await noise.hear("measured", 60)

    before = lab_ns()
    asyncio.run(run())
    with np.load(tmp_path / "noise.npz") as kept:
        due, late = kept["due_ns"], kept["late_ns"]
    assert len(due) >= 200
    assert set(np.diff(due).tolist()) == {MS}
    assert (late >= 0).all()
    assert before < due[0] < lab_ns(), "on the lab's clock"


def test_clients_without_a_stream_say_so(tmp_path: Path) -> None:
    url = free_endpoints(1)[0].replace("tcp", "ws")

    async def run() -> None:
        log = tmp_path / "clients.log"
        async with spawned("clients", "replay.lab.clients", log, [url, "2"]) as clients:
            await clients.hear("listening", 60)

    with pytest.raises(CheckFailedError, match=r"the clients ended \(1\): a client could not"):
        asyncio.run(run())


def test_a_worker_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with spawned("injector", "replay.lab.injector", tmp_path / "log") as worker:
            await worker.hear("prepared", 0.2)

    with pytest.raises(CheckFailedError, match="the injector did not say 'prepared' within"):
        asyncio.run(run())


def test_the_end_of_a_latency_log_is_that_of_its_last_whole_line(tmp_path: Path) -> None:
    path, start = tmp_path / "stages.hlog", 1_700_000_000_000_000_000
    with HlogWriter(path, start) as writer:
        assert last_end_ns(path) == start, "nothing is in it yet"
        for turn in range(3):
            begin = start + turn * 5_000 * MS
            writer.append("loop", counts_of(np.array([5, 6])), begin, begin + 5_000 * MS)
        with path.open("a") as file:
            file.write("Tag=loop,15.0")
        assert last_end_ns(path) == pytest.approx(start + 15_000 * MS, abs=1_000)
