"""Every accelerator is judged, present or not, with what it is for."""

import pytest

from engine.doctor_devices import (
    accelerator_findings,
    device_findings,
    judge_cuda,
    judge_dla,
    judge_jetson,
    judge_npu,
    judge_tensorrt,
)
from engine.finding import Status
from runtime.probe import (
    Accelerators,
    CudaDevice,
    CudaProbe,
    JetsonProbe,
    NpuProbe,
    TensorRtProbe,
)

ORIN = CudaDevice("Orin", 87, 16 << 30, integrated=True)


def test_nothing_an_accelerator_lacks_is_ever_fatal() -> None:
    findings = device_findings()
    assert len(findings) == 10
    assert not any(finding.fatal for finding in findings)
    assert all(finding.needed_for for finding in findings)


def test_orin_is_described_with_its_gpu_and_dla() -> None:
    everything = Accelerators(
        CudaProbe("12.6", (ORIN,)),
        TensorRtProbe("tensorrt", "10.3.0", 2),
        JetsonProbe("NVIDIA Jetson Orin NX", "36.4.3", 6),
        NpuProbe(),
    )
    cuda, tensorrt, dla, jetson, npu = accelerator_findings(everything)
    assert cuda.found == "driver 12.6: Orin (SM 8.7, 16.0 GiB shared)"
    assert tensorrt.found == "tensorrt 10.3.0"
    assert dla.found == "2 cores"
    assert jetson.found == "NVIDIA Jetson Orin NX, JetPack 6, L4T 36.4.3"
    assert [f.status for f in (cuda, tensorrt, dla, jetson)] == [Status.OK] * 4
    assert npu.status is Status.MISSING


def test_driver_problem_is_told() -> None:
    finding = judge_cuda(CudaProbe(problem="the probe crashed (Segmentation fault)"))
    assert finding.status is Status.MISSING
    assert "crashed" in finding.found


def test_tensorrt_without_a_device_is_a_warning() -> None:
    finding = judge_tensorrt(TensorRtProbe("tensorrt_rtx", "1.2", problem="no CUDA device"))
    assert finding.status is Status.WARN
    assert finding.found == "tensorrt_rtx 1.2: no CUDA device"


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
        (NpuProbe("rk3568", "/dev/rknpu"), Status.WARN, "rknn-toolkit-lite2"),
        (NpuProbe("rk3568", None, module=True), Status.WARN, "rknpu driver"),
    ],
)
def test_npu_needs_chip_driver_and_module(npu: NpuProbe, status: Status, advice: str) -> None:
    finding = judge_npu(npu)
    assert finding.status is status
    assert advice in finding.advice
