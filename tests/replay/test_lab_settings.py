"""The configuration of the lab's engine: the user's own, wherever it is written."""

from pathlib import Path

import pytest

from engine.config import load_config
from engine.config_text import config_toml
from replay.lab.settings import lab_config

CONFIG = """
plugins = ["own.py"]
bars = [{ name = "1s", interval = "1s" }]
models = [{ name = "tcn", bundle = "../models/one", shadow = "../models/two", on = "1s" }]
"""


def test_plugins_and_bundles_of_a_relative_configuration_are_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    mine = load_config(["configs/mine.toml"], {})
    out = tmp_path / "out" / "run"
    out.mkdir(parents=True)
    made = lab_config(mine, out, "tcp://127.0.0.1:1", "tcp://127.0.0.1:2", 3)
    file = out / "engine.toml"
    file.write_text(config_toml(made), encoding="utf-8")
    found = load_config([file], {})
    assert found == made
    assert found.plugins[0].resolve() == tmp_path / "configs" / "own.py"
    model = found.models[0]
    assert model.bundle.resolve() == tmp_path / "models" / "one"
    assert model.shadow is not None
    assert model.shadow.resolve() == tmp_path / "models" / "two"
