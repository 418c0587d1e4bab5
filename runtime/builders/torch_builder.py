"""Builds PyTorch exported programs: target ``torch``, one file for any batch."""

from importlib import import_module
from pathlib import Path
from typing import Final

from engine.core.errors import BundleError, ConfigError, DeviceError
from engine.core.models import ModelFile, Precision
from runtime.builders.onnx_to_torch import to_module
from runtime.builders.options import BuildOptions
from runtime.bundle import Bundle
from runtime.probe import probe_module

MAX_BATCH: Final = 1024
_EXAMPLE_ROWS: Final = 4


def build(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Turn the reference into a module, trace it with a free batch, and save it.

    Raises:
        ConfigError: int8 was asked for.
        BundleError: the reference has an operator that is not known here.
        DeviceError: torch or onnx is not installed, or tracing failed.
    """
    if options.precision is Precision.INT8:
        expected = "exported programs are built in fp32 or fp16"
        raise ConfigError("heqis model build", "--precision", str(options.precision), expected)
    for module, how in (("torch", "'heqis[train]'"), ("onnx", "onnx")):
        if not probe_module(module).present:
            raise DeviceError(f"{module} is not installed: pip install {how}")
    source, shape = bundle.reference.path, bundle.shape
    path = out_dir / f"{source.stem}-{options.precision}.pt2"
    torch = import_module("torch")
    module = to_module(source, half=options.precision is Precision.FP16)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    example = torch.zeros(_EXAMPLE_ROWS, shape.window, shape.features)
    try:
        program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    except (RuntimeError, ValueError, TypeError) as error:
        raise BundleError(source, f"torch cannot trace it: {error}") from error
    torch.export.save(program, path)
    return [ModelFile(path, "torch", options.precision)]
