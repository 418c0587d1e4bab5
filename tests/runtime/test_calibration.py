"""INT8 scales are learned from the windows that were said, and from no file nobody vouches for."""

from pathlib import Path

import numpy as np
import pytest
from bundle_cases import make_bundle, make_draft
from tiny_models import MLP_SHAPE, make_mlp, random_windows, reference_outputs

from engine.core.errors import BundleError
from engine.core.models import Floats
from runtime.builders.calibration import CALIBRATION, MAX_ROWS, calibration_rows
from runtime.bundle import Bundle
from runtime.bundle_writer import write_bundle


def write_set(path: Path, windows: Floats) -> Path:
    np.savez(path, windows=windows)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "b")


def test_the_set_that_is_said_is_used(bundle: Bundle, tmp_path: Path) -> None:
    windows = random_windows(MLP_SHAPE, 50, seed=3)
    said = write_set(tmp_path / "mine.npz", windows)
    assert np.array_equal(calibration_rows(bundle, said), windows)


def test_a_large_set_is_thinned_evenly(bundle: Bundle, tmp_path: Path) -> None:
    windows = random_windows(MLP_SHAPE, 2 * MAX_ROWS + 1)
    rows = calibration_rows(bundle, write_set(tmp_path / "mine.npz", windows))
    assert np.array_equal(rows, windows[::3])


def test_a_bundles_own_set_is_used_if_its_manifest_vouches_for_it(tmp_path: Path) -> None:
    model = make_mlp(tmp_path / "model.onnx")
    inputs, windows = random_windows(MLP_SHAPE, 20), random_windows(MLP_SHAPE, 30, seed=4)
    content = write_set(tmp_path / CALIBRATION, windows).read_bytes()
    sources: dict[str, Path | bytes] = {"model.onnx": model, CALIBRATION: content}
    outputs = reference_outputs(model, inputs)
    bundle = write_bundle(tmp_path / "b", make_draft(), sources, inputs, outputs)
    assert np.array_equal(calibration_rows(bundle), windows)


def test_a_set_the_manifest_does_not_name_is_not_read(bundle: Bundle) -> None:
    write_set(bundle.path / CALIBRATION, random_windows(MLP_SHAPE, 30, seed=4))
    assert np.array_equal(calibration_rows(bundle), bundle.parity().inputs)


@pytest.mark.parametrize(
    "windows",
    [
        random_windows(MLP_SHAPE, 0),
        random_windows(MLP_SHAPE, 3).astype(np.float64),
        random_windows(MLP_SHAPE, 3)[:, 1:],
        np.full_like(random_windows(MLP_SHAPE, 3), np.nan),
    ],
    ids=["empty", "float64", "shape", "nan"],
)
def test_what_is_no_set_is_refused(bundle: Bundle, tmp_path: Path, windows: Floats) -> None:
    with pytest.raises(BundleError, match="windows"):
        calibration_rows(bundle, write_set(tmp_path / "mine.npz", windows))


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_file_that_is_no_archive_is_refused(
    bundle: Bundle, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"it is no NumPy archive"):
        calibration_rows(bundle, path)


def test_an_archive_without_windows_is_told(bundle: Bundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", inputs=random_windows(MLP_SHAPE, 3))
    with pytest.raises(BundleError, match="it has no array 'windows'; it has: inputs"):
        calibration_rows(bundle, tmp_path / "mine.npz")


def test_a_missing_file_is_told(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="gone"):
        calibration_rows(bundle, tmp_path / "gone.npz")
