"""Whether a form of a model answers as the reference did: run the bundle's vectors and compare."""

from typing import NamedTuple

import numpy as np

from engine.core.errors import DeviceError
from engine.core.models import Backend, Floats, LoadedModel, LoadOptions, ModelFile
from runtime.bundle import Bundle
from runtime.prepared import fallback_of


class ParityReport(NamedTuple):
    """How far answers are from those expected; absolute differences, over finite answers."""

    passed: bool
    rows: int
    max_abs: float
    rms: float
    tolerance: float
    worst_row: int
    """The row of the largest difference or, before that, the first that is not finite."""
    not_finite: int
    """Answers that are NaN or infinite, or whose expectation is; one fails the comparison."""

    def __str__(self) -> str:
        verdict = "within" if self.passed else "NOT within"
        text = f"{self.max_abs:.2g} at most, {verdict} {self.tolerance:g}, over {self.rows} rows"
        return f"{text}, {self.not_finite} not finite" if self.not_finite else text


def compare(outputs: Floats, expected: Floats, tolerance: float) -> ParityReport:
    """Compare answers with what was expected.

    Args:
        outputs: Shape (N, O).
        expected: The same shape.
        tolerance: Largest absolute difference that passes.

    Raises:
        DeviceError: the answers have another shape, which is the device's fault.
    """
    if outputs.shape != expected.shape or not outputs.size:
        problem = f"its answers have the shape {outputs.shape}, expected {expected.shape}"
        raise DeviceError(problem)
    difference = np.abs(outputs.astype(np.float64) - expected.astype(np.float64))
    finite = np.isfinite(outputs) & np.isfinite(expected)
    known = np.where(finite, difference, 0.0)
    max_abs = float(known.max())
    rms = float(np.sqrt(np.mean(np.square(known))))
    by_row = np.where(finite, difference, np.inf).max(axis=1)
    return ParityReport(
        passed=bool(finite.all()) and max_abs <= tolerance,
        rows=len(outputs),
        max_abs=max_abs,
        rms=rms,
        tolerance=tolerance,
        worst_row=int(by_row.argmax()),
        not_finite=int(np.count_nonzero(~finite)),
    )


def run_rows(loaded: LoadedModel, inputs: Floats, bucket: int) -> Floats:
    """Run windows through a loaded model in batches of one bucket, the last one padded.

    Args:
        loaded: The model; the caller owns it, and slot 0 is used.
        inputs: Shape (N, W, F).
        bucket: One of its buckets.

    Returns:
        Its answers, shape (N, O), copied.

    Raises:
        DeviceError: it failed, or answered in another shape.
    """
    answers = np.empty((len(inputs), loaded.shape.outputs), dtype=np.float32)
    wanted = (bucket, loaded.shape.outputs)
    for start in range(0, len(inputs), bucket):
        rows = inputs[start : start + bucket]
        staging = loaded.staging(bucket)
        staging[: len(rows)] = rows
        staging[len(rows) :] = 0
        outputs = loaded.run(bucket)
        if outputs.shape != wanted:
            who = f"{loaded.backend} on {loaded.device}"
            raise DeviceError(f"{who} answered in the shape {outputs.shape}, expected {wanted}")
        answers[start : start + len(rows)] = outputs[: len(rows)]
    return answers


def check_loaded(bundle: Bundle, loaded: LoadedModel) -> ParityReport:
    """Run the bundle's vectors through a loaded form, once a bucket; return the worst report.

    Raises:
        BundleError: the vectors cannot be used, or no tolerance is stated for the precision.
        DeviceError: the device failed.
    """
    vectors = bundle.parity()
    tolerance = bundle.tolerance(loaded.precision)
    reports = [
        compare(run_rows(loaded, vectors.inputs, bucket), vectors.outputs, tolerance)
        for bucket in loaded.buckets
    ]
    return max(reports, key=lambda report: (not report.passed, report.not_finite, report.max_abs))


def run_parity(
    bundle: Bundle,
    backend: Backend,
    file: ModelFile,
    device: str,
    options: LoadOptions | None = None,
) -> tuple[ParityReport, str]:
    """Load a form onto a device, run the bundle's vectors through it, and unload it.

    Returns:
        What came of it, and what of the form did not run on the device, "" if all of it did.

    Raises:
        BundleError: the form or the vectors are not what they should be.
        DeviceError: the device or its library failed, or is not here.
    """
    loaded = backend.load(file, bundle.shape, device, options or LoadOptions())
    try:
        return check_loaded(bundle, loaded), fallback_of(loaded)
    finally:
        loaded.close()
