"""The TensorRT backend and cuda-bindings at work, on stand-ins for the driver and the library.

The contract battery runs in a process of its own, because a driver once loaded stays. Real are the
probe, ``cuda-bindings``, every call and its order; the GPU and NVIDIA's compiler are not.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
pytest.importorskip("onnxruntime", reason="the stand-in computes with ONNX Runtime")

TESTS = Path(__file__).parents[1]
LIMIT_S = 100.0


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the stand-in driver; return its directory."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build a stand-in driver with")
    folder = tmp_path_factory.mktemp("driver")
    command = [compiler, "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-o"]
    source = TESTS / "standin" / "libcuda.c"
    subprocess.run([*command, str(folder / "libcuda.so.1"), str(source), "-ldl"], check=True)
    return folder


def run_tests(driver: Path, *arguments: str, **variables: str) -> str:
    environment = dict(
        os.environ,
        LD_LIBRARY_PATH=str(driver),
        PYTHONPATH=str(TESTS / "standin"),
        **variables,
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-rs"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "board"),
    [
        ("8.6.1", "card"),
        ("10.3.0", "card"),
        ("10.3.0", "jetson"),
        ("10.3.0", "no graphs"),
        ("11.4.1", "jetson"),
    ],
)
def test_backend_keeps_its_contract_on_every_version(
    driver: Path, version: str, board: str
) -> None:
    variables = {"STANDIN_TENSORRT": version, "STANDIN_DLA": "2"}
    if board == "jetson":
        variables["STANDIN_INTEGRATED"] = "1"
    if board == "no graphs":
        variables["STANDIN_NO_GRAPHS"] = "1"
    said = run_tests(driver, "tests/runtime/test_tensorrt_backend.py", **variables)
    assert "no gpu" not in said
    assert "no dla:0: " not in said


def test_cuda_sessions_work_on_the_stand_in_driver(driver: Path) -> None:
    said = run_tests(driver, "tests/runtime/test_cuda.py", STANDIN_TENSORRT="10.3.0")
    assert "no CUDA device" not in said
