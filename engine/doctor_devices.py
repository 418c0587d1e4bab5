"""Examines accelerators, backends and converters: all optional, each named with what it is for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.core.errors import DeviceError
from engine.finding import Finding, Status
from runtime.builders import litert_builder, ncnn_builder
from runtime.catalog import FoundDevice, found_devices
from runtime.cuda.interface import CudaDriver
from runtime.cuda.select import DRIVERS, missing_drivers
from runtime.probe import (
    Accelerators,
    CudaProbe,
    JetsonProbe,
    NpuProbe,
    TensorRtProbe,
    probe_accelerators,
    probe_module,
)
from runtime.rknn_toolkit import toolkit_python

_GIB: Final = 1 << 30


class _Library(NamedTuple):
    title: str
    module: str
    package: str
    needed_for: str
    install: str = ""


_LIBRARIES: Final = {
    "onnxruntime": _Library(
        "ONNX Runtime", "onnxruntime", "onnxruntime", "models on the CPU; NVIDIA GPUs through CUDA",
        "pip install onnxruntime",
    ),
    "onnxruntime-tensorrt": _Library(
        "ONNX Runtime, TensorRT", "onnxruntime", "onnxruntime", "NVIDIA GPUs through its TensorRT",
        "pip install onnxruntime-gpu",
    ),
    "tensorrt": _Library(
        "TensorRT", "tensorrt", "tensorrt", "the fastest models on NVIDIA's GPU and DLA",
        "pip install 'heqis[nvidia]'; on a Jetson: JetPack's python3-libnvinfer, for this Python, "
        "in a venv with system packages",
    ),
    "rtx": _Library(
        "TensorRT for RTX", "tensorrt_rtx", "tensorrt-rtx-cu13",
        "the fastest models on a desktop's RTX card; building for one anywhere",
    ),
    "rknn": _Library(
        "rknnlite", "rknnlite", "rknn-toolkit-lite2", "models on a Rockchip NPU",
        "pip install 'heqis[rk3568]', on Python 3.12 at most",
    ),
    "openvino": _Library("OpenVINO", "openvino", "openvino", "models on Intel and other CPUs"),
    "litert": _Library("LiteRT", "ai_edge_litert", "ai-edge-litert", "TensorFlow Lite models"),
    "ncnn": _Library("ncnn", "ncnn", "ncnn", "models on Arm CPUs"),
    "torch": _Library("PyTorch", "torch", "torch", "training, and models on a desktop GPU"),
}  # fmt: skip
"""What people call each backend and its library, and what it is for."""


def device_findings() -> list[Finding]:
    """Examine the accelerators of this machine; may take some seconds."""
    return accelerator_findings(probe_accelerators())


def accelerator_findings(found: Accelerators) -> list[Finding]:
    """Judge what the probes found."""
    return [
        judge_cuda(found.cuda),
        judge_binding(),
        judge_dla(found.tensorrt),
        judge_jetson(found.jetson),
        judge_npu(found.npu),
    ]


def backend_findings() -> list[Finding]:
    """Say of every backend which devices it has here, or what it lacks; may take some seconds."""
    found: dict[str, list[FoundDevice]] = {}
    for each in found_devices():
        found.setdefault(each.backend.name, []).append(each)
    return [judge_backend(devices) for devices in found.values()]


def converter_findings() -> list[Finding]:
    """Look for what ``heqis model build`` needs of other projects."""
    return [
        _judge_tool(
            "onnx2tf", _tool_problem(litert_builder.find_tool), "heqis model build --target litert"
        ),
        _judge_tool(
            "pnnx", _tool_problem(ncnn_builder.find_tool), "heqis model build --target ncnn"
        ),
        _judge_tool("rknn-toolkit2", _toolkit_problem(), "heqis model build --target rk3568"),
    ]


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


def judge_binding(drivers: Sequence[CudaDriver] = DRIVERS) -> Finding:
    """Judge the Python bindings of CUDA: one is enough, the first that is here is used."""
    needed_for = "TensorRT's memory, streams and graphs"
    for driver in drivers:
        if not driver.missing():
            return Finding("CUDA binding", Status.OK, driver.name, needed_for)
    advice = "pip install cuda-bindings, of the driver's major version"
    return Finding("CUDA binding", Status.MISSING, missing_drivers(drivers), needed_for, advice)


def judge_backend(found: Sequence[FoundDevice]) -> Finding:
    """Judge one backend by all its devices, or by why it has none."""
    backend = found[0].backend
    library = _LIBRARIES[backend.name]
    module = probe_module(library.module, library.package)
    devices = [each.fact for each in found if each.fact is not None]
    if not module.present:
        advice = library.install or f"pip install 'heqis[{backend.extra}]'"
        return Finding(library.title, Status.MISSING, "not installed", library.needed_for, advice)
    version = f"{module.version or 'of unknown version'}: "
    if devices:
        told = ", ".join(f"{fact.device} ({fact.title})" for fact in devices)
        return Finding(library.title, Status.OK, version + told, library.needed_for)
    return Finding(library.title, Status.MISSING, version + found[0].missing, library.needed_for)


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
        advice = "pip install 'heqis[rk3568]', on Python 3.12 at most"
    return Finding(
        "RKNN", Status.WARN if advice else Status.OK, ", ".join(parts), needed_for, advice
    )


def _judge_tool(name: str, problem: str, needed_for: str) -> Finding:
    if not problem:
        return Finding(name, Status.OK, "found", needed_for)
    found, _, advice = problem.partition(": ")
    return Finding(name, Status.MISSING, found, needed_for, advice)


def _tool_problem(find_tool: Callable[[Path | None], Path]) -> str:
    try:
        find_tool(None)
    except DeviceError as error:
        return str(error)
    return ""


def _toolkit_problem() -> str:
    python = toolkit_python()
    if python.exists():
        return ""
    return f"no {python.parent.parent}: the first build makes it, in minutes and 1.5 GB"
