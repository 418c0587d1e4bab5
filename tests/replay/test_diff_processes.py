"""Live sessions with the demo's model, in real processes, one of them killed: all replay alike."""

import json
import time
from pathlib import Path

import pytest
from demo_model_config import NO_LIMITS, asking_demo_model
from process_rig import Rig, eventually, source_toml

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

FILL_S = 32.0
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
"""


LIMITS = """
[risk.limits]
max_position = 5
cool_down = "3s"
"""
"""Whether a signal passes depends on which came before it."""


class ScoringRig(Rig):
    """Counts the signals of models."""

    def scored(self) -> int:
        rows = self.rows("SELECT COUNT(*) FROM signals WHERE strategy != 'rule'")
        return int(rows[0][0]) if rows else 0


def live_twice(rig: ScoringRig, *, kill: bool) -> None:
    """Run an engine until its model has something to say, end or kill it, and let it go on."""
    engine, gateway = rig.start("engine"), rig.start("gateway")
    eventually(lambda: rig.events("engine_live"), "live")
    time.sleep(FILL_S)
    eventually(lambda: rig.scored() > 5, "signals of the model")
    if kill:
        engine.kill()
        engine.wait()
    else:
        rig.stop(engine)
    engine = rig.start("engine")
    eventually(lambda: len(rig.events("engine_live")) > 1, "live again")
    time.sleep(8.0)
    rig.stop(engine)
    rig.stop(gateway)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kill", [False, True], ids=["limits", "killed"])
def test_a_recorded_live_session_with_models_is_clean(tmp_path: Path, kill: bool) -> None:
    with ScoringRig(tmp_path, CONFIG + (NO_LIMITS if kill else LIMITS)) as rig:
        live_twice(rig, kill=kill)
        told = rig.ask("diff", "recordings", "-c", str(rig.file), "--json")
        assert told.returncode == 0, told.stdout[-3_000:] + told.stderr
        report = json.loads(told.stdout)
        text = rig.ask("diff", "recordings", "journal.db", "-c", str(rig.file))
        session = sorted((tmp_path / "recordings").iterdir())[-1]
        newest = rig.ask("diff", str(session), "-c", str(rig.file), "--json")
        spool = next((tmp_path / "spool").iterdir())
        log = rig.ask("diff", str(spool), "-c", str(rig.file), "--json")
        ((identity,),) = rig.rows("SELECT id FROM signals WHERE strategy = 'tcn' LIMIT 1")
        explained = rig.ask("explain", identity[:16], "recordings", "-c", str(rig.file), "--json")
        signals, scored = rig.signals(), rig.scored()
    counts = report["counts"]
    print(f"\nFIGURE diff of a live session with a model: {report['records']} records, {counts}")  # noqa: T201 - the figure
    assert report["clean"]
    assert report["sessions"] == 2
    assert counts["signals"] + counts.get("at_threshold", 0) >= signals
    assert scored > 5
    assert counts["checkpoints"] > 5
    assert counts["sealed_bytes"] > 1_000_000
    assert text.returncode == 0
    assert "clean: the replay decides as live did" in text.stdout
    assert newest.returncode == 0, newest.stdout[-3_000:]
    assert 0 < json.loads(newest.stdout)["counts"]["signals"] < counts["signals"]
    assert log.returncode == 0, log.stdout[-3_000:]
    assert explained.returncode == 0, explained.stderr
    behind = json.loads(explained.stdout)
    assert behind["made"]
    assert behind["scene"]["score"]["proposes"] == behind["live"]["side"]
