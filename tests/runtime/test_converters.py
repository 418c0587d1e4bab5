"""Converters are other projects' programs: found where they are, and asked for where not."""

import importlib.util
from pathlib import Path

import pytest
from bundle_cases import make_bundle

from engine.core.errors import DeviceError
from runtime.builders import litert_builder, ncnn_builder
from runtime.builders.options import BuildOptions
from runtime.bundle_build import find_builder


def environment(folder: Path) -> Path:
    """Lay a virtual environment's files out, as pip installs pnnx into one."""
    for name in ("bin/python", "bin/pnnx", "lib/python3.12/site-packages/pnnx/pnnx"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("target", "tool", "how"),
    [
        ("litert", "onnx2tf", "pip install onnx2tf .* --tool"),
        ("ncnn", "pnnx", "pip install --no-deps pnnx"),
    ],
)
def test_a_missing_converter_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, tool: str, how: str
) -> None:
    if importlib.util.find_spec(tool) is not None:
        pytest.skip(f"{tool} is installed here")
    monkeypatch.setenv("PATH", str(tmp_path))
    bundle = make_bundle(tmp_path / "b")
    with pytest.raises(DeviceError, match=f"{tool} is not installed: {how}"):
        find_builder(target)(bundle, tmp_path, BuildOptions(target))


@pytest.mark.parametrize("target", ["litert", "ncnn"])
def test_a_converter_that_is_not_where_it_was_said_is_told(tmp_path: Path, target: str) -> None:
    bundle = make_bundle(tmp_path / "b")
    with pytest.raises(DeviceError, match=r"gone is not there; give .*'s program with --tool"):
        find_builder(target)(bundle, tmp_path, BuildOptions(target, tool=tmp_path / "gone"))


@pytest.mark.parametrize("said", ["python", "pnnx"])
def test_a_script_stands_for_the_program_the_wheel_brought(tmp_path: Path, said: str) -> None:
    folder = environment(tmp_path / "tools")
    found = ncnn_builder.find_tool(folder / "bin" / said)
    assert found == folder / "lib/python3.12/site-packages/pnnx/pnnx"


def test_a_program_by_itself_is_taken_as_it_is(tmp_path: Path) -> None:
    program = tmp_path / "pnnx"
    program.touch()
    assert ncnn_builder.find_tool(program) == program


def test_a_python_stands_for_the_onnx2tf_beside_it(tmp_path: Path) -> None:
    (tmp_path / "python3.12").touch()
    (tmp_path / "onnx2tf").touch()
    assert litert_builder.find_tool(tmp_path / "python3.12") == tmp_path / "onnx2tf"
