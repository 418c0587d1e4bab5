"""Examines accelerators and inference libraries: all optional, each named with what it is for."""

from typing import Final

from engine.finding import Finding, Status
from runtime.probe import (
    Accelerators,
    CudaProbe,
    JetsonProbe,
    NpuProbe,
    TensorRtProbe,
    probe_accelerators,
    probe_module,
)

_GIB: Final = 1 << 30
_LIBRARIES: Final = (
    ("ONNX Runtime", "onnxruntime", "onnxruntime", "models on the CPU"),
    ("OpenVINO", "openvino", "openvino", "models on Intel CPUs and GPUs"),
    ("LiteRT", "ai_edge_litert", "ai-edge-litert", "TensorFlow Lite models on the CPU"),
    ("ncnn", "ncnn", "ncnn", "models on Arm CPUs"),
    ("PyTorch", "torch", "torch", "training, and models on a desktop GPU"),
)


def device_findings() -> list[Finding]:
    """Examine the accelerators of this machine; may take some seconds."""
    return [*accelerator_findings(probe_accelerators()), *library_findings()]


def accelerator_findings(found: Accelerators) -> list[Finding]:
    """Judge what the probes found."""
    return [
        judge_cuda(found.cuda),
        judge_tensorrt(found.tensorrt),
        judge_dla(found.tensorrt),
        judge_jetson(found.jetson),
        judge_npu(found.npu),
    ]


def library_findings() -> list[Finding]:
    """Look for inference libraries."""
    return [_library(*library) for library in _LIBRARIES]


def judge_cuda(cuda: CudaProbe) -> Finding:
    """Judge the GPU."""
    needed_for = "models on an NVIDIA GPU"
    if not cuda.devices:
        advice = "with an NVIDIA GPU: install its driver (Jetson: JetPack)"
        return Finding("CUDA", Status.MISSING, cuda.problem or "no device", needed_for, advice)
    names = ", ".join(
        f"{device.name} (SM {device.sm / 10:.1f}, {device.memory_bytes / _GIB:.1f} GiB"
        f"{' shared' if device.integrated else ''})"
        for device in cuda.devices
    )
    return Finding("CUDA", Status.OK, f"driver {cuda.driver_version}: {names}", needed_for)


def judge_tensorrt(tensorrt: TensorRtProbe) -> Finding:
    """Judge TensorRT."""
    needed_for = "the fastest models on GPU and DLA"
    if tensorrt.module is None:
        advice = "Jetson: JetPack's python3-libnvinfer in a venv with system packages"
        return Finding("TensorRT", Status.MISSING, "not installed", needed_for, advice)
    found = f"{tensorrt.module} {tensorrt.version or 'of unknown version'}"
    if tensorrt.problem:
        return Finding("TensorRT", Status.WARN, f"{found}: {tensorrt.problem}", needed_for)
    return Finding("TensorRT", Status.OK, found, needed_for)


def judge_dla(tensorrt: TensorRtProbe) -> Finding:
    """Judge the deep-learning accelerators, of which only TensorRT's own count is believed."""
    cores = tensorrt.dla_cores
    found = "not asked: " + (tensorrt.problem or "no answer") if cores is None else f"{cores} cores"
    status = Status.OK if cores else Status.MISSING
    return Finding("DLA", status, found, "models beside the GPU, on Orin NX and AGX Orin")


def judge_jetson(jetson: JetsonProbe) -> Finding:
    """Judge the board."""
    if jetson.model is None and jetson.l4t is None:
        return Finding("Jetson", Status.MISSING, "this is no Jetson", "the engine's intended board")
    release = f"L4T {jetson.l4t}" if jetson.l4t else "no /etc/nv_tegra_release"
    jetpack = f"JetPack {jetson.jetpack}" if jetson.jetpack else "JetPack unknown"
    found = f"{jetson.model or 'unknown model'}, {jetpack}, {release}"
    return Finding("Jetson", Status.OK, found, "the engine's intended board")


def judge_npu(npu: NpuProbe) -> Finding:
    """Judge the Rockchip NPU: chip, driver and module must all be there."""
    needed_for = "models on a Rockchip NPU"
    if npu.soc is None and npu.driver is None:
        return Finding("RKNN", Status.MISSING, "no Rockchip NPU", needed_for)
    parts = [npu.soc or "unknown chip", npu.driver or "no driver"]
    parts.append("rknnlite" if npu.module else "no rknnlite")
    advice = ""
    if npu.driver is None:
        advice = "use a kernel with the vendor's rknpu driver"
    elif not npu.module:
        advice = "install rknn-toolkit-lite2 (CPython up to 3.12)"
    return Finding(
        "RKNN", Status.WARN if advice else Status.OK, ", ".join(parts), needed_for, advice
    )


def _library(subject: str, module: str, package: str, needed_for: str) -> Finding:
    found = probe_module(module, package)
    if not found.present:
        return Finding(
            subject, Status.MISSING, "not installed", needed_for, f"pip install {package}"
        )
    return Finding(subject, Status.OK, found.version or "installed", needed_for)
