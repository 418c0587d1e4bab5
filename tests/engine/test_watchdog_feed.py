"""A sign of life is given only while loop and data live."""

import asyncio
import contextlib
import itertools
import time
from pathlib import Path

import uvloop

from engine.notify import Notifier, NotifyListener
from engine.watchdog import Pulse, Vitals

S = 1_000_000_000


def vitals(data_s: int = 10, silence_s: int = 300) -> Vitals:
    return Vitals(data_s * S, silence_s * S, 0)


def test_data_that_come_are_life() -> None:
    one = vitals()
    for at in range(0, 1000, 5):
        assert one.wrong(at * S, heard=True, parted=False, data_ns=at * S) == ""


def test_a_gateway_that_is_heard_without_data_is_a_fault_of_ours() -> None:
    one = vitals()
    assert one.wrong(S, heard=True, parted=False, data_ns=0) == "", "it has only just come"
    assert one.wrong(11 * S, heard=True, parted=False, data_ns=0) == ""
    told = one.wrong(12 * S, heard=True, parted=False, data_ns=0)
    assert told == "the gateway is heard, but no frame came for 11.0 s"
    assert one.wrong(13 * S, heard=True, parted=False, data_ns=13 * S) == ""


def test_a_gateway_that_is_away_is_waited_for_and_then_we_doubt_ourselves() -> None:
    one = vitals()
    one.wrong(S, heard=True, parted=False, data_ns=S)
    assert one.wrong(300 * S, heard=False, parted=False, data_ns=S) == ""
    told = one.wrong(302 * S, heard=False, parted=False, data_ns=S)
    assert told == "nothing is heard of the gateway for 301.0 s"
    assert one.wrong(310 * S, heard=True, parted=False, data_ns=S) == "", "it is back just now"


def test_a_gateway_that_said_goodbye_is_waited_for_without_end() -> None:
    one = vitals()
    assert one.wrong(100_000 * S, heard=False, parted=True, data_ns=S) == ""
    assert one.wrong(100_001 * S, heard=False, parted=False, data_ns=S) == ""


def test_no_limit_of_silence_is_no_limit() -> None:
    assert vitals(silence_s=0).wrong(10**18, heard=False, parted=False, data_ns=0) == ""


def test_signs_of_life_end_with_the_data_and_come_back_with_them(tmp_path: Path) -> None:
    wrong = ""
    told: list[str] = []
    address = tmp_path / "manager"
    with NotifyListener(address) as listener, contextlib.closing(Notifier(str(address))) as child:
        pulse = Pulse(child, lambda: wrong, told.append)
        pulse.beat()
        listener.take(1)
        assert listener.fed_ns == 1
        wrong = "no data"
        pulse.beat()
        pulse.beat()
        listener.take(2)
        assert (listener.fed_ns, listener.status, told) == (1, "no data", ["no data"])
        assert pulse.starved == "no data"
        wrong = ""
        pulse.beat()
        listener.take(3)
        assert (listener.fed_ns, pulse.starved) == (3, "")


def test_a_blocked_loop_gives_no_sign_of_life(tmp_path: Path) -> None:
    owed_ns = 200_000_000

    async def live(listener: NotifyListener, child: Notifier) -> list[int]:
        fed = []
        pulse = Pulse(child, str, print)
        task = asyncio.create_task(pulse.run())
        for _ in range(20):
            await asyncio.sleep(0.02)
            listener.take(time.monotonic_ns())
            fed.append(listener.fed_ns)
        time.sleep(0.6)  # noqa: ASYNC251 - this is the fault
        listener.take(time.monotonic_ns())
        quiet_ns = time.monotonic_ns() - fed[-1]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return [*(b - a for a, b in itertools.pairwise(fed)), quiet_ns]

    address = tmp_path / "manager"
    child = Notifier(str(address), owed_ns)
    with NotifyListener(address) as listener, contextlib.closing(child):
        *gaps, quiet_ns = uvloop.run(live(listener, child))
    assert max(gaps) < owed_ns
    assert quiet_ns > owed_ns
