"""Models in the pipeline, on real bundles and ONNX Runtime: alike however the stream is cut."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_cases import make_bundle
from pipeline_cases import RULES, make_pipeline, market_ticks, origins_of, run_in_bursts

from engine.composition import refit, resolve
from engine.config import Config
from engine.core.errors import BundleError, ConfigError
from engine.core.models import Failure, Score
from engine.core.records import TickKind
from engine.core.signals import Signal
from engine.model_desk import Pending
from latency.histogram import StageHistograms
from replay.digest import Collector
from runtime.asking import Answer, Ask
from runtime.bundle import Bundle
from runtime.manifest import Clock
from strategies.windows import SLACK

TICKS = market_ticks(6_000)
CUTS: list[list[int]] = [
    [],
    list(range(7, len(TICKS), 7)),
    list(range(64, len(TICKS), 64)),
    sorted(np.random.default_rng(3).integers(0, len(TICKS), 300).tolist()),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


def with_model(bundle: Path, **changes: Any) -> dict[str, Any]:
    """Rules beside a model's own strategy and a rule that the model must confirm."""
    scored = {"name": "scored", "model": "tiny", "params": {"min_probability": 0.0}}
    first = {**RULES["strategies"][0], "name": "asks", "confirm": "tiny", "confirm_min": 0.3}
    return {
        **RULES,
        "risk": {**RULES["risk"], "cost": {"check_edge": False}},
        "models": [{"name": "tiny", "bundle": str(bundle), "on": "1s", **changes}],
        "strategies": [*RULES["strategies"], scored, first],
    }


def kept(tree: dict[str, Any], cuts: list[int]) -> tuple[Collector, list[Signal]]:
    pipeline, _ = make_pipeline(tree)
    signals: list[Signal] = []
    pipeline.judge.sink = sink = Collector(signals.append)
    run_in_bursts(pipeline, TICKS, cuts)
    return sink, signals


def test_models_answer_alike_however_the_stream_is_cut(bundle: Path) -> None:
    tree = with_model(bundle)
    whole, *others = [kept(tree, cuts) for cuts in CUTS]
    assert whole[0].signals_by_strategy["scored"] > 5
    for sink, signals in others:
        assert sink.digest() == whole[0].digest()
        assert sink.refusals == whole[0].refusals
        assert signals == whole[1]


def test_a_scored_signal_says_who_scored_it_and_a_rules_does_not(bundle: Path) -> None:
    _, signals = kept(with_model(bundle), [])
    by_model = [one for one in signals if one.strategy in {"scored", "asks"}]
    assert {(one.backend, one.device, one.precision) for one in by_model} == {
        ("onnxruntime", "cpu", "fp32")
    }
    assert all((one.model or "").startswith("tiny@1-") for one in by_model)
    assert all(one.confidence >= 0.3 for one in by_model)
    assert {one.model for one in signals if one not in by_model} == {None}


def test_a_window_that_is_not_full_is_no_score_and_no_other_strategys_loss(bundle: Path) -> None:
    sink, _ = kept(with_model(bundle), [])
    alone, _ = kept(RULES, [])
    assert sink.refusals[Failure.NOT_READY.value] > 0
    assert alone.signals_by_strategy.items() <= sink.signals_by_strategy.items()


def test_after_a_gap_windows_fill_anew(bundle: Path) -> None:
    tree = with_model(bundle)
    ticks = TICKS.copy()
    middle = len(ticks) // 2
    ticks[middle]["kind"] = TickKind.GAP
    pipeline, _ = make_pipeline(tree)
    window = pipeline.kernel.plan.models[0].window
    signals: list[Signal] = []
    pipeline.judge.sink = Collector(signals.append)
    run_in_bursts(pipeline, ticks, [])
    gap_ns = int(ticks[middle]["ts_recv"])
    after = [one.ts_recv for one in signals if one.strategy == "scored" and one.ts_recv > gap_ns]
    assert min(after) > gap_ns + window * 1_000_000_000


class Later:
    """Answers nothing at once."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []

    def ask(self, asks: Sequence[Ask]) -> list[Answer | None]:
        self.asks.extend(asks)
        return [None] * len(asks)

    def histograms(self) -> dict[tuple[str, str], StageHistograms]:
        return {}


def sure(bundle: Path) -> Score:
    identity = Bundle.open(bundle).identity
    return Score((0.1, 0.1, 0.8), "tiny", identity, "test", "cpu", "fp32", 1, 5, 7)


def test_answers_that_come_later_become_the_signals_of_their_own_ticks(bundle: Path) -> None:
    pipeline, _ = make_pipeline(with_model(bundle))
    assert pipeline.desk is not None
    pipeline.desk.inference = later = Later()
    signals: list[Signal] = []
    pipeline.judge.sink = Collector(signals.append)
    run_in_bursts(pipeline, TICKS, CUTS[1])
    assert "scored" not in {one.strategy for one in signals}
    assert pipeline.desk.waiting == len(later.asks) > 0
    for ask in later.asks:
        pipeline.take_answer(Answer(ask.context, sure(bundle), None))
    assert pipeline.desk.waiting == 0
    scored = [one for one in signals if one.strategy == "scored"]
    assert scored
    assert {(one.side, one.queue_ns, one.service_ns) for one in scored} == {("BUY", 5, 7)}
    asked = {
        (one.context.candidate.ts_recv, one.context.origin[1])
        for one in later.asks
        if isinstance(one.context, Pending)
    }
    assert {(one.ts_recv, one.tick_seq) for one in scored} <= asked


def test_a_score_of_the_bundle_before_makes_no_signal_of_the_one_that_took_over(
    bundle: Path, tmp_path: Path
) -> None:
    tree = with_model(bundle)
    pipeline, sink = make_pipeline(tree)
    assert pipeline.desk is not None
    pipeline.desk.inference = later = Later()
    run_in_bursts(pipeline, TICKS[:3_000], [])
    signals, superseded = sink.signals, sink.refusals[Failure.SUPERSEDED.value]
    newer = make_bundle(tmp_path / "newer", version="2").path
    refit(resolve(Config.model_validate(with_model(newer))), pipeline)
    half = len(later.asks) // 2
    for ask in later.asks[:half]:
        pipeline.take_answer(Answer(ask.context, sure(bundle), None))
    assert (sink.signals, half > 5) == (signals, True)
    assert sink.refusals[Failure.SUPERSEDED.value] == superseded + half
    for ask in later.asks[half:]:
        pipeline.take_answer(Answer(ask.context, sure(newer), None))
    assert sink.signals > signals + 5
    assert sink.refusals[Failure.SUPERSEDED.value] == superseded + half


@pytest.mark.parametrize("failure", [f for f in Failure if f is not Failure.DISAGREES])
def test_without_a_score_there_is_a_reason_and_no_signal(bundle: Path, failure: Failure) -> None:
    pipeline, sink = make_pipeline(with_model(bundle))
    assert pipeline.desk is not None
    pipeline.desk.inference = later = Later()
    run_in_bursts(pipeline, TICKS[:3_000], [])
    signals, refused = sink.signals, sink.refusals[failure.value]
    for ask in later.asks:
        pipeline.take_answer(Answer(ask.context, None, failure))
    assert sink.signals == signals
    assert sink.refusals[failure.value] == refused + len(later.asks) > refused


def test_a_model_that_disagrees_refuses_the_rules_candidate(bundle: Path) -> None:
    tree = with_model(bundle)
    tree["strategies"][-1]["confirm_min"] = 0.99
    sink, signals = kept(tree, [])
    assert sink.refusals[Failure.DISAGREES.value] > 0
    assert "asks" not in {one.strategy for one in signals}


def test_another_bundle_gives_other_ids(bundle: Path, tmp_path: Path) -> None:
    tree = with_model(bundle)
    blueprint = resolve(Config.model_validate(tree))
    other = make_bundle(tmp_path / "other", version="2")
    pipeline, _ = make_pipeline(tree)
    before = list(pipeline.judge.strategies)
    changed = type(blueprint.models[0])(
        blueprint.models[0].config, other, blueprint.models[0].window
    )
    refit(type(blueprint)(**{**vars(blueprint), "models": (changed,)}), pipeline)
    differs = [
        a.parameters != b.parameters for a, b in zip(before, pipeline.judge.strategies, strict=True)
    ]
    assert differs == [facts.name in {"scored", "asks"} for facts in before]
    origins = origins_of(len(TICKS))
    pipeline.run_ticks(TICKS, origins, 0, len(TICKS))


def test_a_bundle_for_another_clock_is_refused(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "slow", clock=Clock(kind="time", interval="5s")).path
    tree = with_model(path)
    with pytest.raises(BundleError, match="clock: the bundle wants") as caught:
        resolve(Config.model_validate(tree))
    assert "as models.tiny.on says; add [[bars]] of such bars and name them" in str(caught.value)
    tree["bars"] = [*tree["bars"], {"name": "slow", "interval": "5s"}]
    with pytest.raises(BundleError, match=r'set models\.tiny\.on = "slow"'):
        resolve(Config.model_validate(tree))


def test_a_bundle_that_is_not_there_is_told_with_its_key_and_the_one_beside_it(
    bundle: Path,
) -> None:
    gone = bundle.with_name(f"{bundle.name}x")
    with pytest.raises(BundleError) as caught:
        resolve(Config.model_validate(with_model(gone)))
    told = str(caught.value)
    assert told.startswith(f"{gone}: there is no such directory")
    assert told.endswith(f"models.tiny.bundle names it; did you mean {bundle}?")


def test_a_damaged_bundle_is_told_with_its_key(bundle: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(bundle, tmp_path / "damaged"))
    (damaged / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"its SHA-256 is .*; models\.tiny\.bundle names it$"):
        resolve(Config.model_validate(with_model(damaged)))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"model": "nope"}, "strategies.scored.model"),
        ({"params": {"sure": 1}}, "strategies.scored"),
    ],
)
def test_what_is_wrong_with_a_models_strategy_is_told(
    bundle: Path, change: dict[str, Any], key: str
) -> None:
    tree = with_model(bundle)
    tree["strategies"][-2] = {**tree["strategies"][-2], **change}
    with pytest.raises(ConfigError) as caught:
        resolve(Config.model_validate(tree))
    assert caught.value.key.startswith(key)


def test_windows_that_would_take_too_much_memory_are_refused_and_told(bundle: Path) -> None:
    tree = with_model(bundle)
    window, features = resolve(Config.model_validate(tree)).models[0].bundle.shape[:2]
    needed = 4 * (window + SLACK) * features * 4
    for budget, told in ((needed, ""), (needed - 1, f"take {needed} bytes")):
        tree["inference"] = {"window_budget_bytes": budget}
        if not told:
            make_pipeline(tree)
            continue
        with pytest.raises(ConfigError, match=told) as caught:
            make_pipeline(tree)
        assert caught.value.key == "inference.window_budget_bytes"
        assert "model tiny" in str(caught.value)
        assert "engine.max_instruments" in str(caught.value)
