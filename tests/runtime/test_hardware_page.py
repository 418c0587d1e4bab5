"""The page about hardware: its commands are commands, its figures are within their tolerances."""

import math
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from backend_battery import BackendBattery

from engine.cli.main import make_app
from runtime.builders.calibration import calibration_rows
from runtime.bundle import Bundle
from runtime.bundle_build import find_builder
from runtime.catalog import BACKENDS

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
TITLES: Final = {
    "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT", "ncnn": "ncnn",
    "torch": "PyTorch", "rknn": "rknnlite", "tensorrt": "TensorRT", "rtx": "TensorRT for RTX",
    "onnxruntime-tensorrt": "TensorRT providers",
}  # fmt: skip


def commands() -> list[list[str]]:
    """Return the words of every command that the page shows."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    prompts = [re.match(r"\s*(?:\w+)?\$ (.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in prompts if match]


def of_program(name: str) -> list[list[str]]:
    """Return the arguments of a program's calls, without variables set in front of it."""
    calls = [[word for word in words if not re.match(r"[A-Z_]+=", word)] for words in commands()]
    return [words[1:] for words in calls if words[0].rpartition("/")[2] == name]


def cases(test: Any) -> int:
    """Return how many tests a function with its parameters is."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    return math.prod(len(mark.args[1]) for mark in marks)


def rows(section: str) -> Iterator[list[str]]:
    """Yield the cells of a section's tables, heads and rules left out."""
    text = PAGE.split(f"## {section}", 1)[1].split("\n## ", 1)[0]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and not set(line) <= set("|-: "):
            yield cells


def test_the_page_shows_the_three_commands_a_board_owner_runs() -> None:
    shown = {tuple(words[:2]) for words in of_program("heqis")}
    assert {("doctor",), ("model", "check"), ("model", "build"), ("bench", "runtime")} <= shown


@pytest.mark.parametrize("words", of_program("heqis"), ids=" ".join)
def test_every_heqis_command_is_one(words: list[str]) -> None:
    command: Any = typer.main.get_command(make_app())
    while hasattr(command, "commands"):
        assert words[0] in command.commands
        command, words = command.commands[words[0]], words[1:]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


@pytest.mark.parametrize("target", sorted(set(re.findall(r"--target ([\w:+]+)", PAGE))))
def test_every_target_has_a_builder(target: str) -> None:
    assert callable(find_builder(target))


def test_every_test_and_script_that_is_named_exists() -> None:
    named = set(re.findall(r"\b((?:tests|models|runtime|docs)/[\w/.-]+[\w])", PAGE))
    assert {"tests/backend_battery.py", "tests/rknn_forms.py", "models/demo-tcn"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_extra_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {one for group in re.findall(r"\.\[([\w,]+)\]", PAGE) for one in group.split(",")}
    assert {"nvidia", "rtx", "rk3568", "train"} <= named <= set(project["optional-dependencies"])


def test_every_backend_has_its_row_and_the_battery_its_count() -> None:
    table = list(rows("The contract battery"))[1:]
    count = sum(cases(test) for name, test in vars(BackendBattery).items() if "test_" in name[:5])
    assert set(TITLES) == set(BACKENDS)
    for title in TITLES.values():
        assert any(title in cells[0] for cells in table), f"no row for {title}"
    for cells in table:
        told = re.match(r"(\d+) passed", cells[2])
        assert told is None or int(told[1]) == count


def test_the_calibration_set_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    short = code[1].replace("stop_s=1200", "stop_s=120")
    assert short != code[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "var").mkdir()
    exec(compile(short, "docs/hardware.md", "exec"), {})
    bundle = Bundle.open(ROOT / "models" / "demo-tcn")
    rows = calibration_rows(bundle, tmp_path / "var" / "calibration.npz")
    assert len(rows) == 1024


def test_every_difference_that_is_told_is_within_the_tolerance_of_the_bundle() -> None:
    told = [cells for cells in rows("The demo model, form by form") if len(cells) == 6][1:]
    bundle = Bundle.open(ROOT / "models" / "demo-tcn")
    stated = set(bundle.manifest.parity.tolerance.values())
    measured = [cells for cells in told if cells[5]]
    assert len(measured) == 11
    for cells in measured:
        greatest, rms, tolerance = map(float, cells[3:])
        assert rms <= greatest <= tolerance
        assert tolerance in stated
