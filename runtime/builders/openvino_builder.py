"""Builds OpenVINO's own form: target ``openvino``, one form for any batch size."""

from importlib import import_module
from pathlib import Path

from engine.core.errors import BundleError, ConfigError, DeviceError
from engine.core.models import ModelFile, Precision
from runtime.builders.options import BuildOptions
from runtime.bundle import Bundle
from runtime.probe import probe_module


def build(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Convert the reference; in fp16 its weights are stored and computed so where the CPU can.

    Raises:
        ConfigError: int8 was asked for.
        BundleError: OpenVINO cannot read the reference.
        DeviceError: OpenVINO is not installed.
    """
    precision = options.precision
    if precision is Precision.INT8:
        expected = "OpenVINO forms are built in fp32 or fp16"
        raise ConfigError("heqis model build", "--precision", str(precision), expected)
    if not probe_module("openvino").present:
        raise DeviceError("openvino is not installed: pip install 'heqis[openvino]'")
    openvino = import_module("openvino")
    source = bundle.reference.path
    path = out_dir / f"{source.stem}-openvino-{precision}.xml"
    try:
        model = openvino.convert_model(str(source))
        openvino.save_model(model, str(path), compress_to_fp16=precision is Precision.FP16)
    except RuntimeError as error:
        raise BundleError(source, f"OpenVINO cannot convert it: {error}") from error
    return [ModelFile(path, "openvino", precision)]
