"""Converts a bundle for Rockchip's NPU and proves it on the toolkit's simulator.

Targets are chips: ``rk3568``, ``rk3588`` and the others of ``CHIPS``. The NPU computes in fp16 or
INT8, one window at a time.
"""

from pathlib import Path
from typing import Final

from engine.core.errors import BundleError, CheckFailedError, ConfigError
from engine.core.models import ModelFile, Precision
from runtime.builders.calibration import calibration_rows
from runtime.builders.options import BuildOptions
from runtime.bundle import Bundle
from runtime.bundle_check import FormCheck
from runtime.onnx_file import INPUT
from runtime.parity import compare
from runtime.rknn_toolkit import Toolkit, make_environment

CHIPS: Final = ("rk3562", "rk3566", "rk3568", "rk3576", "rk3588")
SIMULATOR: Final = "rknn-simulator"
"""What the toolkit's simulator is called beside the backends."""


def build(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Convert the reference form; what it answers on the simulator has to be within tolerance.

    The toolkit's environment is made under ``var`` if ``options.tool`` names no Python.

    Raises:
        ConfigError: the chip, precision or batch is none the NPU has.
        BundleError: the toolkit does not take the model.
        DeviceError: the toolkit is missing or failed.
        CheckFailedError: the simulated form is off by more than the manifest allows.
    """
    _check_options(options)
    precision = options.precision
    int8 = precision is Precision.INT8
    calibration = calibration_rows(bundle, options.calibration) if int8 else None
    path = out_dir / f"model-{options.target}-{precision}.rknn"
    reference, vectors = bundle.reference, bundle.parity()
    with Toolkit(options.tool or make_environment()) as toolkit:
        model = toolkit.open(
            reference.path,
            bundle.shape,
            chip=options.target,
            input_name=INPUT,
            calibration=calibration,
            out=path,
        )
        answers = toolkit.run(model, vectors.inputs)
    if not path.exists():
        raise BundleError(reference.path, f"rknn-toolkit2 wrote no {path.name}")
    report = compare(answers, vectors.outputs, bundle.tolerance(precision))
    if not report.passed:
        raise CheckFailedError(f"{path.name} on the simulator: {report}")
    made = ModelFile(path, "rknn", precision, 1)
    options.on_check(FormCheck(made, SIMULATOR, "npu", report, "", ""))
    return [made]


def _check_options(options: BuildOptions) -> None:
    source = "heqis model build"
    if options.target not in CHIPS:
        raise ConfigError(source, "--target", options.target, f"chips are {', '.join(CHIPS)}")
    if options.precision is Precision.FP32:
        expected = "the NPU computes in fp16 or int8; give --precision fp16"
        raise ConfigError(source, "--precision", str(options.precision), expected)
    if options.buckets != (1,):
        expected = "the NPU takes one window at a time; give --batch 1"
        raise ConfigError(source, "--batch", options.buckets, expected)
