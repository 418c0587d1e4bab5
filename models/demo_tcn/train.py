"""Train the demo's model and write its bundle: ``python -m models.demo_tcn.train``.

With ``--check`` nothing is written: the model is trained again and its measures are compared with
those of the bundle that is there. Another seed gives another network of the same kind, as the
demo's second bundle, which takes the first one's place while the engine runs.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from models.demo_tcn import network, recipe
from models.demo_tcn.bundling import write_demo_bundle
from models.demo_tcn.dataset import digest_of, load_examples
from models.demo_tcn.evaluate import differences, measure_baselines, measure_model
from models.demo_tcn.export import fold_normalisation, to_onnx
from models.demo_tcn.outcomes import Examples, mean_moves
from models.demo_tcn.stretches import cut
from runtime.manifest import MANIFEST, read_manifest

BUNDLE: Final = Path(__file__).parents[1] / recipe.NAME
TOLERANCE: Final = 0.002
"""How far a measure may be off on another kind of processor, whose arithmetic rounds otherwise and
so trains a slightly different network."""


class Spans(NamedTuple):
    """The examples of every span."""

    training: Examples
    validation: Examples
    test: Examples
    demo: Examples
    no_effect: Examples


def train_onnx(
    training: Examples, validation: Examples, schedule: network.Schedule, seed: int
) -> bytes:
    """Train a network and return its ONNX bytes; the same arguments give the same ones."""
    seen = training.rows.features[training.ends].astype(np.float64)
    mean, scale = seen.mean(axis=0), 1.0 / seen.std(axis=0)
    network.set_deterministic(seed)
    made = network.make_network(len(recipe.FEATURES), recipe.LEVELS, 3, schedule)
    network.train(made, cut(training, mean, scale), cut(validation, mean, scale), schedule, _report)
    layers = fold_normalisation(network.layers_of(made), mean, scale)
    return to_onnx(layers, recipe.WINDOW, recipe.NAME)


def measure_all(model: bytes, spans: Spans) -> dict[str, Any]:
    """Return what goes into the manifest: the model's measures, and the baselines' on the test."""
    return {
        "test": measure_model(model, spans.test),
        "test_baselines": measure_baselines(spans.training, spans.test),
        "validation": measure_model(model, spans.validation),
        "training": measure_model(model, spans.training),
        "demo_market": measure_model(model, spans.demo),
        "no_effect_market": measure_model(model, spans.no_effect),
    }


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit status, 1 where a check says no."""
    parser = argparse.ArgumentParser(prog="python -m models.demo_tcn.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=BUNDLE, help="the bundle's directory")
    parser.add_argument(
        "--seed", type=int, default=recipe.TRAINING_SEED, help="of weights and order of training"
    )
    parser.add_argument("--revision", default=recipe.VERSION, help="the bundle's version")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    asked = parser.parse_args(arguments)
    _say("simulating five spans of the market")
    parts = (recipe.TRAIN, recipe.VALIDATION, recipe.TEST, recipe.DEMO, recipe.NO_EFFECT)
    spans = Spans(*map(load_examples, parts))
    _say(f"windows: {', '.join(f'{len(span.ends):,}' for span in spans)}")
    schedule = network.Schedule()
    model = train_onnx(spans.training, spans.validation, schedule, asked.seed)
    metrics = measure_all(model, spans)
    for name, value in metrics.items():
        _say(f"{name}: {value}")
    if asked.check:
        return _compare(metrics, asked.out)
    bundle = write_demo_bundle(
        asked.out,
        model,
        metrics,
        _history(spans, schedule, asked.seed),
        mean_moves(spans.training),
        spans.test,
        version=asked.revision,
    )
    _say(f"wrote {bundle.identity} to {bundle.path}, {len(model):,} bytes of ONNX")
    return 0


def _compare(metrics: dict[str, Any], bundle: Path) -> int:
    found = differences(metrics, read_manifest(bundle / MANIFEST).metrics, TOLERANCE)
    _say("\n".join(found) or f"every measure is within {TOLERANCE} of the committed one")
    return 1 if found else 0


def _history(spans: Spans, schedule: network.Schedule, seed: int) -> dict[str, Any]:
    return {
        "data_sha256": digest_of(spans.training),
        "data": "the market simulator, configuration as in models/demo_tcn/recipe.py",
        "script": f"python -m models.demo_tcn.train --seed {seed}",
        "seed": seed,
        "torch": torch.__version__.split("+")[0],
        "schedule": schedule._asdict(),
        "spans": {
            name: getattr(recipe, name.upper())._asdict()
            for name in ("train", "validation", "test", "demo", "no_effect")
        },
        "purge": f"{recipe.PURGE_S}s",
        "windows": dict(zip(Spans._fields, (len(span.ends) for span in spans), strict=True)),
        "band_bps": recipe.BAND_BPS,
    }


def _report(epoch: int, training: float, validation: float) -> None:
    _say(f"epoch {epoch + 1}: training loss {training:.4f}, validation loss {validation:.4f}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
