"""Looks for the names that HEQIS uses in real TensorRT bindings, without TensorRT's libraries.

The bindings' wheels hold NVIDIA's Python module without the libraries it calls. Empty ones take
their place, so that the module loads; it is asked for names only, in a child process.

    pip download --no-deps tensorrt-cu12-bindings==10.3.0
    python tests/tensorrt_names.py tensorrt_cu12_bindings-10.3.0-*.whl
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

MODULE: Final = "tensorrt_bindings"
_LIMIT_S: Final = 60.0
_OTHERS: Final = ("Py", "_Py", "_ITM", "_ZGT", "__")
_CHILD: Final = f"""
import json
import {MODULE} as tensorrt
from runtime.tensorrt_versions import RUN_NAMES, Flavour, missing_names, rules_of
names = RUN_NAMES | rules_of(Flavour.TENSORRT, tensorrt.__version__).build_names
print(json.dumps([tensorrt.__version__, missing_names(tensorrt, names)]))
"""


def names_missing(wheel: Path) -> tuple[str, list[str]]:
    """Return the version of a wheel of bindings, and which names to build and run it lacks.

    Raises:
        RuntimeError: the module did not load.
    """
    with tempfile.TemporaryDirectory(prefix="heqis-bindings-") as directory:
        folder = Path(directory)
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)
        write_empty_libraries(folder / MODULE / "tensorrt.so", folder)
        paths = {"PYTHONPATH": f"{folder}:{Path(__file__).parents[1]}"}
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            env=os.environ | paths | {"LD_LIBRARY_PATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{wheel.name}: status {done.returncode}: {done.stderr[-500:]}")
    version, missing = json.loads(done.stdout)
    return version, missing


def write_empty_libraries(module: Path, folder: Path) -> None:
    """Compile a library for each of NVIDIA's that a module needs; the first has all its names."""
    needed = [line.split("[")[1].split("]")[0] for line in _lines("readelf", "-d", module)
              if "NEEDED" in line and "libnv" in line]  # fmt: skip
    names = [name for name in undefined_names(module) if not name.startswith(_OTHERS)]
    source = folder / "empty.c"
    source.write_text("".join(f"long {name}(void) {{ return 0; }}\n" for name in names))
    for library in needed:
        target = ["-o", str(folder / library), f"-Wl,-soname,{library}"]
        subprocess.run(["cc", "-shared", "-fPIC", "-w", *target, str(source)], check=True)
        source.write_text("")


def undefined_names(module: Path) -> list[str]:
    """Return what a compiled module wants of libraries that do not version their names."""
    wanted = [line.split()[-1] for line in _lines("nm", "-D", "--undefined-only", module)]
    return [name for name in wanted if "@" not in name]


def _lines(*command: str | Path) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def main() -> int:
    """Tell of each wheel named on the command line; 1 if one lacks a name."""
    lacking = 0
    for argument in sys.argv[1:]:
        version, missing = names_missing(Path(argument))
        lacking += bool(missing)
        sys.stdout.write(f"TensorRT {version}: {', '.join(missing) or 'has every name'}\n")
    return min(lacking, 1)


if __name__ == "__main__":
    sys.exit(main())
