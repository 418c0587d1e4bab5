"""Answers are compared with those of the reference; what is not a number never passes."""

from pathlib import Path

import numpy as np
import pytest
from bundle_cases import make_bundle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_models import make_constant, make_mlp

from engine.core.errors import BundleError, DeviceError
from engine.core.models import DeviceFact, Floats, LoadOptions, ModelFile, ModelShape, Precision
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.bundle import Bundle
from runtime.parity import compare, run_parity, run_rows

EXPECTED = np.array([[0.1, 0.9], [0.4, 0.6], [0.5, 0.5]], dtype=np.float32)


def with_value(row: int, column: int, value: float) -> Floats:
    changed = EXPECTED.copy()
    changed[row, column] = value
    return changed


def test_the_same_answers_pass() -> None:
    report = compare(EXPECTED, EXPECTED, 1e-9)
    assert report.passed
    assert (report.max_abs, report.rms, report.rows, report.not_finite) == (0, 0, 3, 0)


def test_the_largest_difference_decides_and_its_row_is_named() -> None:
    report = compare(with_value(1, 0, 0.6), EXPECTED, 0.1)
    assert not report.passed
    assert report.max_abs == pytest.approx(0.2)
    assert report.rms == pytest.approx(0.2 / np.sqrt(6))
    assert report.worst_row == 1
    assert "NOT within 0.1, over 3 rows" in str(report)
    assert compare(with_value(1, 0, 0.6), EXPECTED, 0.21).passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_fails_at_any_tolerance(value: float) -> None:
    report = compare(with_value(2, 1, value), EXPECTED, 1e30)
    assert not report.passed
    assert (report.not_finite, report.worst_row, report.max_abs) == (1, 2, 0)
    assert str(report).endswith("1 not finite")


def test_nan_where_nan_is_expected_fails_too() -> None:
    spoilt = with_value(0, 0, np.nan)
    assert not compare(spoilt, spoilt, 1.0).passed


@pytest.mark.parametrize("shape", [(3, 3), (2, 2), (6,), (3, 2, 1)])
def test_answers_of_another_shape_are_the_devices_fault(shape: tuple[int, ...]) -> None:
    with pytest.raises(DeviceError, match=r"expected \(3, 2\)"):
        compare(np.zeros(shape, np.float32), EXPECTED, 1.0)


FLOATS = hnp.arrays(np.float32, (4, 2), elements=st.floats(width=32, min_value=-9, max_value=9))


@given(FLOATS, FLOATS, st.floats(1e-6, 10))
def test_a_report_agrees_with_numpy(outputs: Floats, expected: Floats, tolerance: float) -> None:
    report = compare(outputs, expected, tolerance)
    difference = np.abs(outputs.astype(float) - expected.astype(float))
    assert report.passed == np.allclose(difference, 0, atol=tolerance, rtol=0)
    assert report.max_abs == difference.max() == difference[report.worst_row].max()
    assert report.rms == pytest.approx(np.sqrt((difference**2).mean()))


class Broken:
    """A loaded model that answers in a shape of its own, or fails."""

    backend, device = "fake", "cpu"
    precision = Precision.FP32
    shape = ModelShape(8, 4, 3)
    memory_bytes = 1

    def __init__(self, answer: Floats | None) -> None:
        self.answer = answer
        self.buckets: tuple[int, ...] = (4,)
        self.is_closed = False

    def staging(self, bucket: int, slot: int = 0) -> Floats:
        return np.zeros((bucket, 8, 4), np.float32)

    def run(self, bucket: int, slot: int = 0) -> Floats:
        if self.answer is None:
            raise DeviceError("fake on cpu: it broke")
        return self.answer

    def close(self) -> None:
        self.is_closed = True


class BrokenBackend:
    """Loads a broken model in place of what it is asked for."""

    name, extra = "fake", ""
    formats: tuple[str, ...] = ("onnx",)

    def __init__(self, loaded: Broken) -> None:
        self.loaded = loaded

    def devices(self) -> list[DeviceFact]:
        return []

    def missing(self) -> str:
        return ""

    def load(self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions) -> Broken:
        return self.loaded


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "b", rows=21)


@pytest.mark.parametrize("buckets", [(1,), (1, 4, 32), (7,)])
def test_the_reference_reproduces_its_own_vectors(bundle: Bundle, buckets: tuple[int, ...]) -> None:
    backend = OnnxRuntimeBackend()
    report, _ = run_parity(bundle, backend, bundle.reference, "cpu", LoadOptions(buckets=buckets))
    assert report.passed
    assert report.rows == 21
    assert 0 <= report.max_abs < 1e-6
    assert report.tolerance == 1e-5


def test_rows_come_back_in_order_whatever_the_bucket(bundle: Bundle) -> None:
    options = LoadOptions(buckets=(1, 8))
    loaded = OnnxRuntimeBackend().load(bundle.reference, bundle.shape, "cpu", options)
    vectors = bundle.parity()
    for bucket in (1, 8):
        answers = run_rows(loaded, vectors.inputs, bucket)
        np.testing.assert_allclose(answers, vectors.outputs, atol=1e-6)
    loaded.close()


def test_other_weights_fail(bundle: Bundle, tmp_path: Path) -> None:
    other = ModelFile(make_mlp(tmp_path / "o.onnx", seed=8), "onnx", Precision.FP32)
    report, _ = run_parity(bundle, OnnxRuntimeBackend(), other, "cpu")
    assert not report.passed
    assert report.not_finite == 0


def test_a_model_that_answers_nan_fails(bundle: Bundle, tmp_path: Path) -> None:
    path = make_constant(tmp_path / "n.onnx", [float("nan")] * 3)
    other = ModelFile(path, "onnx", Precision.FP32)
    report, _ = run_parity(bundle, OnnxRuntimeBackend(), other, "cpu")
    assert not report.passed
    assert report.not_finite == 63


def test_another_shape_of_answer_is_told_and_the_model_closed(bundle: Bundle) -> None:
    loaded = Broken(np.zeros((4, 2), np.float32))
    with pytest.raises(DeviceError, match=r"fake on cpu answered in the shape \(4, 2\), expected"):
        run_parity(bundle, BrokenBackend(loaded), bundle.reference, "cpu")
    assert loaded.is_closed


def test_a_model_that_raises_is_closed(bundle: Bundle) -> None:
    loaded = Broken(None)
    with pytest.raises(DeviceError, match="it broke"):
        run_parity(bundle, BrokenBackend(loaded), bundle.reference, "cpu")
    assert loaded.is_closed


def test_a_precision_without_a_tolerance_is_refused_before_it_runs(bundle: Bundle) -> None:
    loaded = Broken(None)
    loaded.precision = Precision.INT8
    with pytest.raises(BundleError, match="does not say how far int8 may be off"):
        run_parity(bundle, BrokenBackend(loaded), bundle.reference, "cpu")
