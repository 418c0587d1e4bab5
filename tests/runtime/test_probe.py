"""Probing for accelerators finds what is there, and survives drivers that crash or hang."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.probe import (
    CudaDevice,
    CudaProbe,
    JetsonProbe,
    NpuProbe,
    describe_exit,
    probe_accelerators,
    probe_cuda,
    probe_jetson,
    probe_module,
    probe_npu,
    probe_tensorrt,
    read_child_output,
    read_cuda_answer,
    read_rockchip_soc,
    read_tegra_release,
)

ORIN_NX = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: x\n"
GOOD_DRIVER = """
#include <string.h>
#include <stddef.h>
int cuInit(unsigned f) { return 0; }
int cuDriverGetVersion(int *v) { *v = 12060; return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strcpy(s, d ? "Second" : "Orin"); return 0; }
int cuDeviceTotalMem_v2(size_t *m, int d) { *m = 7ull << 30; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? 7 : 1; return 0; }
int cuGetErrorName(int e, const char **s) { *s = "NONE"; return 0; }
"""
FAILING_DRIVER = """
int cuInit(unsigned f) { return 100; }
int cuGetErrorName(int e, const char **s) { *s = "CUDA_ERROR_NO_DEVICE"; return 0; }
"""
CRASHING_DRIVER = "int cuInit(unsigned f) { *(volatile int *)0 = 1; return 0; }"
HANGING_DRIVER = "#include <unistd.h>\nint cuInit(unsigned f) { for (;;) pause(); }"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the dynamic linker look here first for ``libcuda.so.1``."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    return tmp_path / "libcuda.so.1"


def build(source: str, library: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build a stand-in driver with")
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True, capture_output=True)


def test_devices_are_read_from_the_driver(driver: Path) -> None:
    build(GOOD_DRIVER, driver)
    orin = CudaDevice("Orin", 87, 7 << 30, integrated=True)
    second = CudaDevice("Second", 87, 7 << 30, integrated=True)
    assert probe_cuda() == CudaProbe("12.6", (orin, second), None)


def test_driver_that_refuses_is_told_with_its_error(driver: Path) -> None:
    build(FAILING_DRIVER, driver)
    assert probe_cuda().problem == "cuInit answered 100 (CUDA_ERROR_NO_DEVICE)"


def test_driver_that_crashes_does_not_take_us_with_it(driver: Path) -> None:
    build(CRASHING_DRIVER, driver)
    assert probe_cuda().problem == "the probe crashed (Segmentation fault)"


def test_driver_that_hangs_is_left_after_the_limit(driver: Path) -> None:
    build(HANGING_DRIVER, driver)
    assert probe_cuda(limit_s=0.5).problem == "no answer within 0.5 s"


def test_library_that_is_no_driver_is_told(driver: Path) -> None:
    driver.write_bytes(b"not a library")
    assert probe_cuda().problem


def test_this_machine_answers_for_every_accelerator() -> None:
    found = probe_accelerators()
    assert bool(found.cuda.devices) != bool(found.cuda.problem)
    if not found.cuda.devices:
        assert found.tensorrt.dla_cores is None
        assert found.tensorrt.problem


def test_tensorrt_is_not_touched_without_a_cuda_device() -> None:
    found = probe_tensorrt(CudaProbe(problem="none"))
    assert found.dla_cores is None
    assert found.problem in {"no TensorRT module", "no CUDA device"}


def test_jetson_is_known_by_its_model_and_release(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Orin NX\0")
    (tmp_path / "etc/nv_tegra_release").write_text(ORIN_NX)
    assert probe_jetson(tmp_path) == JetsonProbe("NVIDIA Jetson Orin NX", "36.4.3", 6)


def test_another_board_is_no_jetson(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Rockchip RK3568 EVB\0")
    assert probe_jetson(tmp_path) == JetsonProbe()


def test_rockchip_board_is_known_by_its_device_tree_and_driver(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/rknpu").touch()
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"friendly,r5s\0rockchip,rk3568\0")
    found = probe_npu(tmp_path)
    assert (found.soc, found.driver) == ("rk3568", "/dev/rknpu")


def test_bare_tree_has_no_npu(tmp_path: Path) -> None:
    assert probe_npu(tmp_path) == NpuProbe(module=probe_module("rknnlite").present)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ORIN_NX, ("36.4.3", 6)),
        ("# R35 (release), REVISION: 5.0, GCID: 1", ("35.5.0", 5)),
        ("# R99 (release), REVISION: 1.0", ("99.1.0", None)),
        ("something else", (None, None)),
        ("", (None, None)),
    ],
)
def test_tegra_release_is_read(text: str, expected: tuple[str | None, int | None]) -> None:
    assert read_tegra_release(text) == expected


@pytest.mark.parametrize(
    ("compatible", "soc"),
    [
        ("radxa,e25\0rockchip,rk3568\0", "rk3568"),
        ("rockchip,rk3588s\0", "rk3588s"),
        ("nvidia,tegra234\0", None),
        ("", None),
    ],
)
def test_rockchip_chip_is_read(compatible: str, soc: str | None) -> None:
    assert read_rockchip_soc(compatible) == soc


def test_driver_without_a_device_says_so() -> None:
    found = read_cuda_answer({"version": 13010, "devices": []})
    assert found == CudaProbe("13.1", (), "the driver works but has no device")


@given(text=st.text())
def test_child_output_of_any_kind_is_an_answer(text: str) -> None:
    assert isinstance(read_child_output(text), dict)


def test_child_output_is_its_last_line() -> None:
    assert read_child_output('chatter\n{"version": 1}\n') == {"version": 1}


@pytest.mark.parametrize(
    ("status", "stderr", "text"),
    [
        (-11, "", "the probe crashed (Segmentation fault)"),
        (1, "Traceback\nImportError: no nvinfer\n", "the probe failed: ImportError: no nvinfer"),
        (3, "", "the probe exited with status 3"),
    ],
)  # fmt: skip
def test_end_of_a_child_is_described(status: int, stderr: str, text: str) -> None:
    assert describe_exit(status, stderr) == text


def test_module_that_is_here_has_a_version() -> None:
    assert probe_module("numpy").version
    assert probe_module("hdrh", "hdrhistogram").version
    assert probe_module("json") == probe_module("json", "no-such-package")
    assert not probe_module("no_such_module").present
