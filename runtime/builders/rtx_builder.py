"""Builds engines of TensorRT for RTX ahead of time; needs no GPU.

The target is ``rtx`` for the usual cards, or ``rtx:86`` or ``rtx:86+120`` for stated ones, by
compute capability times ten.
"""

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from engine.core.errors import ConfigError, DeviceError
from engine.core.models import ModelFile, Precision
from runtime.builders.calibration import calibration_rows
from runtime.builders.options import BuildOptions
from runtime.bundle import Bundle
from runtime.engine_cache import EngineKey, pack
from runtime.tensorrt_build import EngineRequest, build_engine
from runtime.tensorrt_cache import hash_form
from runtime.tensorrt_source import engine_source
from runtime.tensorrt_versions import Flavour, chips_of, rules_of

USUAL_CHIPS: Final = (86, 89, 120)
"""Ampere, Ada and Blackwell desktop cards."""


def build(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Build one engine a batch size, for all the target's chips, from the reference form.

    Raises:
        ConfigError: the target names a chip that cannot be built for.
        BundleError: the form does not parse.
        DeviceError: TensorRT for RTX is not installed, or could not build it.
    """
    tensorrt = _import()
    chips = read_chips(tensorrt, options.target)
    rules = rules_of(Flavour.RTX, tensorrt.__version__)
    file, shape, precision = bundle.reference, bundle.shape, options.precision
    int8 = precision is Precision.INT8
    calibration = calibration_rows(bundle, options.calibration) if int8 else None
    built = []
    with engine_source(rules, file, precision, on_dla=False, calibration=calibration) as source:
        for bucket in options.buckets:
            request = EngineRequest(source.onnx, shape, (bucket,), precision, chips=chips)
            key = EngineKey(
                library=Flavour.RTX,
                version=rules.version,
                sm=0,
                jetpack="",
                chip="+".join(f"SM{chip}" for chip in chips),
                device="gpu",
                form=hash_form(file.path, calibration),
                precision=precision,
                buckets=(bucket,),
                window=shape.window,
                features=shape.features,
            )
            path = out_dir / f"model-rtx-{precision}-b{bucket}.engine"
            path.write_bytes(pack(key, build_engine(tensorrt, rules, request)))
            built.append(ModelFile(path, "tensorrt", precision, bucket))
    return built


def read_chips(tensorrt: Any, target: str) -> tuple[int, ...]:
    """Read the chips in ``rtx`` or ``rtx:86+120``.

    Raises:
        ConfigError: it names one that cannot be built for.
    """
    _rtx, _colon, listed = target.partition(":")
    if not listed:
        return USUAL_CHIPS
    known = chips_of(tensorrt)
    words = listed.split("+")
    if any(f"SM{word}" not in known for word in words):
        able = ", ".join(name.removeprefix("SM") for name in known)
        raise ConfigError("heqis model build", "--target", target, f"chips are {able}")
    return tuple(int(word) for word in words)


def _import() -> Any:
    if find_spec(Flavour.RTX) is None:
        raise DeviceError("tensorrt_rtx is not installed: pip install 'heqis[rtx]'")
    return importlib.import_module(Flavour.RTX)
