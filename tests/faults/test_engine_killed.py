"""The engine killed at random moments: its signals are those of an engine that never died."""

import os
import random
import time
from itertools import groupby
from pathlib import Path

import psutil
import pytest
from process_rig import FULL, START_S, THREE_RULES, Rig, eventually, source_toml

from engine.core.signals import Signal
from engine.snapshot_file import SnapshotFiles, read_snapshot
from replay.player import Options, play

KILLS = 100 if FULL else 5
LIVE_WITHIN_S = 3.0
RECORD = """
[engine]
record = "recordings"
"""
CONFIG = f"""
[gateway]
await_output = true
[gateway.spool]
directory = "spool"
memory = "."
{source_toml(instruments=20)}
[risk.data]
max_late = "10m"
gap_hold = 0
[risk.limits]
max_position = 0
{THREE_RULES}"""


def undisturbed(rig: Rig, taken: int) -> list[str]:
    """Return the ids that the gateway's spool gives, up to the last tick that was taken."""
    (spool,) = (rig.directory / "spool").iterdir()
    signals: list[Signal] = []
    result = play([spool], rig.blueprint(), Options(keep=signals.append))
    assert (result.missing, result.bad_input) == (0, {})
    return [one.id for one in signals if one.tick_seq <= taken]


def restart(rig: Rig) -> tuple[psutil.Popen, float, float]:
    """Start an engine anew; return it, and the wall and processor's seconds until it is live."""
    lives = len(rig.events("engine_live"))
    began = time.monotonic()
    engine = rig.start("engine")
    eventually(lambda: len(rig.events("engine_live")) > lives, "live after a kill", START_S)
    wall_s = time.monotonic() - began
    times = engine.cpu_times()
    return engine, wall_s, times.user + times.system


def told(kills: int, ticks: int, lives: list[dict[str, int]], took: list[list[float]]) -> None:
    walls, works = (sorted(column) for column in zip(*took, strict=True))
    fates = {name: sum(one[name] for one in lives) for name in ("recognised", "late", "expired")}
    print(  # noqa: T201 - the figure
        f"\nFIGURE engine killed: kills {kills}, ticks {ticks}, {fates}, live after "
        f"{walls[len(walls) // 2]:.2f} s (median), {walls[-1]:.2f} s (most); processor "
        f"{works[len(works) // 2]:.2f} s, {works[-1]:.2f} s; load {os.getloadavg()[0]:.1f}"
    )


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(120 + 20 * KILLS)
@pytest.mark.parametrize("records", [True, False], ids=["recording", "resend alone"])
def test_an_engine_killed_again_and_again_misses_nothing_and_repeats_nothing(
    tmp_path: Path, *, records: bool
) -> None:
    random_ = random.Random(20240304)
    took = []
    environ = {"HEQIS__ENGINE__SNAPSHOT_INTERVAL": "2s"}
    with Rig(tmp_path, CONFIG + RECORD * records, environ) as rig:
        engine, gateway = rig.start("engine"), rig.start("gateway")
        eventually(lambda: rig.events("engine_live"), "live")
        for _ in range(KILLS):
            time.sleep(random_.uniform(0.0, 3.0))
            engine.kill()
            engine.wait()
            engine, *seconds = restart(rig)
            took.append(seconds)
        time.sleep(2.0)
        rig.stop(engine)
        rig.stop(gateway)
    newest, *_ = SnapshotFiles(tmp_path / "journal.snapshots").paths()
    (place,) = read_snapshot(newest).streams
    ticks = place.next_seq - 1
    told(KILLS, ticks, rig.events("engine_live"), took)
    expected = undisturbed(rig, ticks)
    signals = rig.rows("SELECT epoch, seq, id FROM signals ORDER BY epoch, seq")
    expired = rig.rows("SELECT id FROM refusals WHERE gate = 'restart'")
    assert sorted([*(row[2] for row in signals), *(row[0] for row in expired)]) == sorted(expected)
    assert len(expected) > 20 * KILLS
    for _, rows in groupby(signals, key=lambda row: row[0]):
        numbers = [seq for _, seq, _ in rows]
        assert numbers == list(range(1, len(numbers) + 1))
    assert max(work_s for _, work_s in took) < LIVE_WITHIN_S
    if os.getloadavg()[0] <= (os.cpu_count() or 1):
        assert max(wall_s for wall_s, _ in took) < LIVE_WITHIN_S
