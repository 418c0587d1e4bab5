"""rknn-toolkit2 in a virtual environment of its own, spoken to through a child process.

The toolkit wants packages too old for HEQIS (numpy 1, onnx 1.18). Its environment is made once;
a child in it converts models and simulates the NPU, so that a form is proved before it is shipped.
"""

import json
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Floats, ModelShape

VERSION: Final = "2.5.0"
ENVIRONMENT: Final = Path("var") / f"rknn-toolkit2-{VERSION}"
OPEN_LIMIT_S: Final = 300.0
RUN_LIMIT_S: Final = 120.0
INSTALL_LIMIT_S: Final = 1800.0
_CHILD: Final = Path(__file__).with_name("rknn_child.py")
_NEWEST_PYTHON: Final = (3, 12)
_KEPT_STDERR: Final = 4096

NEEDS: Final = (
    "setuptools<80",
    "numpy==1.26.4",
    "protobuf==4.25.4",
    "onnx==1.18.0",
    "onnxruntime<1.24",
    "torch==2.13.0",
    "psutil",
    "ruamel.yaml",
    "scipy",
    "tqdm",
    "opencv-python-headless<4.12",
    "fast-histogram",
)
"""What the toolkit imports; its own metadata asks for a torch too old to be had everywhere."""


class Toolkit:
    """One child that converts and simulates models. Close it, or use it as a context.

    May be used by several threads; it answers one at a time.

    Args:
        python: Interpreter of the toolkit's environment.
    """

    def __init__(self, python: Path) -> None:
        if not python.exists():
            raise DeviceError(
                f"rknn-toolkit2 is not installed in {python.parent.parent}; "
                "heqis model build --target rk3568 makes that environment"
            )
        self._lock = threading.Lock()
        self._said = _Said()
        self._child = subprocess.Popen(
            [str(python), "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self._child.stderr is not None:
            self._said.follow(self._child.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(
        self,
        onnx: Path,
        shape: ModelShape,
        *,
        chip: str = "rk3568",
        input_name: str = "window",
        calibration: Floats | None = None,
        out: Path | None = None,
    ) -> int:
        """Convert a model and start the simulator on it.

        Args:
            onnx: The fp32 model.
            shape: Of one request.
            chip: The toolkit's name of the target.
            input_name: The model's input.
            calibration: Shape (N, W, F) for INT8, None for fp16.
            out: Where the ``.rknn`` file goes, None for nowhere.

        Returns:
            The model's number.

        Raises:
            BundleError: the toolkit does not take the model.
            DeviceError: the toolkit failed or did not answer in time.
        """
        with TemporaryDirectory(prefix="heqis-calibration-") as folder:
            rows = Path(folder) / "rows.npy"
            if calibration is not None:
                np.save(rows, calibration)
            request = {
                "do": "open",
                "onnx": str(onnx.resolve()),
                "window": shape.window,
                "features": shape.features,
                "chip": chip,
                "input": input_name,
                "calibration": str(rows) if calibration is not None else None,
                "out": str(out.resolve()) if out is not None else None,
            }
            answer = self._ask(request, b"", OPEN_LIMIT_S)
        if not answer["ok"]:
            raise BundleError(onnx, f"rknn-toolkit2: {answer['problem']}; {self._said.last}")
        return int(answer["model"])

    def run(self, model: int, rows: Floats) -> Floats:
        """Compute rows on the simulator.

        Args:
            model: Its number.
            rows: Shape (N, W, F).

        Returns:
            Shape (N, O).

        Raises:
            DeviceError: the toolkit failed or did not answer in time.
        """
        content = np.ascontiguousarray(rows, dtype=np.float32).tobytes()
        answer = self._ask(
            {"do": "run", "model": model, "bytes": len(content)}, content, RUN_LIMIT_S
        )
        if not answer["ok"]:
            raise DeviceError(f"rknn-toolkit2: {answer['problem']}; {self._said.last}")
        return np.asarray(answer["rows"], dtype=np.float32)

    def release(self, model: int) -> None:
        """Let a model go.

        Raises:
            DeviceError: the toolkit ended or did not answer in time.
        """
        self._ask({"do": "close", "model": model}, b"", RUN_LIMIT_S)

    def close(self) -> None:
        """End the child; closing twice does nothing."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._said.join()

    def _ask(self, request: dict[str, Any], content: bytes, limit_s: float) -> dict[str, Any]:
        timer = threading.Timer(limit_s, self._child.kill)
        with self._lock:
            timer.start()
            try:
                return self._exchange(request, content)
            except (OSError, ValueError) as error:
                raise DeviceError(f"rknn-toolkit2 ended: {self._said.last or error}") from error
            finally:
                timer.cancel()

    def _exchange(self, request: dict[str, Any], content: bytes) -> dict[str, Any]:
        to, back = self._child.stdin, self._child.stdout
        if to is None or back is None or to.closed:
            raise DeviceError("rknn-toolkit2 is closed")
        to.write(json.dumps(request).encode() + b"\n" + content)
        to.flush()
        answer: dict[str, Any] = json.loads(back.readline())
        if answer["ok"] and "shape" in answer:
            count, outputs = answer["shape"]
            rows = np.frombuffer(back.read(4 * count * outputs), np.float32)
            answer["rows"] = rows.reshape(count, outputs)
        return answer


class _Said:
    """The end of what the child writes on stderr, read by a thread so that it never blocks."""

    def __init__(self) -> None:
        self._kept = b""
        self._thread: threading.Thread | None = None

    def follow(self, stream: IO[bytes]) -> None:
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    @property
    def last(self) -> str:
        lines = self._kept.decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if line.startswith(("E ", "\x1b[1;31mE"))]
        return (errors or lines or [""])[-1].strip()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while chunk := stream.read1(_KEPT_STDERR):  # type: ignore[attr-defined] # a pipe has it
                self._kept = (self._kept + chunk)[-_KEPT_STDERR:]


def toolkit_python(environment: Path = ENVIRONMENT) -> Path:
    """Return the interpreter of an environment, whether it is there or not."""
    return environment / "bin" / "python"


def make_environment(environment: Path = ENVIRONMENT) -> Path:
    """Make the toolkit's environment if it is not there; takes minutes and a gigabyte of disk.

    Returns:
        Its interpreter.

    Raises:
        DeviceError: there is no Python it works with, or a package could not be installed.
    """
    python = toolkit_python(environment)
    marker = environment / "complete"
    if marker.exists() and python.exists():
        return python
    base = _base_python()
    _install([base, "-m", "venv", "--clear", str(environment)])
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    _install([*pip, *NEEDS])
    _install([*pip, "--no-deps", f"rknn-toolkit2=={VERSION}"])
    marker.touch()
    return python


def _base_python() -> str:
    if sys.version_info[:2] <= _NEWEST_PYTHON:
        return sys.executable
    found = shutil.which("python3.12") or shutil.which("python3.11")
    if found is None:
        raise DeviceError("rknn-toolkit2 needs Python 3.11 or 3.12, and neither is here")
    return found


def _install(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"rknn-toolkit2 could not be installed: {error}") from error
    if done.returncode:
        last = done.stderr.strip().rsplit("\n", 1)[-1]
        raise DeviceError(f"rknn-toolkit2 could not be installed: {last}")
