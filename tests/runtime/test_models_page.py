"""The page about models says what the code does: keys, formats, targets, examples that run."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from tiny_models import make_mlp, random_windows

from engine.core.models import ModelShape
from runtime.bundle import Bundle
from runtime.bundle_build import BUILDERS
from runtime.catalog import BACKENDS, DEVICES
from runtime.config import InferenceConfig, ModelConfig
from runtime.manifest import Clock, Feature, Form, FormName, Manifest, Normalisation, Output, Parity
from runtime.manifest_checks import SUFFIXES
from strategies.config import StrategyConfig

PAGE: Final = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
FREE: Final = {"training", "metrics"}
PARTS: Final[dict[str, Any]] = {
    "": Manifest, "features[]": Feature, "clock": Clock, "normalisation": Normalisation,
    "output": Output, "parity": Parity, "forms[]": Form,
}  # fmt: skip


def named_in(section: str) -> list[str]:
    """Return what stands in code in the first column of a section's tables."""
    text = PAGE.split(f"## {section}", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(.*?)`", row)]


def keys_told() -> set[str]:
    told: set[str] = set()
    parent = ""
    for name in named_in("The manifest, key by key"):
        key = f"{parent}{name}" if name.startswith(".") else name
        parent = key.rpartition(".")[0]
        told.add(key)
    return told


@pytest.mark.parametrize("part", PARTS)
def test_every_key_of_the_manifest_is_told(part: str) -> None:
    keys = {f"{part}.{key}" if part else key for key in PARTS[part].__struct_fields__}
    told = keys_told()
    parents = {key.partition(".")[0] for key in told}
    assert keys <= told | parents


def test_no_key_is_told_that_there_is_not() -> None:
    keys = {
        f"{part}.{key}" if part else key
        for part, struct in PARTS.items()
        for key in struct.__struct_fields__
    }
    unknown = keys_told() - keys - set(SUFFIXES)
    assert {key for key in unknown if key.partition(".")[0] not in FREE} == set()


def test_every_format_is_told_with_its_ending() -> None:
    assert set(SUFFIXES) == set(get_args(FormName))
    for name, endings in SUFFIXES.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` | `."))
        assert all(f"`{ending}`" in row for ending in endings)


def test_every_target_is_told() -> None:
    assert named_in("Build") == list(BUILDERS)


@pytest.mark.parametrize("settings", [ModelConfig, InferenceConfig])
def test_every_configuration_key_is_told(settings: type[ModelConfig | InferenceConfig]) -> None:
    assert set(settings.model_fields) <= set(named_in("Placement"))


def test_the_configuration_shown_is_one() -> None:
    code = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    tree = tomllib.loads(code[1])
    models = [ModelConfig.model_validate(entry) for entry in tree["models"]]
    strategies = [StrategyConfig.model_validate(entry) for entry in tree["strategies"]]
    assert {entry.model or entry.confirm for entry in strategies} == {models[0].name}


def test_the_example_makes_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    shape = ModelShape(32, 2, 3)
    monkeypatch.chdir(tmp_path)
    make_mlp(Path("model.onnx"), shape)
    known = {"data_sha256": "ab" * 32, "test_windows": random_windows(shape, 300)}
    exec(compile(code[1], "docs/models.md", "exec"), known)
    assert Bundle.open("mine").shape == shape
    assert set(os.listdir("mine")) == {"manifest.json", "model.onnx", "parity.npz"}


BY_NAME: Final = {
    "ONNX Runtime": "onnxruntime", "ONNX Runtime on CUDA": "onnxruntime",
    "ONNX Runtime with TensorRT": "onnxruntime-tensorrt", "PyTorch": "torch",
    "OpenVINO": "openvino", "LiteRT": "litert", "ncnn": "ncnn", "TensorRT": "tensorrt",
    "TensorRT for RTX": "rtx",
}  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_backends_of_a_device_are_told_in_the_order_in_which_they_are_tried(device: str) -> None:
    row = re.search(rf"^\| `{device}` \| (.*?) \|$", PAGE, re.MULTILINE)
    assert row is not None
    names = row[1].replace("; behind it what else is installed and has a form: ", ", ").split(", ")
    told = [BY_NAME[name] for name in names]
    assert told == [name for name in BACKENDS if name in told]


def test_every_device_that_a_placement_may_name_is_told() -> None:
    assert set(DEVICES) <= set(named_in("Placement"))
