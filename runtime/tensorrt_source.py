"""Which ONNX file an engine of a precision is built from; converts the fp32 one where it has to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from engine.core.errors import DeviceError
from engine.core.models import Floats, ModelFile, Precision
from runtime.onnx_precision import write_fp16, write_int8
from runtime.tensorrt_versions import Int8, Rules, int8_way


class Source(NamedTuple):
    """What the builder is given."""

    onnx: Path
    calibration: Floats | None
    """Only where the version calibrates INT8 itself."""


@contextmanager
def engine_source(
    rules: Rules,
    file: ModelFile,
    precision: Precision,
    *,
    on_dla: bool,
    calibration: Floats | None = None,
) -> Iterator[Source]:
    """Give the file an engine is built from; a converted one lives as long as the block.

    Args:
        rules: Of the TensorRT that will build.
        file: The ONNX form that is there.
        precision: What the engine is to compute in.
        on_dla: It is for a DLA core.
        calibration: Shape (N, W, F), to make INT8 of an fp32 form.

    Raises:
        BundleError: the form is no ONNX model.
        DeviceError: it cannot be converted here.
    """
    if precision is file.precision or precision is Precision.FP32:
        yield Source(file.path, None)
        return
    if precision is Precision.FP16 and rules.precision_flags:
        yield Source(file.path, None)
        return
    if precision is Precision.INT8:
        if calibration is None:
            raise DeviceError(f"{file.path.name}: INT8 needs a Q/DQ form or a calibration set")
        if int8_way(rules, on_dla=on_dla) is Int8.CALIBRATOR:
            yield Source(file.path, calibration)
            return
    with TemporaryDirectory(prefix="heqis-onnx-") as folder:
        target = Path(folder) / f"{file.path.stem}-{precision}.onnx"
        if precision is Precision.FP16:
            write_fp16(file.path, target)
        elif calibration is not None:
            write_int8(file.path, target, calibration)
        yield Source(target, None)
