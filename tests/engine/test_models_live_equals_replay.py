"""What models said live, they say in the replay of the recording, and the signals are the same.

But for scores that are no further from a threshold than two forms of a model may differ: there a
signal may stand on one side alone.
"""

import statistics
from pathlib import Path
from typing import Any

import pytest
from bundle_cases import make_bundle
from live_models import (
    BY_MODEL,
    EVERY_TRADE,
    INLINE,
    THREADED,
    Session,
    model_tree,
    run_session,
    signals,
)
from pipeline_cases import make_pipeline, market_ticks, run_in_bursts
from score_books import book_of, decided_apart

from engine.composition import Blueprint, resolve
from engine.config import Config
from engine.core.models import Precision
from engine.core.signals import Signal
from feeds.log_verify import verify
from replay.player import Options, play
from runtime.bundle import Bundle
from runtime.manifest import Feature

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")


def replay_of(log: Path, blueprint: Blueprint) -> list[Signal]:
    assert verify(log).ok
    kept: list[Signal] = []
    result = play([log], blueprint, Options(keep=kept.append))
    assert (result.gaps, result.missing, result.bad_input) == (0, 0, {})
    return kept


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    features = [Feature(name=f"f{at}", of=f"roc(length={at + 1})") for at in range(4)]
    path = tmp_path_factory.mktemp("bundles") / "moves"
    return make_bundle(path, clock=EVERY_TRADE, features=tuple(features))


@pytest.mark.parametrize(
    ("placement", "shared"),
    [("onnxruntime@cpu", INLINE), ("onnxruntime@cpu", THREADED), ("openvino@cpu", THREADED)],
    ids=["inline", "threaded", "openvino"],
)
def test_a_live_session_replays_to_the_same_scores_and_signals(
    tmp_path: Path,
    bundle: Bundle,
    placement: str,
    shared: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if placement.startswith("openvino"):
        pytest.importorskip("openvino", reason="the other form of the model")

    async def scene(live: Session) -> None:
        await live.settled()
        for _ in range(40):
            await live.send(40)
            await live.settled()
        assert live.failures.keys() <= {"MODEL_NOT_READY", "MODEL_DISAGREES"}

    tree = model_tree(tmp_path, bundle.path, placement=[placement], deadline="1m", inference=shared)
    for strategy in tree["strategies"]:
        strategy["valid_for"] = "1m"
    tree["strategies"][1]["params"] = {"min_probability": threshold(tree, monkeypatch)}
    with book_of(monkeypatch) as live_book:
        run_session(tree, scene)
    (log,) = (tmp_path / "recordings").iterdir()
    with book_of(monkeypatch) as replay_book:
        replayed = replay_of(log, resolve(Config.model_validate(tree)))
    differ = decided_apart(live_book, replay_book, bundle.tolerance(Precision.FP32))
    made = signals(tree["journal"]["path"])
    assert_alike(made, replayed, len(differ))
    assert min(sum(one.strategy == name for one in made) for name in BY_MODEL) > 20
    silent = [read for read in live_book.values() if not read.side]
    assert len(silent) > 20


def threshold(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> float:
    """Return a probability of up or down that half of the answers on this market reach."""
    ticks = market_ticks(2_000, 2)
    with book_of(monkeypatch) as book:
        pipeline, _ = make_pipeline(tree, 2)
        run_in_bursts(pipeline, ticks, [])
    found = [read.answer.score for read in book.values()]
    return statistics.median(max(one.values[0], one.values[2]) for one in found if one is not None)


def assert_alike(live: list[Signal], replayed: list[Signal], differ: int) -> None:
    """All signals are the same but for those of requests decided in two ways."""
    ids = [{one.id for one in made} for made in (live, replayed)]
    assert len(ids[0] ^ ids[1]) == differ
    assert len(ids[0]) == len(live)
    rules = [[one.id for one in made if one.model is None] for made in (live, replayed)]
    assert rules[0] == rules[1]
    assert len(rules[0]) > 50
