"""Checking runs every form wherever it can run, and says of the others why they did not."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from bundle_cases import make_bundle
from tiny_models import make_constant, make_mlp

from engine.core.errors import BundleError, DeviceError
from engine.core.models import (
    Backend,
    DeviceFact,
    LoadedModel,
    LoadOptions,
    ModelFile,
    ModelShape,
    Precision,
)
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.bundle import Bundle
from runtime.bundle_check import check_file, check_forms, unnamed_files
from runtime.bundle_writer import add_forms
from runtime.prepared import PreparedModel

Load = Callable[[], LoadedModel]


class OtherBackend:
    """A backend of the format "rknn", with the devices and the fault it is told."""

    extra = "other"
    formats: tuple[str, ...] = ("rknn", "onnx")

    def __init__(self, devices: Sequence[str], missing: str = "", fault: str = "") -> None:
        self.name = "other"
        self._devices = devices
        self._missing = missing
        self._fault = fault

    def devices(self) -> list[DeviceFact]:
        return [DeviceFact(device, device.upper()) for device in self._devices]

    def missing(self) -> str:
        return self._missing

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> LoadedModel:
        if self._fault:
            raise DeviceError(f"other on {device}: {self._fault}")
        raise BundleError(file.path, "it is no such model")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "b")


def test_the_reference_passes_where_it_runs(bundle: Bundle) -> None:
    (result,) = check_forms(bundle, [OnnxRuntimeBackend()])
    assert (result.backend, result.device, result.verdict) == ("onnxruntime", "cpu", "passed")
    assert result.report is not None
    assert result.report.rows == 20
    assert (result.problem, result.skipped) == ("", "")


def test_every_backend_and_device_gets_its_own_verdict(bundle: Bundle) -> None:
    backends: list[Backend] = [
        OnnxRuntimeBackend(),
        OtherBackend(["npu", "dla:0"], fault="it broke"),
        OtherBackend([], missing="install heqis[other]"),
        OtherBackend([]),
    ]
    results = list(check_forms(bundle, backends))
    assert [(r.device, r.verdict, r.problem, r.skipped) for r in results] == [
        ("cpu", "passed", "", ""),
        ("npu", "failed", "other on npu: it broke", ""),
        ("dla:0", "failed", "other on dla:0: it broke", ""),
        ("", "not run", "", "install heqis[other]"),
        ("", "not run", "", "it found no device"),
    ]


def test_a_form_nobody_reads_is_told(bundle: Bundle) -> None:
    (result,) = check_forms(bundle, [])
    assert (result.verdict, result.skipped) == ("not run", "no backend reads onnx")


def test_a_form_that_its_library_refuses_fails(bundle: Bundle) -> None:
    (result,) = check_file(bundle, bundle.reference, [OtherBackend(["npu"])])
    assert result.verdict == "failed"
    assert result.problem.endswith("model.onnx: it is no such model")


@pytest.mark.parametrize(("value", "count"), [(0.2, 0), (float("nan"), 60)])
def test_a_form_with_other_answers_fails_with_its_figures(
    bundle: Bundle, tmp_path: Path, value: float, count: int
) -> None:
    path = make_constant(tmp_path / "c.onnx", [value] * 3)
    file = ModelFile(path, "onnx", Precision.FP16)
    (result,) = check_file(bundle, file, [OnnxRuntimeBackend()])
    assert result.verdict == "failed"
    assert result.report is not None
    assert result.report.not_finite == count
    assert "NOT within" in result.problem or "not finite" in result.problem


def test_all_forms_of_a_bundle_are_run(bundle: Bundle, tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    made = ModelFile(make_mlp(out_dir / "second.onnx"), "onnx", Precision.FP32)
    grown = add_forms(bundle, [made], out_dir)
    results = list(check_forms(grown, [OnnxRuntimeBackend()]))
    assert [result.file.path.name for result in results] == ["model.onnx", "second.onnx"]
    assert {result.verdict for result in results} == {"passed"}


def test_files_that_nobody_hashed_are_listed(bundle: Bundle) -> None:
    assert unnamed_files(bundle) == []
    (bundle.path / "cpu").mkdir()
    for name in ("notes.txt", "cpu/model.bin"):
        (bundle.path / name).write_bytes(b"x")
    assert unnamed_files(bundle) == ["cpu/model.bin", "notes.txt"]


def test_what_did_not_run_on_the_device_it_was_meant_for_is_told(bundle: Bundle) -> None:
    class Half(OnnxRuntimeBackend):
        def devices(self) -> list[DeviceFact]:
            return [DeviceFact("cpu", "CPU")]

        def load(
            self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
        ) -> PreparedModel:
            model = super().load(file, shape, device, options)
            model.fallback = "1 of 9 layers on the GPU: Softmax_8"
            return model

    (result,) = check_forms(bundle, [Half()])
    assert result.verdict == "passed"
    assert result.fallback == "1 of 9 layers on the GPU: Softmax_8"
