"""Bad models against a live engine: told, counted, and no rule's signal is lost or changed.

That rules are unaffected, no tick is lost and the loop never stalls is checked by ``run_session``
after every scene. Models misbehave by themselves, on ONNX Runtime, wherever a library can be made
to; else the fault switch of their device has them do it.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_cases import edit_manifest
from live_cases import wait_until
from live_models import (
    INLINE,
    THREADED,
    Session,
    events,
    model_tree,
    run_session,
    scored_signals,
    sure_bundle,
    trade_bundle,
)
from tiny_models import (
    MLP_SHAPE,
    make_eat_above,
    make_eat_by_row,
    make_mlp,
    make_nan_above,
    make_raise_above,
    make_slow_above,
)

from engine.composition import resolve
from engine.config import Config
from engine.core.errors import BundleError
from engine.core.models import Failure, ModelShape
from runtime.bundle import Bundle

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

BOTH_WAYS = pytest.mark.parametrize("shared", [INLINE, THREADED], ids=["inline", "threaded"])
PRICES = 50.0
"""Below every price of the market, and so below a feature of every window; above all of the parity
vectors."""
ALONE = ["onnxruntime@cpu"]
"""Other libraries on the processor answer where ONNX Runtime fails."""
MANIFEST_KEYS = (
    "format", "name", "version", "window", "features", "clock", "normalisation", "output",
    "horizon", "training", "metrics", "parity", "forms",
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return trade_bundle(tmp_path_factory.mktemp("bundles") / "good")


def flip_byte(name: str, path: Path) -> None:
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(bytes(data))


def cut_file(name: str, path: Path) -> None:
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: len(data) // 2])


def remove_file(name: str, path: Path) -> None:
    (path / name).unlink()


def remove_key(key: str, path: Path) -> None:
    edit_manifest(path, lambda tree: tree.pop(key))


def widen(path: Path) -> None:
    edit_manifest(path, lambda tree: tree.update(window=MLP_SHAPE.window + 1))


def damaged(parent: Path) -> list[tuple[Path, str]]:
    """Make bundles that are damaged on disk, each with what has to be told of it."""
    made: list[tuple[Path, str]] = []

    def one(name: str, told: str, spoil: Callable[[Path], object]) -> None:
        path = trade_bundle(parent / name, version="2").path
        spoil(path)
        made.append((path, told))

    for file in ("manifest.json", "model.onnx", "parity.npz"):
        one(f"flipped-{file}", file, partial(flip_byte, file))
        one(f"cut-{file}", file, partial(cut_file, file))
        one(f"no-{file}", file, partial(remove_file, file))
    for key in MANIFEST_KEYS:
        one(f"no-key-{key}", key, partial(remove_key, key))
    one("other-shape", "window", widen)
    made.append((parent / "nowhere", "there is no such directory"))
    return made


def unfit(parent: Path) -> list[tuple[Path, str]]:
    """Make bundles that are whole and do not fit, or do not work, each with what has to be told."""
    other_order = trade_bundle(parent / "order").path
    edit_manifest(other_order, lambda tree: tree["features"].reverse())
    wide = ModelShape(MLP_SHAPE.window + 1, MLP_SHAPE.features, MLP_SHAPE.outputs)
    liar = sure_bundle(parent / "liar", make_mlp(parent / "liar.onnx"))
    negative = -PRICES
    return [
        (other_order, "features[0]"),
        (trade_bundle(parent / "window", shape=wide).path, "window: the bundle wants 9 rows"),
        (liar.path, "parity"),
        (sure_bundle(parent / "nan", make_nan_above(parent / "nan.onnx", negative)).path, "parity"),
        (
            sure_bundle(parent / "raise", make_raise_above(parent / "raise.onnx", negative)).path,
            "indices element out of data bounds",
        ),
        (
            sure_bundle(parent / "eat", make_eat_above(parent / "eat.onnx", negative, 1e12)).path,
            "Failed to allocate memory",
        ),
    ]


@pytest.mark.parametrize("made", [damaged, unfit], ids=["damaged", "unfit"])
def test_a_swap_to_a_bad_bundle_is_refused_with_the_reason_and_the_old_one_serves_on(
    tmp_path: Path, bundle: Bundle, made: Callable[[Path], list[tuple[Path, str]]]
) -> None:
    (tmp_path / "bad").mkdir()
    bad = made(tmp_path / "bad")

    async def scene(live: Session) -> None:
        for path, told in bad:
            answer = await live.operate("model_swap", "tiny", str(path))
            assert told in answer["problem"], (path.name, answer)
            scores = live.model["scores"]
            await live.send(80)
            await live.settled()
            assert live.model["scores"] > scores
        assert (live.model["bundle"], live.model["swaps"]) == (bundle.identity, 0)
        assert live.engine.board.health().good

    tree = model_tree(tmp_path, bundle.path, placement=ALONE)
    run_session(tree, scene)
    assert {one.model for one in scored_signals(tree["journal"]["path"])} == {bundle.identity}


def test_an_engine_does_not_start_with_a_damaged_bundle_and_names_what_is_wrong(
    tmp_path: Path,
) -> None:
    for path, told in damaged(tmp_path):
        with pytest.raises(BundleError) as caught:
            resolve(Config.model_validate(model_tree(tmp_path, path)))
        assert told in str(caught.value)


def test_a_model_that_fails_its_parity_at_start_is_silent_and_told(tmp_path: Path) -> None:
    liar = sure_bundle(tmp_path / "liar", make_mlp(tmp_path / "liar.onnx"))

    async def scene(live: Session) -> None:
        await live.send(200)
        (problem,) = live.engine.board.problems()
        assert problem.startswith("model tiny: no device left, strategies scored, asks are silent")
        assert "parity" in problem
        assert live.failures.keys() == {Failure.UNAVAILABLE, Failure.NOT_READY}

    run_session(tree := model_tree(tmp_path, liar.path), scene)
    assert not scored_signals(tree["journal"]["path"])


@BOTH_WAYS
def test_a_window_with_nan_gives_no_score_and_blames_no_device(
    tmp_path: Path, bundle: Bundle, shared: dict[str, Any]
) -> None:
    async def scene(live: Session) -> None:
        rings = live.engine.ingest.pipeline.kernel.rings
        one_instrument = len(rings.rows) // live.engine.config.engine.max_instruments
        await live.settled()
        for _ in range(15):
            rings.rows[:one_instrument] = np.nan
            await live.send(40)
            await live.settled()
        assert live.failures[Failure.INVALID] > 20
        assert live.serves == "onnxruntime@cpu"
        assert live.engine.board.health().good

    tree = model_tree(tmp_path, bundle.path, inference=shared)
    run_session(tree, scene)
    journal = tree["journal"]["path"]
    assert len(events(journal, "model_device")) == 1
    assert {one.instrument for one in scored_signals(journal)} == {"S0.X", "S1.X"}


def harmful(kind: str, path: Path) -> Path:
    """Write a model that does harm on every window of the live market, and on none of parity."""
    if kind == "nan":
        return make_nan_above(path, PRICES)
    if kind == "raise":
        return make_raise_above(path, PRICES)
    return make_eat_above(path, PRICES, 1e12)


@BOTH_WAYS
@pytest.mark.parametrize(
    ("kind", "cause", "told"),
    [
        ("nan", "DEVICE_INVALID", "output nan"),
        ("raise", "DEVICE_FAILED", "indices element out of data bounds"),
        ("eat", "DEVICE_FAILED", "Failed to allocate memory"),
    ],
)
def test_a_model_that_does_harm_on_live_windows_is_left_with_the_reason(
    tmp_path: Path, shared: dict[str, Any], kind: str, cause: str, told: str
) -> None:
    model = sure_bundle(tmp_path / "harmful", harmful(kind, tmp_path / "harmful.onnx"))

    async def scene(live: Session) -> None:
        await live.send_until(lambda: live.serves == "@")
        await live.send(200)
        assert any("model tiny: no device left" in one for one in live.engine.board.problems())
        assert live.model["scores"] == 0

    # A probe passes, for it asks about a parity vector: the hold keeps it away meanwhile.
    tree = model_tree(tmp_path, model.path, inference={**shared, "probe_interval": "30s"})
    run_session(tree, scene)
    journal = tree["journal"]["path"]
    _, left = events(journal, "model_device")
    assert (left["before"], left["after"], left["cause"]) == ("cpu", "", cause)
    assert told in left["detail"]
    assert not scored_signals(journal)


@BOTH_WAYS
def test_answers_that_come_after_their_deadline_are_nobodys(
    tmp_path: Path, bundle: Bundle, shared: dict[str, Any]
) -> None:
    async def scene(live: Session) -> None:
        await live.send(200)
        await live.settled()
        await live.fault("cpu", "late")
        scores = live.model["scores"]
        await live.send(400)
        await live.settled()
        assert live.model["scores"] == scores
        late = live.failures.get(Failure.LATE, 0) + live.failures.get(Failure.REFUSED, 0)
        assert late > 100
        assert live.failures[Failure.LATE] > 0
        assert live.serves == "onnxruntime@cpu", "late for some is better than silent for all"
        await live.fault("cpu")
        await live.send_until(lambda: bool(live.model["scores"] > scores + 50))

    tree = model_tree(tmp_path, bundle.path, deadline="100ms", inference=shared)
    run_session(tree, scene)


def test_a_model_that_becomes_slow_stalls_the_loop_once_at_most(tmp_path: Path) -> None:
    model = sure_bundle(tmp_path / "slow", make_slow_above(tmp_path / "slow.onnx", PRICES, 400))

    async def scene(live: Session) -> None:
        await live.send(600)
        await live.settled()
        counts = live.told["serving"]["devices"]["cpu"]["models"]["tiny"]
        assert (counts["inline_batches"], counts["slow_inline"]) == (1, 1)
        assert counts["batches"] > 5

    run_session(model_tree(tmp_path, model.path, inference={"inline_below": "1ms"}), scene)


@pytest.mark.slow
def test_a_library_that_hangs_is_left_and_returned_to_once_it_answers(tmp_path: Path) -> None:
    model = sure_bundle(tmp_path / "hang", make_slow_above(tmp_path / "hang.onnx", PRICES, 10_000))

    async def scene(live: Session) -> None:
        await live.send_until(lambda: live.serves == "@")
        assert live.told["serving"]["devices"]["cpu"]["lost"]
        refused = live.failures.get(Failure.UNAVAILABLE, 0)
        await live.send(200)
        assert live.failures[Failure.UNAVAILABLE] > refused + 50
        await wait_until(lambda: not live.told["serving"]["devices"]["cpu"]["lost"])
        await wait_until(lambda: live.serves == "onnxruntime@cpu")

    shared = {**THREADED, "timeout": "200ms"}
    run_session(tree := model_tree(tmp_path, model.path, inference=shared), scene)
    journal = tree["journal"]["path"]
    health = [one["health"] for one in events(journal, "model_health")]
    assert health[:2] == ["lost", "returned"]
    causes = [one["cause"] for one in events(journal, "model_device")]
    assert causes[:3] == ["DEVICE_STARTED", "DEVICE_LOST", "DEVICE_RECOVERED"]


@pytest.mark.slow
def test_a_device_that_hangs_ten_seconds_costs_its_model_and_nobody_else(
    tmp_path: Path, bundle: Bundle
) -> None:
    async def scene(live: Session) -> None:
        await live.send(200)
        await live.fault("cpu", "hang")
        await live.send_until(lambda: live.serves == "@")
        while live.told["serving"]["devices"]["cpu"]["lost"]:
            await live.send(40)
            await asyncio.sleep(0.02)
        await live.fault("cpu")
        await live.send_until(lambda: live.serves == "onnxruntime@cpu")
        await live.send(400)
        await live.settled()

    run_session(tree := model_tree(tmp_path, bundle.path, inference=THREADED), scene)
    assert scored_signals(tree["journal"]["path"])


def test_a_model_that_takes_more_memory_than_allowed_takes_nobodys_place(
    tmp_path: Path, bundle: Bundle
) -> None:
    eater = sure_bundle(tmp_path / "eater", make_eat_by_row(tmp_path / "eater.onnx", 2_000_000))

    async def scene(live: Session) -> None:
        await live.send(200)
        answer = await live.operate("model_swap", "tiny", str(eater.path))
        assert "inference.memory_budget_bytes" in answer["problem"]
        assert live.model["bundle"] == bundle.identity
        await live.send(200)
        assert live.engine.board.health().good

    budget = {"memory_budget_bytes": 32 << 20}
    tree = model_tree(tmp_path, bundle.path, placement=ALONE, max_batch=16, inference=budget)
    run_session(tree, scene)
