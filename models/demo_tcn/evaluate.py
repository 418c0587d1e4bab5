"""The model's measures on a span, from its ONNX file, beside those of the baselines; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.demo_tcn.baselines import LastMove, Logistic, Prior
from models.demo_tcn.metrics import Floats, describe
from models.demo_tcn.outcomes import Examples, Floats32, Integers, classify
from models.demo_tcn.recipe import MIN_PROBABILITY

Measures = dict[str, float]

_BATCH: Final = 4096
_DIGITS: Final = 6
_WINDOW_STEP: Final = 4
"""The regression on whole windows learns from every fourth: their neighbours say the same."""


def run_onnx(model: bytes | Path, windows: Floats32) -> Floats32:
    """Return the model's answers, float32 (N, outputs), by ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["probability"], {"window": windows[at : at + _BATCH]})[0]
        for at in range(0, len(windows), _BATCH)
    ]
    return np.concatenate(parts)


def measure_model(model: bytes | Path, examples: Examples) -> Measures:
    """Return what ``metrics.describe`` says of the model on a span."""
    answers = run_onnx(model, examples.windows(examples.ends))
    return measure(answers.astype(np.float64), examples)


def measure_baselines(training: Examples, examples: Examples) -> dict[str, Measures]:
    """Return the same of each baseline, learned from one span and measured on another."""
    learned = training.classes[training.ends]
    prior = Prior(learned)
    last = LastMove(_before(training), learned)
    row = Logistic(_rows(training), learned)
    some = training.ends[::_WINDOW_STEP]
    window = Logistic(_flat_windows(training, some), training.classes[some])
    return {
        "prior": measure(prior.probability(len(examples.ends)), examples),
        "last_move": measure(last.probability(_before(examples)), examples),
        "logistic_last_row": measure(row.probability(_rows(examples)), examples),
        "logistic_window": measure(
            window.probability(_flat_windows(examples, examples.ends)), examples
        ),
    }


def measure(probability: Floats, examples: Examples) -> Measures:
    """Return what ``metrics.describe`` says of forecasts, one for each of ``examples.ends``."""
    ends = examples.ends
    found = describe(
        probability,
        examples.classes[ends],
        examples.move_bps[ends],
        examples.minutes(),
        MIN_PROBABILITY,
    )
    return {name: round(value, _DIGITS) for name, value in found.items()}


def differences(
    found: Mapping[str, Any], committed: Mapping[str, Any], tolerance: float
) -> list[str]:
    """Return where measures differ by more than a tolerance, each as a line; nested by name."""
    lines = [f"{name} is new or gone" for name in sorted(found.keys() ^ committed.keys())]
    for name in sorted(found.keys() & committed.keys()):
        mine, theirs = found[name], committed[name]
        if isinstance(mine, Mapping):
            inner = differences(mine, theirs, tolerance)
            lines += [f"{name}.{line}" for line in inner]
        elif not abs(mine - theirs) <= tolerance:
            lines.append(f"{name}: found {mine}, committed {theirs}")
    return lines


def _before(examples: Examples) -> Integers:
    return classify(examples.before_bps[examples.ends])


def _flat_windows(examples: Examples, ends: Integers) -> Floats:
    return examples.windows(ends).reshape(len(ends), -1).astype(np.float64)


def _rows(examples: Examples) -> Floats:
    return examples.rows.features[examples.ends].astype(np.float64)
