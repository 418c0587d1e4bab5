"""From rows to a bundle on disk, small: the same bytes again, and a bundle that opens."""

from pathlib import Path

import demo_rows
import pytest

from models.demo_tcn.evaluate import differences, measure_baselines, measure_model
from models.demo_tcn.outcomes import choose, mean_moves
from models.demo_tcn.recipe import NAME

pytest.importorskip("torch", reason="training needs the extra train")
pytest.importorskip("onnx", reason="the graph is written with onnx")

from models.demo_tcn import network, train
from models.demo_tcn.bundling import write_demo_bundle

SMALL = network.Schedule(channels=4, epochs=2, batch=8)
TRAINING, LATER = (choose(demo_rows.random_rows(400, 3, seed)) for seed in (1, 2))


def test_training_again_gives_the_same_file() -> None:
    first = train.train_onnx(TRAINING, LATER, SMALL, 5)
    assert first == train.train_onnx(TRAINING, LATER, SMALL, 5)
    assert first != train.train_onnx(TRAINING, LATER, SMALL, 6)


def test_a_trained_model_becomes_a_bundle_that_opens(tmp_path: Path) -> None:
    model = train.train_onnx(TRAINING, LATER, SMALL, 5)
    history = {"data_sha256": "0" * 64}
    made = write_demo_bundle(tmp_path, model, {}, history, mean_moves(TRAINING), LATER)
    assert made.manifest.name == NAME
    assert made.reference.path.read_bytes() == model


def test_measures_of_noise_are_those_of_knowing_nothing() -> None:
    found = measure_model(train.train_onnx(TRAINING, LATER, SMALL, 5), LATER)
    prior = measure_baselines(TRAINING, LATER)["prior"]
    assert abs(found["log_loss"] - prior["log_loss"]) < 0.2
    assert prior["traded"] in (0.0, 1.0), "it says the same every time"


def test_differences_name_what_is_off_gone_or_new() -> None:
    committed = {"test": {"a": 1.0, "gone": 2.0}, "b": 3.0}
    assert differences({"test": {"a": 1.0, "gone": 2.0}, "b": 3.001}, committed, 0.01) == []
    found = differences({"test": {"a": 1.5}, "b": float("nan"), "c": 1.0}, committed, 0.01)
    assert found == [
        "c is new or gone",
        "b: found nan, committed 3.0",
        "test.gone is new or gone",
        "test.a: found 1.5, committed 1.0",
    ]
