"""What every backend checks of a form of a model, and the buffers it prepares for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from engine.core.errors import BundleError
from engine.core.models import Floats, LoadOptions, ModelFile, ModelShape

ALIGNMENT_BYTES: Final = 64
"""A cache line; what OpenVINO and LiteRT ask of memory that they use in place."""
_WEIGHTS_BESIDE: Final = ("openvino", "ncnn")


def aligned_floats(*shape: int) -> Floats:
    """Return zeros, float32, C-contiguous, at an address that is a multiple of 64 bytes."""
    count = int(np.prod(shape))
    raw = np.zeros(count * 4 + ALIGNMENT_BYTES, dtype=np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[skip : skip + count * 4].view(np.float32).reshape(shape)


def serving_buckets(file: ModelFile, options: LoadOptions) -> tuple[int, ...]:
    """Return the batch sizes a form can be run with: its own if fixed, else those wanted."""
    return (file.batch,) if file.batch else options.buckets


def check_form(file: ModelFile, formats: Sequence[str]) -> None:
    """Refuse a form that is not there or that this backend does not read.

    Raises:
        BundleError: either.
    """
    if file.format not in formats:
        expected = ", ".join(formats)
        raise BundleError(file.path, f"its format is {file.format!r}, expected {expected}")
    if not file.path.exists():
        raise BundleError(file.path, "the file is missing; restore it or build the form again")


def check_input(file: ModelFile, found: Sequence[object], shape: ModelShape) -> None:
    """Refuse an input that is not (batch, W, F); dimensions that are no integers pass.

    Raises:
        BundleError: it is not.
    """
    _check_dims(file, "input", found, (shape.window, shape.features))


def check_output(file: ModelFile, found: Sequence[object], shape: ModelShape) -> None:
    """Refuse an output that is not (batch, O); dimensions that are no integers pass.

    Raises:
        BundleError: it is not.
    """
    _check_dims(file, "output", found, (shape.outputs,))


def check_count(file: ModelFile, inputs: int, outputs: int) -> None:
    """Refuse a model that has not one input and one output.

    Raises:
        BundleError: it has not.
    """
    if (inputs, outputs) != (1, 1):
        raise BundleError(
            file.path, f"it has {inputs} inputs and {outputs} outputs, expected one of each"
        )


def footprint_bytes(file: ModelFile, *buffers: Floats) -> int:
    """Return about what a loaded form takes: its files once, and its buffers."""
    files = [file.path]
    if file.path.is_dir():
        files = [each for each in file.path.rglob("*") if each.is_file()]
    elif file.format in _WEIGHTS_BESIDE:
        files.append(weights_beside(file.path))
    sizes = [each.stat().st_size for each in files if each.exists()]
    return sum(sizes) + sum(buffer.nbytes for buffer in buffers)


def weights_beside(path: Path) -> Path:
    """Return where a form that keeps its weights in a second file has them."""
    return path.with_suffix(".bin")


def _check_dims(file: ModelFile, what: str, found: Sequence[object], tail: tuple[int, ...]) -> None:
    expected = (file.batch or "batch", *tail)
    fits = len(found) == len(expected) and all(
        not isinstance(have, int) or have < 0 or isinstance(want, str) or have == want
        for have, want in zip(found, expected, strict=True)
    )
    if not fits:
        have = ", ".join(str(dim) for dim in found)
        want = ", ".join(str(dim) for dim in expected)
        raise BundleError(file.path, f"its {what} has shape ({have}), expected ({want})")
