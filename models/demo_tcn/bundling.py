"""The demo model's bundle: what its manifest says, and its parity vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.core.models import Precision
from models.demo_tcn.evaluate import run_onnx
from models.demo_tcn.export import OPSET
from models.demo_tcn.outcomes import Examples
from models.demo_tcn.recipe import FEATURES, HORIZON_S, INTERVAL_NS, LABELS, NAME, NS, VERSION
from models.demo_tcn.recipe import WINDOW as WINDOW_ROWS
from runtime.bundle import Bundle
from runtime.bundle_writer import write_bundle
from runtime.manifest import Clock, Feature, Form, Manifest, Normalisation, Output, Parity

MODEL: Final = "model.onnx"
VECTORS: Final = "parity.npz"
N_VECTORS: Final = 128
TOLERANCE: Final = {Precision.FP32: 1e-5, Precision.FP16: 5e-3, Precision.INT8: 5e-2}
"""Largest difference of a probability from the reference's."""
_DIGITS: Final = 4


def write_demo_bundle(
    path: Path,
    model: bytes,
    metrics: dict[str, Any],
    training: dict[str, Any],
    move_bps: Sequence[float],
    test: Examples,
    *,
    version: str = VERSION,
) -> Bundle:
    """Write the bundle and open it.

    Args:
        path: Its directory.
        model: ONNX bytes.
        metrics: The manifest's, free.
        training: The manifest's, with ``data_sha256``.
        move_bps: Mean move of each class on the training span.
        test: Where the parity vectors are taken from, evenly.
        version: The manifest's.

    Raises:
        BundleError: the result is no valid bundle.
    """
    places = np.linspace(0, len(test.ends) - 1, N_VECTORS).astype(np.int64)
    inputs = test.windows(test.ends[places])
    draft = Manifest(
        format=1,
        name=NAME,
        version=version,
        window=WINDOW_ROWS,
        features=tuple(Feature(name=f.name, of=f.of, output=f.output) for f in FEATURES),
        clock=Clock(kind="time", interval=f"{INTERVAL_NS // NS}s"),
        normalisation=Normalisation(kind="in_graph"),
        output=Output(
            meaning="direction",
            labels=LABELS,
            range=(0.0, 1.0),
            sum=1.0,
            move_bps=tuple(round(move, _DIGITS) for move in move_bps),
        ),
        horizon=f"{HORIZON_S}s",
        training=training,
        metrics=metrics,
        parity=Parity(file=VECTORS, tolerance=TOLERANCE),
        forms=(
            Form(file=MODEL, format="onnx", precision=Precision.FP32, opset=OPSET, reference=True),
        ),
    )
    return write_bundle(path, draft, {MODEL: model}, inputs, run_onnx(model, inputs))
