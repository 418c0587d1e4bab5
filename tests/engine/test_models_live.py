"""A live engine with a model: swaps and broken devices cost no tick, and are told."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from live_cases import read_health
from live_models import (
    BY_MODEL,
    INLINE,
    THREADED,
    Session,
    events,
    model_tree,
    run_session,
    scored_signals,
    trade_bundle,
)

from engine.composition import resolve
from engine.config import Config
from engine.core.models import Failure
from engine.core.signals import Signal
from replay.player import Options, play
from runtime.bundle import Bundle

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

BOTH_WAYS = pytest.mark.parametrize("shared", [INLINE, THREADED], ids=["inline", "threaded"])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return trade_bundle(tmp_path_factory.mktemp("bundles") / "old")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return trade_bundle(tmp_path_factory.mktemp("bundles") / "new", version="2")


@BOTH_WAYS
def test_a_model_gives_signals_beside_the_rules(
    tmp_path: Path, bundle: Bundle, shared: dict[str, str]
) -> None:
    async def scene(live: Session) -> None:
        await live.send(1_000)
        await live.settled()
        assert live.told["asked"] > 400
        assert live.engine.board.health().good

    run_session(tree := model_tree(tmp_path, bundle.path, inference=shared), scene)
    made = scored_signals(tree["journal"]["path"])
    assert min(Counter(one.strategy for one in made)[name] for name in BY_MODEL) > 5
    assert {(one.model, one.backend, one.device) for one in made} == {
        (bundle.identity, "onnxruntime", "cpu")
    }


def replayed_ids(log: Path, tree: dict[str, Any]) -> set[str]:
    kept: list[Signal] = []
    play([log], resolve(Config.model_validate(tree)), Options(keep=kept.append))
    return {one.id for one in kept}


@BOTH_WAYS
def test_a_swap_while_ticks_flow_loses_none_and_the_signals_change_model(
    tmp_path: Path, bundle: Bundle, newer: Bundle, shared: dict[str, str]
) -> None:
    async def scene(live: Session) -> None:
        await live.send(600)
        await live.command("model_swap", "tiny", str(newer.path))
        await live.send_until(lambda: bool(live.model["bundle"] == newer.identity))
        await live.send(600)
        await live.settled()
        assert live.model["swaps"] == 1
        assert live.engine.board.health().good

    run_session(tree := model_tree(tmp_path, bundle.path, inference=shared), scene)
    journal = tree["journal"]["path"]
    made = scored_signals(journal)
    turn = [one.model for one in made].index(newer.identity)
    (log,) = (tmp_path / "recordings").iterdir()
    for serving, part in ((bundle, made[:turn]), (newer, made[turn:])):
        assert {one.model for one in part} == {serving.identity}
        assert {one.id for one in part} <= replayed_ids(log, model_tree(tmp_path, serving.path))
        assert len(part) > 20
    (swap,) = events(journal, "model_swap")
    assert (swap["model"], swap["before"], swap["after"]) == (
        "tiny", bundle.identity, newer.identity,
    )  # fmt: skip
    (command,) = events(journal, "operator_command")
    assert (command["command"], command["value"]) == ("model_swap", str(newer.path))


def test_a_device_is_mended_while_a_swap_that_waits_for_it_goes_on(
    tmp_path: Path, bundle: Bundle, newer: Bundle
) -> None:
    async def scene(live: Session) -> None:
        await live.fault("cpu", "late")
        await live.command("model_swap", "tiny", str(newer.path))
        await live.send(80)
        busy = await live.operate("model_swap", "tiny", str(newer.path))
        assert "another command is at work" in busy["problem"]
        await live.fault("cpu")
        swapped = await live.operated()
        assert (swapped["problem"], swapped["result"]["after"]) == ("", newer.identity)
        await live.send_until(lambda: live.serves == "onnxruntime@cpu")

    run_session(model_tree(tmp_path, bundle.path, placement=["onnxruntime@cpu"]), scene)


def test_faults_are_played_only_where_they_are_allowed_and_on_devices_in_use(
    tmp_path: Path, bundle: Bundle
) -> None:
    async def refused(live: Session) -> None:
        answer = await live.operate("device_fault", "cpu", "raise")
        assert "inference.allow_faults" in answer["problem"]
        await live.send(100)
        assert live.engine.board.health().good

    async def unknown(live: Session) -> None:
        answer = await live.operate("device_fault", "dla:0", "raise")
        assert "devices in use are: cpu, onnxruntime@cpu" in answer["problem"]
        answer = await live.operate("device_fault", "cpu", "explode")
        assert "faults are: raise, hang, late, nan" in answer["problem"]

    shared = {"allow_faults": False}
    run_session(model_tree(tmp_path, bundle.path, inference=shared), refused)
    (tmp_path / "allowed").mkdir()
    run_session(model_tree(tmp_path / "allowed", bundle.path), unknown)


@pytest.mark.parametrize("kind", ["raise", "nan", "hang"])
def test_a_broken_device_is_left_for_the_next_and_returned_to(
    tmp_path: Path, bundle: Bundle, kind: str
) -> None:
    pytest.importorskip("openvino", reason="the second device of this machine")

    async def scene(live: Session) -> None:
        await live.send_until(lambda: live.serves == "openvino@cpu")
        await live.send(200)
        await live.fault("openvino@cpu", kind)
        await live.send_until(lambda: live.serves == "onnxruntime@cpu")
        await live.send(400)
        await live.settled()
        assert live.engine.board.health().good
        await live.fault("openvino@cpu")
        await live.send_until(lambda: live.serves == "openvino@cpu")
        await live.send(400)

    placement = ["openvino@cpu", "cpu"]
    tree = model_tree(tmp_path, bundle.path, placement=placement, inference=THREADED)
    run_session(tree, scene)
    journal = tree["journal"]["path"]
    told = [(one["before"], one["after"], one["cause"]) for one in events(journal, "model_device")]
    cause = {"raise": "DEVICE_FAILED", "nan": "DEVICE_INVALID", "hang": "DEVICE_LOST"}[kind]
    assert told == [
        ("", "openvino@cpu", "DEVICE_STARTED"),
        ("openvino@cpu", "cpu", cause),
        ("cpu", "openvino@cpu", "DEVICE_RECOVERED"),
    ]
    seen = {"raise": "broken on purpose", "nan": "output nan", "hang": "no answer within 0.4 s"}
    assert seen[kind] in events(journal, "model_device")[1]["detail"]
    assert [(one["device"], one["fault"]) for one in events(journal, "model_fault")] == [
        ("openvino@cpu", kind),
        ("openvino@cpu", ""),
    ]
    by = [one.backend for one in scored_signals(journal)]
    assert [by[0], by[-1]] == ["openvino", "openvino"]
    assert by.count("onnxruntime") > 5


def test_without_a_device_models_are_silent_rules_go_on_and_health_says_so(
    tmp_path: Path, bundle: Bundle
) -> None:
    problem = "model tiny: no device left, strategies scored, asks are silent"

    async def scene(live: Session) -> None:
        port = live.engine.stream.port
        await live.send(400)
        assert (await read_health(port))[0] == 200
        await live.fault("cpu", "raise")
        await live.send_until(lambda: live.serves == "@")
        await live.settled()
        refused = live.failures.get(Failure.UNAVAILABLE, 0)
        signals = live.engine.ingest.pipeline.signals
        scores = live.model["scores"]
        await live.send(400)
        assert live.failures[Failure.UNAVAILABLE] > refused + 150
        assert live.model["scores"] == scores
        assert live.engine.ingest.pipeline.signals > signals
        status, health = await read_health(port)
        assert status == 503
        assert any(one.startswith(problem) for one in health["problems"]), health
        assert any(one.startswith(problem) for one in live.engine.board.status()["problems"])
        await live.fault("cpu")
        await live.send_until(lambda: live.serves == "onnxruntime@cpu")
        await live.send(400)
        assert (await read_health(port))[0] == 200

    run_session(tree := model_tree(tmp_path, bundle.path), scene)
    journal = tree["journal"]["path"]
    told = [(one["before"], one["after"], one["cause"]) for one in events(journal, "model_device")]
    assert told == [
        ("", "cpu", "DEVICE_STARTED"),
        ("cpu", "", "DEVICE_FAILED"),
        ("", "cpu", "DEVICE_RECOVERED"),
    ]
