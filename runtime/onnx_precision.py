"""From an fp32 ONNX form to an fp16 and an INT8 one whose types say what they are.

TensorRT 10, 11 and for RTX take the precision from the file: fp16 tensors between casts, and INT8
between explicit quantise and dequantise nodes, symmetric as TensorRT wants them. Inputs and outputs
stay float32. Both need the ``onnx`` and ``onnxruntime`` packages.
"""

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Floats

QUANTISED: Final = ("Conv", "Gemm", "MatMul")
"""Operators that are computed in INT8; the others are cheap and stay in float32."""
CALIBRATION_ROWS: Final = 32
"""Rows of one calibration batch."""


def write_fp16(source: Path, target: Path) -> Path:
    """Write a model that computes in fp16 and takes and gives float32.

    Raises:
        BundleError: the source is no ONNX model.
        DeviceError: a package is missing.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise DeviceError(f"an fp16 form needs onnx: pip install onnx ({error})") from error
    model = _read(onnx, source)
    converted = convert_float_to_float16(model, keep_io_types=True)
    onnx.save(converted, str(target))
    return target


def write_int8(source: Path, target: Path, calibration: Floats) -> Path:
    """Write a model with quantise and dequantise nodes around its large operators.

    Args:
        source: The fp32 model.
        target: Where to write.
        calibration: Shape (N, W, F); the activations' scales are the largest values seen.

    Raises:
        BundleError: the source is no ONNX model.
        DeviceError: a package is missing.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError as error:
        raise DeviceError(f"an INT8 form needs onnx: pip install onnx ({error})") from error
    name = _read(onnx, source).graph.input[0].name
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        quantization.quantize_static(
            str(source),
            str(target),
            _batches(quantization.CalibrationDataReader, name, calibration),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
            },
        )
    finally:
        root.setLevel(level)
    return target


def _read(onnx: Any, source: Path) -> Any:
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        return onnx.load(str(source))
    except (OSError, ValueError, decode_error) as error:
        raise BundleError(source, f"it is no ONNX model: {error}") from error


def _batches(reader: Any, name: str, calibration: Floats) -> Any:
    rows = np.ascontiguousarray(calibration, dtype=np.float32)
    starts = range(0, len(rows), CALIBRATION_ROWS)
    left: Iterator[dict[str, Floats]] = iter(
        [{name: rows[start : start + CALIBRATION_ROWS]} for start in starts]
    )

    class Reader(reader):  # type: ignore[misc] # its base is known at run time only
        def get_next(self) -> dict[str, Floats] | None:
            return next(left, None)

    return Reader()
