"""Copies an ONNX model with its batch size written into its input and output."""

from importlib import import_module
from pathlib import Path

from engine.core.errors import BundleError, DeviceError
from runtime.probe import probe_module


def fix_batch(source: Path, target: Path, batch: int) -> None:
    """Write a copy that takes one batch size.

    Raises:
        BundleError: the source is no ONNX model.
        DeviceError: the onnx package is not installed.
    """
    if not probe_module("onnx").present:
        raise DeviceError("onnx is not installed, which prepares models: pip install onnx")
    onnx = import_module("onnx")
    try:
        model = onnx.load(str(source))
        del model.graph.value_info[:]
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
        onnx.save(onnx.shape_inference.infer_shapes(model), str(target))
    except (ValueError, IndexError, OSError) as error:
        raise BundleError(source, f"its batch cannot be fixed at {batch}: {error}") from error
