"""A built form goes into a bundle only when it has been proven."""

import shutil
from pathlib import Path

import pytest
from bundle_cases import make_bundle
from tiny_models import make_mlp

from engine.core.errors import BundleError, CheckFailedError, ConfigError, DeviceError
from engine.core.models import ModelFile, Precision
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.builders.options import BuildOptions
from runtime.bundle import Bundle
from runtime.bundle_build import BUILDERS, build_forms, find_builder
from runtime.bundle_check import FormCheck
from runtime.parity import compare

FP16 = BuildOptions("copy", Precision.FP16)


def build_copy(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Build by copying the reference, which is as near to it as can be."""
    path = out_dir / "copy.onnx"
    shutil.copyfile(bundle.reference.path, path)
    return [ModelFile(path, "onnx", options.precision)]


def build_wrong(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Build a model with other weights."""
    return [ModelFile(make_mlp(out_dir / "wrong.onnx", seed=9), "onnx", options.precision)]


def build_nothing(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Fail as a converter does."""
    raise DeviceError("the converter is not installed")


def build_tried(bundle: Bundle, out_dir: Path, options: BuildOptions) -> list[ModelFile]:
    """Build a copy, and try it on a simulator first."""
    made = build_copy(bundle, out_dir, options)
    report = compare(bundle.parity().outputs, bundle.parity().outputs, 1e-3)
    options.on_check(FormCheck(made[0], "simulator", "npu", report, "", ""))
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "b")


def test_a_proven_form_is_added_in_place(bundle: Bundle) -> None:
    grown, results = build_forms(bundle, None, FP16, build_copy, [OnnxRuntimeBackend()])
    assert [result.verdict for result in results] == ["passed"]
    assert grown.path == bundle.path
    assert [file.precision for file in grown.forms()] == [Precision.FP32, Precision.FP16]
    assert Bundle.open(bundle.path) == grown


def test_a_copy_leaves_the_bundle_as_it_was(bundle: Bundle, tmp_path: Path) -> None:
    grown, _ = build_forms(bundle, tmp_path / "o", FP16, build_copy, [OnnxRuntimeBackend()])
    assert grown.path == tmp_path / "o"
    assert len(grown.forms()) == 2
    assert Bundle.open(bundle.path) == bundle


def test_a_form_that_cannot_run_here_is_added_unproven(bundle: Bundle) -> None:
    grown, results = build_forms(bundle, None, FP16, build_copy, [])
    assert [result.verdict for result in results] == ["not run"]
    assert len(grown.forms()) == 2


def test_what_a_builder_tried_itself_is_told_first(bundle: Bundle) -> None:
    _, results = build_forms(bundle, None, FP16, build_tried, [OnnxRuntimeBackend()])
    found = [(result.backend, result.device, result.verdict) for result in results]
    assert found[:2] == [("simulator", "npu", "passed"), ("onnxruntime", "cpu", "passed")]


def test_a_form_that_answers_otherwise_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    backends = [OnnxRuntimeBackend()]
    with pytest.raises(CheckFailedError, match=r"wrong\.onnx on onnxruntime@cpu: .* as it was"):
        build_forms(bundle, tmp_path / "o", FP16, build_wrong, backends)
    assert Bundle.open(bundle.path) == bundle
    assert not (tmp_path / "o").exists()


def test_a_precision_without_a_tolerance_is_refused_before_building(bundle: Bundle) -> None:
    options = BuildOptions("copy", Precision.INT8)
    with pytest.raises(BundleError, match="does not say how far int8 may be off"):
        build_forms(bundle, None, options, build_nothing, [])


def test_a_converter_that_fails_changes_nothing(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="the converter is not installed"):
        build_forms(bundle, None, FP16, build_nothing, [])
    assert Bundle.open(bundle.path) == bundle


def test_an_unknown_target_names_all() -> None:
    with pytest.raises(ConfigError, match="targets are: openvino, litert, ncnn, torch, gpu, dla:0"):
        find_builder("tpu")


@pytest.mark.parametrize("target", BUILDERS)
def test_every_target_has_a_builder(target: str) -> None:
    assert callable(find_builder(target))


def test_chips_may_be_named_behind_rtx_only() -> None:
    assert find_builder("rtx:86+120") is find_builder("rtx")
    with pytest.raises(ConfigError, match="found 'gpu:86'"):
        find_builder("gpu:86")
