"""``heqis doctor`` says what is here, and fails only for what is required."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.core.errors import CheckFailedError


def test_table_names_every_part_of_the_machine(tmp_path: Path) -> None:
    arguments = ["doctor", "--data-dir", str(tmp_path)]
    result = CliRunner().invoke(make_app(), arguments, catch_exceptions=False)
    assert result.exit_code == 0
    for subject in (
        "Python",
        "uvloop",
        "ZeroMQ",
        "kernel cache",
        "CUDA",
        "DLA",
        "RKNN",
        "clock",
        "pnnx",
    ):
        assert subject in result.stdout


def test_json_is_one_object_with_a_verdict(tmp_path: Path) -> None:
    arguments = ["doctor", "--json", "--data-dir", str(tmp_path)]
    result = CliRunner().invoke(make_app(), arguments, catch_exceptions=False)
    answer = orjson.loads(result.stdout)
    assert answer["ok"] is True
    assert {finding["section"] for finding in answer["findings"]} == {
        "software", "host", "accelerators", "backends", "converters",
    }  # fmt: skip
    assert {finding["status"] for finding in answer["findings"]} <= {"ok", "warn", "missing"}


def test_required_part_that_is_missing_fails_the_check(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(CheckFailedError, match="data directory"):
        CliRunner().invoke(
            make_app(), ["doctor", "--json", "--data-dir", str(place)], catch_exceptions=False
        )
