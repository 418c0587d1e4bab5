"""A session live at 20,000 ticks/s, in processes of its own, replays to the same signals."""

from pathlib import Path

import pytest
from process_rig import THREE_RULES, Rig, source_toml

from engine.core.signals import Signal
from feeds.log_verify import verify
from replay.player import RANDOM_BURSTS, Options, play

RATE = 20_000
LIVE_S = 12.0

CONFIG = f"""
[engine]
record = "recordings"

[risk.data]
max_late = "60s"
gap_hold = 0
[risk.limits]
max_position = 0
{THREE_RULES}{source_toml(RATE, 20)}"""


@pytest.mark.slow
def test_a_session_recorded_live_replays_to_the_same_digest(tmp_path: Path) -> None:
    with Rig(tmp_path, CONFIG) as rig:
        rig.play_live(LIVE_S)
    (log,) = (tmp_path / "recordings").iterdir()
    assert verify(log).ok
    blueprint = rig.blueprint()
    live = [identity for (identity,) in rig.rows("SELECT id FROM signals ORDER BY seq")]
    digests = set()
    for burst in (None, 1, RANDOM_BURSTS):
        signals: list[Signal] = []
        replayed = play([log], blueprint, Options(burst=burst, keep=signals.append))
        assert [one.id for one in signals] == live
        assert (replayed.gaps, replayed.missing, replayed.bad_input) == (0, 0, {})
        digests.add(replayed.digest)
    assert len(digests) == 1
    assert len(live) > 100
    assert replayed.ticks > 0.6 * RATE * (LIVE_S - 5)
