"""Builds LiteRT files with onnx2tf: target ``litert``, one file a batch size.

onnx2tf pins its dependencies to the patch and wants Python 3.12 or later, so it lives in a virtual
environment of its own: ``python3.12 -m venv tools && tools/bin/pip install onnx2tf``, then
``--tool tools/bin/onnx2tf``.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from engine.core.errors import ConfigError, DeviceError
from engine.core.models import ModelFile, Precision
from runtime.builders.fixed_batch import fix_batch
from runtime.builders.options import BuildOptions
from runtime.builders.tools import run_tool
from runtime.bundle import Bundle
from runtime.onnx_file import INPUT

_TOOL: Final = "onnx2tf"


def build(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Convert the reference once a batch size.

    Raises:
        ConfigError: another precision than fp32 was asked for.
        BundleError: the reference cannot be given a fixed batch.
        DeviceError: the converter is missing or failed.
    """
    if options.precision is not Precision.FP32:
        expected = "LiteRT forms are built in fp32; onnx2tf's fp16 files also take fp16 input"
        raise ConfigError("heqis model build", "--precision", str(options.precision), expected)
    tool = find_tool(options.tool)
    source = bundle.reference.path
    built = []
    for bucket in options.buckets:
        path = out_dir / f"{source.stem}.b{bucket}.tflite"
        _convert(tool, source, bucket, path)
        built.append(ModelFile(path, "litert", Precision.FP32, bucket))
    return built


def find_tool(said: Path | None) -> Path:
    """Return onnx2tf's program.

    Args:
        said: The program, or the Python of the environment it is installed in; None to look for
            it on the path.

    Raises:
        DeviceError: it is not there.
    """
    if said is not None:
        beside = said.with_name(_TOOL) if said.name.startswith("python") else said
        if beside.exists():
            return beside.absolute()
        raise DeviceError(f"{beside} is not there; give onnx2tf's program with --tool")
    found = shutil.which(_TOOL)
    if found is None:
        how = "pip install onnx2tf into an environment of its own, and give it with --tool"
        raise DeviceError(f"onnx2tf is not installed: {how}")
    return Path(found)


def _convert(tool: Path, source: Path, bucket: int, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="heqis-litert-") as directory:
        fixed, made = Path(directory) / "fixed.onnx", Path(directory) / "made"
        fix_batch(source, fixed, bucket)
        command = [str(tool), "-i", str(fixed), "-o", str(made), "-kat", INPUT, "-n"]
        run_tool(command, Path(directory), _TOOL)
        result = made / "fixed_float32.tflite"
        if not result.exists():
            raise DeviceError(f"{_TOOL} made no {result.name}")
        shutil.copyfile(result, path)
