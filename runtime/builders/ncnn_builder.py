"""Builds ncnn networks with pnnx: target ``ncnn``.

pnnx's wheel brings a program that needs nothing else: ``pip install --no-deps pnnx``.
"""

import re
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from engine.core.errors import ConfigError, DeviceError
from engine.core.models import ModelFile, ModelShape, Precision
from runtime.builders.options import BuildOptions
from runtime.builders.tools import run_tool
from runtime.bundle import Bundle

_TOOL: Final = "pnnx"
_INPUT: Final = re.compile(r"^(Input\s+\S+\s+0 1 \S+)\s*$", re.MULTILINE)


def build(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Convert the reference; the form takes any batch, a row at a time.

    fp16 is the same network with its weights stored so, computed in fp16 where the CPU can.

    Raises:
        ConfigError: int8 was asked for.
        DeviceError: the converter is missing or failed.
    """
    if options.precision is Precision.INT8:
        expected = "ncnn forms are built in fp32 or fp16"
        raise ConfigError("heqis model build", "--precision", str(options.precision), expected)
    source, shape = bundle.reference.path.absolute(), bundle.shape
    half = options.precision is Precision.FP16
    path = out_dir / f"{source.stem}-ncnn-{options.precision}.param"
    with tempfile.TemporaryDirectory(prefix="heqis-ncnn-") as directory:
        work = Path(directory)
        shutil.copyfile(source, work / "model.onnx")
        dims = f"inputshape=[1,{shape.window},{shape.features}]f32"
        tool = str(find_tool(options.tool))
        run_tool([tool, "model.onnx", dims, f"fp16={int(half)}"], work, _TOOL)
        made = work / "model.ncnn.param"
        if not made.exists():
            raise DeviceError(f"{_TOOL} made no {made.name}")
        path.write_text(state_shape(made.read_text(), shape))
        shutil.copyfile(work / "model.ncnn.bin", path.with_suffix(".bin"))
    return [ModelFile(path, "ncnn", options.precision)]


def state_shape(param: str, shape: ModelShape) -> str:
    """Write the shape of a row into the Input line of a network's text."""
    return _INPUT.sub(rf"\1 0={shape.features} 1={shape.window}", param)


def find_tool(said: Path | None) -> Path:
    """Return pnnx's program: the one said, that of the installed wheel, or one on the path.

    A script in an environment's ``bin``, or its Python, stands for the program that the wheel
    brought there: the script itself wants torch.

    Raises:
        DeviceError: it is not there.
    """
    if said is not None:
        if not said.exists():
            raise DeviceError(f"{said} is not there; give pnnx's program with --tool")
        brought = said.absolute().parent.parent.glob(f"lib/python3*/site-packages/{_TOOL}/{_TOOL}")
        return next(brought, said.absolute())
    spec = find_spec(_TOOL)
    places = [] if spec is None else [Path(each) for each in spec.submodule_search_locations or ()]
    inside = [place / _TOOL for place in places if (place / _TOOL).is_file()]
    on_path = shutil.which(_TOOL)
    if inside:
        return inside[0]
    if on_path is None:
        raise DeviceError("pnnx is not installed: pip install --no-deps pnnx")
    return Path(on_path)
