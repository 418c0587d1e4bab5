"""Live sessions with a model: clean where the scores agree, and where they do not, named so."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from diff_rig import Live, compare, live_session, settled
from live_models import INLINE, THREADED, model_tree, trade_bundle

from engine.core.models import Score
from replay.analysis.diff_result import Cause, DiffReport, Kind
from runtime.scoring import Scorer

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")


def assert_first(report: DiffReport, cause: Cause) -> None:
    assert report.first is not None, report.counts
    assert report.first.cause == cause, report.first


@pytest.mark.parametrize("inference", [INLINE, THREADED], ids=["inline", "threaded"])
def test_a_session_with_a_model_is_clean(tmp_path: Path, inference: dict[str, Any]) -> None:
    trade_bundle(tmp_path / "bundle")
    tree = model_tree(tmp_path, tmp_path / "bundle", inference=inference)
    live_session(tree, settled)
    report = compare(tmp_path, tree)
    assert report.differences == 0, report.first
    assert report.counts["signals"] > 100
    assert report.counts["checkpoints"] >= 1


async def be_late(live: Live) -> None:
    await settled(live)
    await live.fault("late")
    await settled(live)


def test_a_score_that_came_too_late_is_time(tmp_path: Path) -> None:
    trade_bundle(tmp_path / "bundle")
    tree = model_tree(tmp_path, tmp_path / "bundle", inference=THREADED, deadline="100ms")
    live_session(tree, be_late)
    report = compare(tmp_path, tree)
    assert_first(report, Cause.TIME)
    assert report.first is not None
    assert report.first.live["reason"] == "MODEL_LATE"


def test_another_bundle_is_the_model_score(tmp_path: Path) -> None:
    first = trade_bundle(tmp_path / "one")
    second = trade_bundle(tmp_path / "two", version="2")
    tree = model_tree(tmp_path, tmp_path / "one", inference=INLINE)
    live_session(tree, settled)
    other = [{**tree["models"][0], "bundle": tmp_path / "two"}]
    report = compare(tmp_path, tree | {"models": other})
    assert_first(report, Cause.MODEL)
    assert report.first is not None
    told = f"models.tiny.bundle: {first.identity!r} live, {second.identity!r} here"
    assert told in report.first.evidence
    assert set(report.causes) == {Cause.MODEL.value}


def _shifted(score: Score, shift: float) -> Score:
    down, flat, up = score.values
    return msgspec.structs.replace(score, values=(down - shift, flat, up + shift))


@contextmanager
def other_scores(monkeypatch: pytest.MonkeyPatch, after: int, *, shift: float) -> Iterator[None]:
    """Let every score after the first few be another one."""
    scores, given = Scorer.scores, [0]

    def shifted(scorer: Scorer, *of: Any) -> list[Score]:
        found = scores(scorer, *of)
        given[0] += len(found)
        return found if given[0] <= after else [_shifted(one, shift) for one in found]

    with monkeypatch.context() as patched:
        patched.setattr(Scorer, "scores", shifted)
        yield


def test_scores_of_a_device_that_went_wrong_are_the_model_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trade_bundle(tmp_path / "bundle")
    tree = model_tree(tmp_path, tmp_path / "bundle", inference=THREADED)
    with other_scores(monkeypatch, 150, shift=0.02):
        live_session(tree, settled)
    report = compare(tmp_path, tree)
    assert_first(report, Cause.MODEL)
    assert report.first is not None
    assert report.first.place > 100
    assert report.counts["signals"] > 50
    assert set(report.causes) == {Cause.MODEL.value}


def test_scores_within_the_tolerance_are_no_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trade_bundle(tmp_path / "bundle")
    tree = model_tree(tmp_path, tmp_path / "bundle", inference=THREADED)
    with other_scores(monkeypatch, 0, shift=5e-6):
        live_session(tree, settled)
    report = compare(tmp_path, tree)
    assert report.differences == 0, report.first


async def break_the_device(live: Live) -> None:
    await settled(live)
    desk = live.engine.ingest.pipeline.desk
    assert desk is not None
    live.engine._models.inference.fault("cpu", "raise")  # type: ignore[union-attr]
    await settled(live)


def test_a_score_that_was_wanting_is_the_model_score(tmp_path: Path) -> None:
    trade_bundle(tmp_path / "bundle")
    tree = model_tree(
        tmp_path, tmp_path / "bundle", inference=THREADED, placement=["onnxruntime@cpu"]
    )
    live_session(tree, break_the_device)
    report = compare(tmp_path, tree)
    assert_first(report, Cause.MODEL)
    assert report.first is not None
    assert report.first.kind is Kind.VERDICT
    assert report.first.live["reason"] in ("MODEL_FAILED", "MODEL_UNAVAILABLE")
