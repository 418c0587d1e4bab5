"""From a bundle's reference to a form for another device: built aside, proven, then put in."""

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from engine.core.errors import CheckFailedError, ConfigError
from engine.core.models import Backend, ModelFile
from engine.core.suggest import known_names
from runtime.builders.options import BuildOptions
from runtime.bundle import Bundle
from runtime.bundle_check import FormCheck, check_file
from runtime.bundle_writer import add_forms, copy_bundle

Build = Callable[[Bundle, Path, BuildOptions], list[ModelFile]]
"""What every module of ``runtime.builders`` has as ``build``."""

BUILDERS: Final = {
    "openvino": "openvino_builder",
    "litert": "litert_builder",
    "ncnn": "ncnn_builder",
    "torch": "torch_builder",
    "gpu": "tensorrt_builder",
    "dla:0": "tensorrt_builder",
    "dla:1": "tensorrt_builder",
    "rtx": "rtx_builder",
    "rk3562": "rknn_builder",
    "rk3566": "rknn_builder",
    "rk3568": "rknn_builder",
    "rk3576": "rknn_builder",
    "rk3588": "rknn_builder",
}
"""Modules of ``runtime.builders`` by target."""


def find_builder(target: str) -> Build:
    """Return what builds for a target; ``rtx`` may name chips behind a colon.

    Raises:
        ConfigError: there is no such target; names all.
    """
    name = "rtx" if target.startswith("rtx:") else target
    if name not in BUILDERS:
        expected = known_names("targets", BUILDERS, target)
        raise ConfigError("heqis model build", "--target", target, expected)
    build: Build = importlib.import_module(f"runtime.builders.{BUILDERS[name]}").build
    return build


def build_forms(
    bundle: Bundle,
    output: Path | None,
    options: BuildOptions,
    build: Build,
    backends: Sequence[Backend],
) -> tuple[Bundle, list[FormCheck]]:
    """Build forms, run the parity vectors through them, and put them into a bundle.

    Args:
        bundle: Where the reference comes from.
        output: A directory for a copy that gets the forms, None to add them to the bundle itself.
        options: What to build.
        build: From ``find_builder``.
        backends: What may run the forms here.

    Returns:
        The bundle with the forms, and what came of each on each device.

    Raises:
        BundleError: the bundle states no tolerance for the precision, or the output is not empty.
        CheckFailedError: a form is off by more than the tolerance, or failed; nothing is changed.
        DeviceError: the converter is missing or failed.
    """
    bundle.tolerance(options.precision)
    with tempfile.TemporaryDirectory(prefix="heqis-build-") as directory:
        out_dir = Path(directory)
        results: list[FormCheck] = []
        made = build(bundle, out_dir, options._replace(on_check=results.append))
        for file in made:
            results += check_file(bundle, file, backends)
        failed = [result for result in results if result.verdict == "failed"]
        if failed:
            first = failed[0]
            where = f"{first.file.path.name} on {first.backend}@{first.device}"
            raise CheckFailedError(f"{where}: {first.problem}; the bundle is as it was")
        target = bundle if output is None else copy_bundle(bundle, output)
        return add_forms(target, made, out_dir), results
