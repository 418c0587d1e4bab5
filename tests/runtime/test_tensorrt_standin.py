"""The TensorRT backend and cuda-bindings at work, on stand-ins for the driver and the library.

The contract battery runs in a process of its own, because a driver once loaded stays. Real are the
probe, ``cuda-bindings``, every call and its order; the GPU and NVIDIA's compiler are not.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tensorrt_names import undefined_names

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
    sources = [TESTS / "standin" / "libcuda.c", write_unused(folder / "unused.c")]
    made = folder / "libcuda.so.1"
    subprocess.run([*command, str(made), *map(str, sources), "-ldl"], check=True)
    return folder


def write_unused(path: Path) -> Path:
    """Write what pycuda, if it is here, wants to be in a driver and nothing of ours calls."""
    real = (TESTS / "standin" / "libcuda.c").read_text()
    package = find_spec("pycuda")
    places = [] if package is None else package.submodule_search_locations or []
    modules = [module for place in places for module in Path(place).glob("_driver*.so")]
    wanted = {name for module in modules for name in undefined_names(module)}
    unused = sorted(name for name in wanted if name.startswith("cu") and f" {name}(" not in real)
    path.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in unused))
    return path


def without_cuda_bindings(folder: Path) -> str:
    """Return a place for PYTHONPATH that hides cuda-bindings, so that pycuda is used."""
    if find_spec("pycuda") is None:
        pytest.skip("pycuda is not installed (extra nvidia)")
    (folder / "cuda").mkdir()
    (folder / "cuda" / "__init__.py").touch()
    return str(folder)


def run_tests(driver: Path, *arguments: str, first: str = "", **variables: str) -> str:
    places = [str(TESTS / "standin"), os.environ.get("PYTHONPATH", "")]
    environment = dict(
        os.environ,
        LD_LIBRARY_PATH=str(driver),
        PYTHONPATH=os.pathsep.join([first, *places]).strip(os.pathsep),
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


@pytest.mark.slow
@pytest.mark.parametrize("board", ["card", "jetson"])
def test_backend_keeps_its_contract_through_pycuda(
    driver: Path, tmp_path: Path, board: str
) -> None:
    variables = {"STANDIN_TENSORRT": "10.3.0", "STANDIN_DLA": "2"}
    if board == "jetson":
        variables["STANDIN_INTEGRATED"] = "1"
    hidden = without_cuda_bindings(tmp_path)
    said = run_tests(driver, "tests/runtime/test_tensorrt_backend.py", first=hidden, **variables)
    assert "no gpu" not in said
    assert "no dla:0: " not in said


def test_cuda_sessions_work_on_the_stand_in_driver(driver: Path) -> None:
    said = run_tests(driver, "tests/runtime/test_cuda.py", STANDIN_TENSORRT="10.3.0")
    assert "no CUDA device" not in said
