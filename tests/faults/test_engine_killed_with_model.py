"""The engine killed while the demo's model scores: its signals are those of one that never died.

But for scores so close to a threshold that two devices may read them in two ways.
"""

import random
import time
from functools import partial
from pathlib import Path

import msgspec
import pytest
from demo_model_config import NO_LIMITS, asking_demo_model
from process_rig import FULL, Rig, eventually, source_toml
from score_books import book_of, room

from engine.core.models import Precision
from engine.core.signals import Signal
from engine.snapshot_file import SnapshotFiles, read_snapshot
from replay.player import Options, play

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

KILLS = 20 if FULL else 4
FILL_S = 30.0
"""Until the windows of the model's clock are full."""
CONFIG = f"""
[engine]
record = "recordings"
snapshot_interval = "3s"
[gateway]
await_output = true
[gateway.spool]
directory = "spool"
{source_toml(1_000.0, 10, effect_bps_per_s=4.0)}
{asking_demo_model("10m")}
{NO_LIMITS}
"""


def has_lived(rig: Rig, lives: int) -> bool:
    return len(rig.events("engine_live")) > lives


def live_and_die(rig: Rig) -> None:
    """Run a session in which the engine is killed: once before the model has anything to say."""
    random_ = random.Random(4)
    engine, gateway = rig.start("engine"), rig.start("gateway")
    eventually(lambda: rig.events("engine_live"), "live")
    for kill in range(KILLS):
        time.sleep(FILL_S if kill == 1 else random_.uniform(1.0, 6.0))
        lives = len(rig.events("engine_live"))
        engine.kill()
        engine.wait()
        engine = rig.start("engine")
        eventually(partial(has_lived, rig, lives), "live after a kill")
    time.sleep(4.0)
    rig.stop(engine)
    rig.stop(gateway)


@pytest.mark.slow
@pytest.mark.timeout(180 + 25 * KILLS)
def test_an_engine_with_a_model_misses_nothing_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Rig(tmp_path, CONFIG) as rig:
        live_and_die(rig)
    newest, *_ = SnapshotFiles(tmp_path / "journal.snapshots").paths()
    (place,) = read_snapshot(newest).streams
    (spool,) = (tmp_path / "spool").iterdir()
    blueprint, replayed = rig.blueprint(), list[Signal]()
    with book_of(monkeypatch) as book:
        result = play([spool], blueprint, Options(keep=replayed.append))
    assert (result.missing, result.bad_input) == (0, {})
    tolerance = blueprint.models[0].bundle.tolerance(Precision.FP32)
    close = {
        (blueprint.rules[read.candidate.strategy].name, read.candidate.ts_recv)
        for read in book.values()
        if read.answer.score is not None and room(read) <= tolerance
    }
    rows = rig.rows("SELECT body FROM signals")
    signals = [msgspec.json.decode(body, type=Signal) for (body,) in rows]
    assert rig.rows("SELECT id FROM refusals WHERE gate = 'restart'") == []
    expected = {one.id: (one.strategy, one.ts_recv) for one in replayed
                if one.tick_seq < place.next_seq}  # fmt: skip
    made = {one.id: (one.strategy, one.ts_recv) for one in signals}
    assert len(made) == len(signals), "none twice"
    missing = expected.keys() - made.keys()
    assert {expected[one] for one in missing} <= close
    added = made.keys() - expected.keys()
    assert {made[one] for one in added} <= close, "nothing is made up but at a threshold"
    rules = {one for one, (strategy, _) in expected.items() if strategy == "rule"}
    assert {one for one, (strategy, _) in made.items() if strategy == "rule"} == rules
    by_model = [one for one, (strategy, _) in made.items() if strategy != "rule"]
    lives = rig.events("engine_live")
    print(  # noqa: T201 - the figure
        f"\nFIGURE engine killed with a model: kills {KILLS}, ticks {place.next_seq - 1}, signals "
        f"{len(made)} ({len(by_model)} by model), late {sum(one['late'] for one in lives)}, "
        f"missing {len(missing)}, added {len(added)}, close to a threshold {len(close)}"
    )
    assert len(by_model) > 20
    assert len(rules) > 20
