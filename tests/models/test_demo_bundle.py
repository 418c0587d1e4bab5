"""The committed bundle is what the recipe says, and as good as its manifest says."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from models.demo_tcn import recipe
from models.demo_tcn.dataset import digest_of, load_examples
from models.demo_tcn.evaluate import differences, measure_baselines, measure_model, run_onnx
from models.demo_tcn.outcomes import Examples, mean_moves
from models.demo_tcn.recipe import Span
from runtime.bundle import Bundle, check_replaces

PATH = Path(__file__).parents[2] / "models" / "demo-tcn"
CLOSE = 1e-4
"""Answers of two processors differ by rounding, which may carry a few of 69,000 over a bound."""
MAX_ONNX_BYTES = 300_000


@cache
def bundle() -> Bundle:
    return Bundle.open(PATH)


@cache
def examples(span: Span) -> Examples:
    return load_examples(span)


def test_committed_bundle_opens_and_is_small() -> None:
    reference = bundle().manifest.reference
    assert reference.opset == 17
    assert bundle().reference.path.stat().st_size < MAX_ONNX_BYTES
    assert bundle().manifest.output.labels == recipe.LABELS


def test_manifest_says_what_the_recipe_says() -> None:
    manifest = bundle().manifest
    assert [(f.name, f.of, f.output) for f in manifest.features] == list(
        map(tuple, recipe.FEATURES)
    )
    assert manifest.window == recipe.WINDOW
    assert manifest.horizon_ns == recipe.HORIZON_S * recipe.NS
    assert manifest.clock.interval_ns == recipe.INTERVAL_NS
    assert manifest.training["seed"] == recipe.TRAINING_SEED
    assert manifest.training["spans"]["test"] == recipe.TEST._asdict()


def test_the_second_bundle_takes_the_first_ones_place_and_is_another_network() -> None:
    second = Bundle.open(PATH.with_name("demo-tcn-b"))
    check_replaces(second, bundle().manifest)
    assert second.identity != bundle().identity
    assert second.manifest.training["data_sha256"] == bundle().manifest.training["data_sha256"]
    inputs = np.asarray(second.parity().inputs)
    apart = run_onnx(second.reference.path, inputs) - run_onnx(bundle().reference.path, inputs)
    assert 1e-3 < np.abs(apart).max() < 0.2
    for baseline in ("prior", "last_move", "logistic_last_row"):
        measured = second.manifest.metrics
        assert measured["test"]["log_loss"] < measured["test_baselines"][baseline]["log_loss"]


def test_parity_vectors_are_what_the_model_answers() -> None:
    vectors = bundle().parity()
    found = run_onnx(bundle().reference.path, np.asarray(vectors.inputs))
    assert np.abs(found - vectors.outputs).max() < 1e-6


def test_the_model_beats_every_trivial_baseline_on_the_test_span() -> None:
    measured = bundle().manifest.metrics
    for baseline in measured["test_baselines"].values():
        assert measured["test"]["log_loss"] < baseline["log_loss"]


def test_without_the_planted_effect_there_is_nothing_to_find() -> None:
    measured = bundle().manifest.metrics["no_effect_market"]
    assert abs(measured["auc_up"] - 0.5) < 0.02
    assert abs(measured["traded_move_bps"]) < 4 * measured["traded_move_error_bps"]


@pytest.mark.slow
def test_committed_measures_come_out_of_the_regenerated_test_span() -> None:
    measured = bundle().manifest.metrics
    found = measure_model(bundle().reference.path, examples(recipe.TEST))
    assert differences(found, measured["test"], CLOSE) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "span"), [("demo_market", recipe.DEMO), ("no_effect_market", recipe.NO_EFFECT)]
)
def test_committed_measures_of_other_markets_come_out_again(name: str, span: Span) -> None:
    found = measure_model(bundle().reference.path, examples(span))
    assert differences(found, bundle().manifest.metrics[name], CLOSE) == []


@pytest.mark.slow
def test_training_data_baselines_and_mean_moves_come_out_again() -> None:
    training, manifest = examples(recipe.TRAIN), bundle().manifest
    assert digest_of(training) == manifest.training["data_sha256"]
    assert mean_moves(training) == pytest.approx(manifest.output.move_bps, abs=1e-4)
    found = measure_baselines(training, examples(recipe.TEST))
    assert differences(found, manifest.metrics["test_baselines"], CLOSE) == []
