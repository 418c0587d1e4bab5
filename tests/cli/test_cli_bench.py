"""``heqis bench runtime``: what it prints, for people and machines, and its exit statuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine.cli.main import make_app
from engine.core.errors import CheckFailedError, ConfigError
from runtime.bundle import Bundle
from runtime.bundle_writer import write_bundle

DEMO = Path(__file__).parents[2] / "models" / "demo-tcn"
BRIEF = ("--device", "onnxruntime@cpu", "--max-batch", 4, "--seconds", 0.002)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(make_app(), ["bench", "runtime", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_demo_model_is_measured_without_naming_it() -> None:
    found: dict[str, Any] = json.loads(run(*BRIEF, "--json").stdout)
    (result,) = found["results"]
    assert found["identity"] == Bundle.open(DEMO).identity
    assert (result["backend"], result["device"], result["problem"]) == ("onnxruntime", "cpu", "")
    assert [one["batch"] for one in result["calls"]] == [1, 2, 4]
    assert {"p50_us", "p99_us", "rows_per_s"} <= result["calls"][0].keys()
    assert result["saturated_rows_per_s"] > 0
    assert result["load_ms"] > 0


def test_people_get_a_table_of_forms_and_one_of_batch_sizes() -> None:
    lines = run(DEMO, *BRIEF).stdout.splitlines()
    assert "demo-tcn@1" in lines[0]
    assert any("onnxruntime@cpu" in line and "%" in line for line in lines)
    sizes = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0].isdigit()]
    assert sizes == ["1", "2", "4"]


def test_device_that_is_not_here_is_an_error_that_names_those_that_are() -> None:
    with pytest.raises(ConfigError, match="onnxruntime@cpu"):
        run(DEMO, "--device", "abacus")


def test_bundle_of_which_nothing_runs_is_a_failed_check(tmp_path: Path) -> None:
    demo = Bundle.open(DEMO)
    unknown_operator = demo.reference.path.read_bytes().replace(b"Softmax", b"Softmix")
    files: dict[str, Path | bytes] = {demo.manifest.reference.file: unknown_operator}
    bundle = write_bundle(tmp_path / "broken", demo.manifest, files, *demo.parity())
    with pytest.raises(CheckFailedError, match="nothing here could be measured"):
        run(bundle.path, *BRIEF)
