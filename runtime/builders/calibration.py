"""The windows that INT8 scales are learned from."""

from pathlib import Path
from typing import Final

import numpy as np

from engine.core.models import Floats
from runtime.bundle import Bundle
from runtime.parity_file import read_windows

CALIBRATION: Final = "calibration.npz"
"""A bundle's own set, if its manifest names one among its files; its array is ``WINDOWS``."""
WINDOWS: Final = "windows"
MAX_ROWS: Final = 1024


def calibration_rows(bundle: Bundle, said: Path | None = None) -> Floats:
    """Return windows as the graph takes them: those said, else the bundle's own set.

    A bundle without one gives its parity vectors, on which INT8 then looks better than it is.

    Args:
        bundle: Whose form is to be quantised.
        said: A file with an array ``windows``, None for none.

    Returns:
        Shape (N, W, F), float32, at most ``MAX_ROWS`` evenly chosen.

    Raises:
        BundleError: the file is no calibration set.
    """
    if said is None and CALIBRATION in bundle.manifest.files:
        said = bundle.path / CALIBRATION
    rows = bundle.parity().inputs if said is None else read_windows(said, WINDOWS, bundle.shape)
    step = -(-len(rows) // MAX_ROWS)
    return np.ascontiguousarray(rows[::step], dtype=np.float32)
