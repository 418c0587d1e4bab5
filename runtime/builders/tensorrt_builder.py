"""Builds TensorRT engines on the machine that will run them: targets ``gpu`` and ``dla:N``."""

from pathlib import Path

from engine.core.errors import ConfigError
from engine.core.models import ModelFile, Precision
from runtime.backends.tensorrt_backend import TensorRtBackend
from runtime.builders.calibration import calibration_rows
from runtime.builders.options import BuildOptions
from runtime.bundle import Bundle
from runtime.engine_cache import pack
from runtime.tensorrt_cache import EngineOrder, dla_core


def build(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Build one engine a batch size from the bundle's reference form.

    An engine runs only on the chip, library and system release it was built with, which its file
    says.

    Raises:
        ConfigError: a DLA was asked for fp32.
        BundleError: the form does not parse.
        DeviceError: TensorRT or the device is missing, or refused.
    """
    device, precision = options.target, options.precision
    if dla_core(device) is not None and precision is Precision.FP32:
        expected = "a DLA computes in fp16 or int8; give --precision fp16"
        raise ConfigError("heqis model build", "--precision", str(precision), expected)
    int8 = precision is Precision.INT8
    calibration = calibration_rows(bundle, options.calibration) if int8 else None
    backend = TensorRtBackend()
    built = []
    for bucket in options.buckets:
        order = EngineOrder(
            bundle.reference, bundle.shape, device, precision, (bucket,), calibration
        )
        key, plan = backend.compile(order)
        path = out_dir / f"model-{device.replace(':', '')}-{precision}-b{bucket}.engine"
        path.write_bytes(pack(key, plan))
        built.append(ModelFile(path, "tensorrt", precision, bucket))
    return built
