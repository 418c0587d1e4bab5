"""The windows that INT8 scales are learned from."""

from pathlib import Path
from typing import Final

import numpy as np

from engine.core.errors import BundleError
from engine.core.models import Floats, ModelShape
from runtime.bundle import Bundle

CALIBRATION: Final = "calibration.npz"
"""A bundle's own set, if it has one; its array is ``windows``."""
MAX_ROWS: Final = 1024


def calibration_rows(bundle: Bundle) -> Floats:
    """Return windows as the graph takes them: the bundle's own set, else its parity vectors.

    Returns:
        Shape (N, W, F), float32, at most ``MAX_ROWS`` evenly chosen.

    Raises:
        BundleError: the set is there and is none.
    """
    path = bundle.path / CALIBRATION
    rows = read_rows(path, bundle.shape) if path.exists() else bundle.parity().inputs
    step = -(-len(rows) // MAX_ROWS)
    return np.ascontiguousarray(rows[::step], dtype=np.float32)


def read_rows(path: Path, shape: ModelShape) -> Floats:
    """Read a calibration set.

    Raises:
        BundleError: it is no archive with finite float32 ``windows`` of this shape.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            rows = archive["windows"]
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(path, f"it has no array 'windows': {error}") from error
    wanted = (shape.window, shape.features)
    if rows.ndim != 3 or rows.shape[1:] != wanted or rows.dtype != np.float32 or not len(rows):
        problem = f"'windows' is {rows.dtype} {rows.shape}, expected float32 (N, *{wanted})"
        raise BundleError(path, problem)
    if not np.isfinite(rows).all():
        raise BundleError(path, "'windows' holds something that is not finite")
    return np.asarray(rows, dtype=np.float32)
