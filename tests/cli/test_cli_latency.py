"""``heqis latency`` prints and draws a log, and names what is wrong with a file."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.core.errors import InputFileError, UserError
from latency.histogram import StageHistograms
from latency.hlog import HlogWriter
from latency.stages import Stage

START_NS = 1_700_000_000_000_000_000


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    path = tmp_path / "live.hlog"
    histograms = StageHistograms()
    with HlogWriter(path, START_NS) as writer:
        for turn in range(3):
            for value in range(100):
                histograms.record_value(Stage.COMPUTE, 1_000 + value * turn)
            begin = START_NS + turn * 10**9
            writer.append_all(histograms.take_interval(), begin, begin + 10**9)
    return path


def test_table_and_plot_come_out_of_one_command(log_path: Path) -> None:
    result = CliRunner().invoke(make_app(), ["latency", str(log_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "compute" in result.stdout
    assert "p99.9" in result.stdout
    assert log_path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_json_is_one_object_with_units(log_path: Path, tmp_path: Path) -> None:
    plot = tmp_path / "out.svg"
    arguments = ["latency", str(log_path), "-o", str(plot), "--json"]
    result = CliRunner().invoke(make_app(), arguments, catch_exceptions=False)
    fields = orjson.loads(result.stdout)
    assert fields["latency"]["compute"]["count"] == 300
    assert fields["intervals"] == 3
    assert fields["end_wall_ns"] - fields["start_wall_ns"] == 3 * 10**9
    assert fields["plot"] == str(plot)
    assert b"<svg" in plot.read_bytes()


def test_no_plot_writes_nothing(log_path: Path) -> None:
    arguments = ["latency", str(log_path), "--no-plot", "--json"]
    result = CliRunner().invoke(make_app(), arguments, catch_exceptions=False)
    assert orjson.loads(result.stdout)["plot"] is None
    assert not log_path.with_suffix(".png").exists()


def test_missing_file_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"no\.hlog: cannot be read"):
        CliRunner().invoke(
            make_app(), ["latency", str(tmp_path / "no.hlog")], catch_exceptions=False
        )


def test_damaged_line_is_named_by_file_and_line(log_path: Path) -> None:
    log_path.write_text(log_path.read_text() + "nonsense\n")
    with pytest.raises(InputFileError, match=r"live\.hlog: line 9: not an interval line"):
        CliRunner().invoke(make_app(), ["latency", str(log_path)], catch_exceptions=False)


def test_plot_that_cannot_be_written_is_the_users_to_mend(log_path: Path) -> None:
    for output in ("/nowhere/plot.png", str(log_path.with_suffix(".xyz"))):
        with pytest.raises(UserError, match="plot"):
            CliRunner().invoke(
                make_app(), ["latency", str(log_path), "-o", output], catch_exceptions=False
            )


def test_command_exits_2_without_a_traceback_on_a_file_that_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "x.hlog"
    path.write_text("")
    command = [sys.executable, "-c", "from engine.cli import main; main()", "latency", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "is it an .hlog file?" in done.stderr
    assert "Traceback" not in done.stderr
