"""Every accelerator is judged, present or not, with what it is for."""

import tomllib
from pathlib import Path

import pytest

from engine.core.models import Backend, DeviceFact
from engine.doctor_devices import (
    accelerator_findings,
    backend_findings,
    converter_findings,
    device_findings,
    judge_backend,
    judge_binding,
    judge_cuda,
    judge_dla,
    judge_jetson,
    judge_npu,
)
from engine.finding import Finding, Status
from runtime.catalog import BACKENDS, FoundDevice, every_backend
from runtime.cuda.cuda_bindings_driver import CudaBindingsDriver
from runtime.cuda.pycuda_driver import PycudaDriver
from runtime.probe import (
    Accelerators,
    CudaDevice,
    CudaProbe,
    JetsonProbe,
    NpuProbe,
    TensorRtProbe,
)

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
ORIN = CudaDevice("Orin", 87, 16 << 30, integrated=True)


def test_nothing_an_accelerator_lacks_is_ever_fatal() -> None:
    findings = [*device_findings(), *backend_findings(), *converter_findings()]
    assert len(findings) == 5 + len(BACKENDS) + 3
    assert not any(finding.fatal for finding in findings)
    assert all(finding.needed_for for finding in findings)


def test_orin_is_described_with_its_gpu_and_dla() -> None:
    everything = Accelerators(
        CudaProbe("12.6", (ORIN,)),
        TensorRtProbe("tensorrt", "10.3.0", 2),
        JetsonProbe("NVIDIA Jetson Orin NX", "36.4.3", 6),
        NpuProbe(),
    )
    cuda, _binding, dla, jetson, npu = accelerator_findings(everything)
    assert cuda.found == "driver 12.6: Orin (SM 8.7, 16.0 GiB shared)"
    assert dla.found == "2 cores"
    assert jetson.found == "NVIDIA Jetson Orin NX, JetPack 6, L4T 36.4.3"
    assert [f.status for f in (cuda, dla, jetson)] == [Status.OK] * 3
    assert npu.status is Status.MISSING


def test_driver_problem_is_told() -> None:
    finding = judge_cuda(CudaProbe(problem="the probe crashed (Segmentation fault)"))
    assert finding.status is Status.MISSING
    assert "crashed" in finding.found


def backend_called(name: str) -> Backend:
    return next(backend for backend in every_backend() if backend.name == name)


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no module be found."""
    monkeypatch.setattr("runtime.probe.find_spec", lambda name: None)


def judge_absent(name: str, monkeypatch: pytest.MonkeyPatch) -> Finding:
    hide(monkeypatch)
    return judge_backend([FoundDevice(backend_called(name), None, "whatever")])


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_that_is_not_installed_says_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = judge_absent(name, monkeypatch)
    assert (finding.status, finding.found) == (Status.MISSING, "not installed")
    assert finding.needed_for
    extra = backend_called(name).extra
    if extra:
        assert extra in EXTRAS
        assert f"pip install 'heqis[{extra}]'" in finding.advice
    else:
        assert "pip install onnxruntime" in finding.advice


def test_a_backend_is_told_with_all_its_devices() -> None:
    backend = backend_called("onnxruntime")
    facts = [DeviceFact("cpu", "CPU, one thread"), DeviceFact("gpu", "Orin")]
    finding = judge_backend([FoundDevice(backend, fact, "") for fact in facts])
    assert finding.status is Status.OK
    assert finding.found.endswith(": cpu (CPU, one thread), gpu (Orin)")


def test_a_backend_without_a_device_says_why() -> None:
    finding = judge_backend([FoundDevice(backend_called("onnxruntime"), None, "no CUDA device")])
    assert finding.status is Status.MISSING
    assert finding.found.endswith(": no CUDA device")
    assert finding.advice == ""


def test_one_binding_of_cuda_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    assert judge_binding().found == "cuda-bindings"
    monkeypatch.setattr("runtime.cuda.pycuda_driver.find_spec", lambda name: None)
    assert judge_binding([PycudaDriver(), CudaBindingsDriver()]).status is Status.OK
    missing = judge_binding([PycudaDriver()])
    assert (missing.status, missing.found) == (
        Status.MISSING,
        "pycuda is not installed: pip install pycuda",
    )
    assert "cuda-bindings" in missing.advice


def test_a_converter_that_is_missing_says_what_for_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("runtime.builders.ncnn_builder.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    for finding, target in zip(converter_findings(), ("litert", "ncnn", "rk3568"), strict=True):
        assert finding.status is Status.MISSING
        assert finding.needed_for == f"heqis model build --target {target}"
        assert finding.advice


@pytest.mark.parametrize(
    ("cores", "status"), [(None, Status.MISSING), (0, Status.MISSING), (1, Status.OK)]
)
def test_only_counted_dla_cores_are_believed(cores: int | None, status: Status) -> None:
    assert judge_dla(TensorRtProbe("tensorrt", "10", cores)).status is status


def test_board_without_its_release_file_is_still_named() -> None:
    finding = judge_jetson(JetsonProbe("NVIDIA Jetson AGX Orin"))
    assert finding.found == "NVIDIA Jetson AGX Orin, JetPack unknown, no /etc/nv_tegra_release"


@pytest.mark.parametrize(
    ("npu", "status", "advice"),
    [
        (NpuProbe("rk3568", "/dev/rknpu", module=True), Status.OK, ""),
        (NpuProbe("rk3568", "/dev/rknpu"), Status.WARN, "heqis[rk3568]"),
        (NpuProbe("rk3568", None, module=True), Status.WARN, "rknpu driver"),
    ],
)
def test_npu_needs_chip_driver_and_module(npu: NpuProbe, status: Status, advice: str) -> None:
    finding = judge_npu(npu)
    assert finding.status is status
    assert advice in finding.advice
