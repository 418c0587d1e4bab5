"""The engine killed at random moments: its signals are those of an engine that never died."""

import random
import time
from pathlib import Path

import pytest
from fault_kit import FULL, Journaled, Process, blueprint_of, until, write_config

from engine.core.signals import Signal
from engine.snapshot_file import SnapshotFiles, read_snapshot
from replay.player import Options, play

KILLS = 100 if FULL else 5
LIVE_WITHIN_S = 3.0


def undisturbed(directory: Path, config: Path, taken: int) -> list[str]:
    """Return the ids that the gateway's spool gives, up to the last tick that was taken."""
    (spool,) = (directory / "spool").iterdir()
    signals: list[Signal] = []
    result = play([spool], blueprint_of(config), Options(keep=signals.append))
    assert (result.missing, result.bad_input) == (0, {})
    return [one.id for one in signals if one.tick_seq <= taken]


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * KILLS)
def test_an_engine_killed_again_and_again_misses_nothing_and_repeats_nothing(
    tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    random_ = random.Random(20240304)
    config = write_config(tmp_path)
    journal = Journaled(tmp_path / "journal.db")
    took = []
    with Process("engine", config) as engine, Process("gateway", config) as gateway:
        for kill in range(KILLS):
            until(lambda: len(journal.events("engine_live")) > len(took), "live")
            time.sleep(random_.uniform(0.0, 3.0))
            engine.kill()
            began, lives = time.monotonic(), len(journal.events("engine_live"))
            engine.start()
            until(lambda: len(journal.events("engine_live")) > lives, f"live after kill {kill}")  # noqa: B023
            took.append(time.monotonic() - began)
        time.sleep(2.0)
        engine.stop()
        gateway.stop()
    newest, *_ = SnapshotFiles(tmp_path / "journal.snapshots").paths()
    (place,) = read_snapshot(newest).streams
    expected = undisturbed(tmp_path, config, place.next_seq - 1)
    signals = [row[0] for row in journal.rows("SELECT id FROM signals")]
    expired = [row[0] for row in journal.rows("SELECT id FROM refusals WHERE gate = 'restart'")]
    lives = journal.events("engine_live")
    print(
        f"{KILLS} kills, {place.next_seq - 1} ticks, {len(signals)} signals, {len(expired)} expired;"
        f" live after {max(took):.2f} s at most, {sorted(took)[len(took) // 2]:.2f} s median;"
        f" late {sum(one['late'] for one in lives)}"
    )
    assert sorted([*signals, *expired]) == sorted(expected)
    assert len(expected) > 20 * KILLS
    assert max(took) < LIVE_WITHIN_S
