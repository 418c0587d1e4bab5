"""What this machine can compute on, found out without risking the process.

A broken CUDA driver or TensorRT segfaults whoever touches it, so both are asked in a child process
with a time limit. Everything else is a file or the presence of a module, which is not imported.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

CHILD_LIMIT_S: Final = 20.0
_CHILD: Final = Path(__file__).with_name("probe_child.py")
TENSORRT_MODULES: Final = ("tensorrt", "tensorrt_lean", "tensorrt_rtx")
_JETPACK_OF_L4T: Final = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}
_NPU_DRIVER: Final = ("dev/rknpu", "sys/bus/platform/drivers/RKNPU")
_TEGRA_RELEASE: Final = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")
_ROCKCHIP: Final = re.compile(r"rockchip,(rk3\d{3}\w?|rv11\d{2}\w?)")


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """One NVIDIA GPU as its driver describes it."""

    name: str
    sm: int
    """Compute capability times ten: 87 is Orin."""
    memory_bytes: int
    integrated: bool
    """It shares the host's memory."""


@dataclass(frozen=True, slots=True)
class CudaProbe:
    """What the CUDA driver said; no device without a reason in ``problem``."""

    driver_version: str | None = None
    devices: tuple[CudaDevice, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TensorRtProbe:
    """Which TensorRT there is, and its deep-learning accelerators.

    ``dla_cores`` is None where it could not be asked (no working CUDA driver, or no TensorRT).
    """

    module: str | None = None
    version: str | None = None
    dla_cores: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class JetsonProbe:
    """The board, if it is a Jetson: its model and its system release."""

    model: str | None = None
    l4t: str | None = None
    jetpack: int | None = None


@dataclass(frozen=True, slots=True)
class NpuProbe:
    """A Rockchip NPU: the chip, a sign of its kernel driver, and whether ``rknnlite`` is here."""

    soc: str | None = None
    driver: str | None = None
    module: bool = False


@dataclass(frozen=True, slots=True)
class ModuleProbe:
    """Whether a module can be found, without importing it, and its package's version."""

    module: str
    present: bool
    version: str | None


@dataclass(frozen=True, slots=True)
class Accelerators:
    """All of it."""

    cuda: CudaProbe
    tensorrt: TensorRtProbe
    jetson: JetsonProbe
    npu: NpuProbe


def probe_accelerators(root: Path = Path("/")) -> Accelerators:
    """Ask this machine; takes up to two child processes, each limited to ``CHILD_LIMIT_S``.

    Args:
        root: Where ``/proc``, ``/dev`` and ``/etc`` are looked for.
    """
    cuda = probe_cuda()
    return Accelerators(cuda, probe_tensorrt(cuda), probe_jetson(root), probe_npu(root))


def probe_cuda(limit_s: float = CHILD_LIMIT_S) -> CudaProbe:
    """Ask the CUDA driver in a child process."""
    return read_cuda_answer(_ask_child(["cuda"], limit_s))


def probe_tensorrt(
    cuda: CudaProbe,
    limit_s: float = CHILD_LIMIT_S,
    modules: Sequence[str] = TENSORRT_MODULES,
) -> TensorRtProbe:
    """Look for TensorRT; count DLA cores in a child process, only if CUDA has a device."""
    module = next((name for name in modules if find_spec(name)), None)
    if module is None:
        return TensorRtProbe(problem="no TensorRT module")
    if not cuda.devices:
        return TensorRtProbe(module, probe_module(module).version, problem="no CUDA device")
    answer = _ask_child(["tensorrt", module], limit_s)
    return TensorRtProbe(
        module, answer.get("version"), answer.get("dla_cores"), answer.get("problem")
    )


def probe_jetson(root: Path = Path("/")) -> JetsonProbe:
    """Read the board's model and its release files."""
    model = _read_text(root / "proc/device-tree/model").strip("\0\n ")
    l4t, jetpack = read_tegra_release(_read_text(root / "etc/nv_tegra_release"))
    is_jetson = bool(l4t) or any(word in model for word in ("Jetson", "Tegra", "NVIDIA"))
    return JetsonProbe(model if is_jetson and model else None, l4t, jetpack)


def probe_npu(root: Path = Path("/")) -> NpuProbe:
    """Look for a Rockchip chip in the device tree, its NPU's device and its module."""
    soc = read_rockchip_soc(_read_text(root / "proc/device-tree/compatible"))
    driver = next((place for place in _NPU_DRIVER if (root / place).exists()), None)
    module = find_spec("rknnlite") is not None
    return NpuProbe(soc, f"/{driver}" if driver else None, module)


def probe_module(module: str, package: str | None = None) -> ModuleProbe:
    """Look for a top-level module.

    Args:
        module: Its name.
        package: The installed package that has it, if it is called otherwise.
    """
    if find_spec(module) is None:
        return ModuleProbe(module, present=False, version=None)
    try:
        return ModuleProbe(module, present=True, version=version(package or module))
    except PackageNotFoundError:
        return ModuleProbe(module, present=True, version=None)


def read_cuda_answer(answer: dict[str, Any]) -> CudaProbe:
    """Turn the child's answer into a probe."""
    if "version" not in answer:
        return CudaProbe(problem=str(answer.get("problem", "no answer")))
    major, minor = divmod(int(answer["version"]), 1000)
    devices = tuple(CudaDevice(**device) for device in answer["devices"])
    problem = None if devices else "the driver works but has no device"
    return CudaProbe(f"{major}.{minor // 10}", devices, problem)


def read_tegra_release(text: str) -> tuple[str | None, int | None]:
    """Read ``/etc/nv_tegra_release``: the L4T version and the JetPack generation it belongs to."""
    match = _TEGRA_RELEASE.search(text)
    if match is None:
        return None, None
    return f"{match[1]}.{match[2]}", _JETPACK_OF_L4T.get(int(match[1]))


def read_rockchip_soc(compatible: str) -> str | None:
    """Find the chip in the NUL-separated strings of ``/proc/device-tree/compatible``."""
    match = _ROCKCHIP.search(compatible)
    return match[1] if match else None


def describe_exit(status: int, stderr: str) -> str:
    """Say how a child ended that gave no answer."""
    if status < 0:
        return f"the probe crashed ({signal.strsignal(-status) or -status})"
    last = stderr.strip().rsplit("\n", 1)[-1]
    return f"the probe failed: {last}" if last else f"the probe exited with status {status}"


def read_child_output(stdout: str) -> dict[str, Any]:
    """Read the last line a child wrote; libraries may have chattered above it."""
    try:
        answer = json.loads(stdout.strip().rsplit("\n", 1)[-1])
    except ValueError:
        return {"problem": "the probe gave no answer"}
    return answer if isinstance(answer, dict) else {"problem": "the probe gave no answer"}


def _ask_child(arguments: list[str], limit_s: float) -> dict[str, Any]:
    command = [sys.executable, "-P", str(_CHILD), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"problem": f"no answer within {limit_s:g} s"}
    if done.returncode:
        return {"problem": describe_exit(done.returncode, done.stderr)}
    return read_child_output(done.stdout)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
