"""The committed demo bundle in processes of their own: a session live replays to the same signals.

Real gateway, real engine, real time: windows of the demo's clock fill within half a minute.
"""

from pathlib import Path

import pytest
from demo_model_config import NO_LIMITS, asking_demo_model
from live_models import events, signals
from process_rig import Rig, source_toml
from score_books import book_of, room

from engine.core.models import Precision
from engine.core.signals import Signal
from feeds.log_reader import LogReader
from feeds.log_verify import verify
from replay.player import RANDOM_BURSTS, Options, play

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

LIVE_S = 42.0
RECORDED = """
[engine]
record = "recordings"
"""


Place = tuple[str, str, int]
"""Strategy, instrument and receive time of what a signal came of."""


def place_of(one: Signal) -> Place:
    return one.strategy, one.instrument, one.ts_recv


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_demo_model_says_live_what_it_says_in_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    pytest.importorskip(backend, reason="what the model is run by")
    config = RECORDED + NO_LIMITS + asking_demo_model("10s", f'["{backend}@cpu"]')
    with Rig(tmp_path, config + source_toml(1_500.0, 20, effect_bps_per_s=4.0)) as rig:
        rig.play_live(LIVE_S)
    (log,) = (tmp_path / "recordings").iterdir()
    assert verify(log).ok
    blueprint = rig.blueprint()
    live, replayed = signals(tmp_path / "journal.db"), list[Signal]()
    with book_of(monkeypatch) as book:
        result = play([log], blueprint, Options(keep=replayed.append))
    assert (result.gaps, result.missing, result.bad_input) == (0, 0, {})
    tolerance = blueprint.models[0].bundle.tolerance(Precision.FP32)
    with LogReader(log) as reader:
        symbols = [row["symbol"].decode() for row in reader.instruments]
    close = {
        (blueprint.rules[read.candidate.strategy].name, symbols[read.candidate.instrument],
         read.candidate.ts_recv)
        for read in book.values()
        if read.answer.score is not None and room(read) <= tolerance
    }  # fmt: skip
    ids = {one.id: place_of(one) for one in [*live, *replayed]}
    apart = {one.id for one in live} ^ {one.id for one in replayed}
    assert {ids[one] for one in apart} <= close
    assert [one.id for one in live if one.model is None] == [
        one.id for one in replayed if one.model is None
    ]
    by_model = [one for one in live if one.model is not None]
    assert {one.backend for one in by_model} == {backend}
    assert {one.strategy for one in by_model} == {"tcn", "confirmed"}
    assert len(by_model) > 20
    assert [one["cause"] for one in events(tmp_path / "journal.db", "model_device")] == [
        "DEVICE_STARTED"
    ]
    assert play([log], blueprint, Options(burst=RANDOM_BURSTS)).digest == result.digest
