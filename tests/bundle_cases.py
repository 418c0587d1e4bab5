"""Small whole bundles, and ways to spoil them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from tiny_models import MLP_SHAPE, make_mlp, random_windows, reference_outputs

from engine.core.models import ModelShape, Precision
from runtime.bundle import Bundle
from runtime.bundle_writer import write_bundle
from runtime.manifest import Clock, Feature, Form, Manifest, Normalisation, Output, Parity

USES = ("roc(length=1)", "rsi(length=14)", "ema(length=20)", "atr(length=14)")
LABELS = ("down", "flat", "up")


def make_draft(shape: ModelShape = MLP_SHAPE, **changes: Any) -> Manifest:
    """Return a manifest without hashes."""
    features = [
        Feature(name=f"f{index}", of=USES[index % len(USES)]) for index in range(shape.features)
    ]
    draft = Manifest(
        format=1,
        name="tiny",
        version="1",
        window=shape.window,
        features=tuple(features),
        clock=Clock(kind="time", interval="1s"),
        normalisation=Normalisation(kind="in_graph"),
        output=Output(meaning="direction", labels=LABELS, range=(0, 1), sum=1, move_bps=(-2, 0, 2)),
        horizon="10s",
        training={"data_sha256": "ab" * 32, "seed": 7},
        metrics={},
        parity=Parity(file="parity.npz", tolerance={Precision.FP32: 1e-5, Precision.FP16: 5e-3}),
        forms=(
            Form(
                file="model.onnx",
                format="onnx",
                precision=Precision.FP32,
                opset=17,
                reference=True,
            ),
        ),
    )
    return msgspec.structs.replace(draft, **changes)


def make_bundle(
    path: Path, shape: ModelShape = MLP_SHAPE, rows: int = 20, **changes: Any
) -> Bundle:
    """Write and open a bundle of a small MLP."""
    model = make_mlp(path.parent / f"{path.name}-source" / "model.onnx", shape)
    inputs = random_windows(shape, rows)
    outputs = reference_outputs(model, inputs)
    return write_bundle(path, make_draft(shape, **changes), {"model.onnx": model}, inputs, outputs)


def edit_manifest(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest in place, as a user with an editor would."""
    file = path / "manifest.json"
    tree = json.loads(file.read_bytes())
    edit(tree)
    file.write_text(json.dumps(tree), encoding="utf-8")
