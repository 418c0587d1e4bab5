"""``heqis log``: what it prints, and its exit statuses, as a process and in process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from frame_cases import make_instruments, make_ticks, write_log
from typer.testing import CliRunner, Result

from engine.cli.main import make_app
from engine.core.errors import CheckFailedError, ConfigError, InputFileError


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(make_app(), ["log", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "a.hql", make_ticks(100))


def test_info_tells_people_and_machines(log: Path) -> None:
    fields = json.loads(run("info", log, "--json").stdout)
    assert fields["records"] == {"INSTRUMENTS": 2, "TICK": 100}
    assert fields["ticks"]["TRADE"] == 25
    text = run("info", log).stdout
    assert "TRADE 25" in text
    assert "2023-11-14T22:13:20.000000000" in text
    assert "SYM0.X" in text


def test_verify_passes_a_whole_log(log: Path) -> None:
    assert json.loads(run("verify", log, "--json").stdout)["ok"] is True
    assert "torn_bytes" in run("verify", log).stdout


def test_verify_fails_on_damage_after_printing_the_report(log: Path) -> None:
    data = log.read_bytes()
    log.write_bytes(data[:-1])
    with pytest.raises(CheckFailedError, match="torn bytes"):
        run("verify", log)
    command = [sys.executable, "-c", "from engine.cli import main; main()"]
    done = subprocess.run(
        [*command, "log", "verify", str(log), "--json"], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["torn_bytes"] == 64 + 100 * 80 - 1
    assert b"Traceback" not in done.stderr


def test_a_missing_log_is_a_users_error(tmp_path: Path) -> None:
    for command in ("info", "verify", "cat"):
        with pytest.raises(InputFileError, match="there is no such log"):
            run(command, tmp_path / "none.hql")


def test_cat_prints_a_range_of_numbers(log: Path) -> None:
    rows = [
        json.loads(line)
        for line in run("cat", log, "--from", 10, "--to", 14, "--json").stdout.splitlines()
    ]
    assert [row["seq"] for row in rows] == [10, 11, 12, 13, 14]
    assert [row["kind"] for row in rows] == ["QUOTE", "SNAPSHOT", "HEARTBEAT", "TRADE", "QUOTE"]
    assert rows[0]["instrument"] == "SYM1.X"
    assert rows[2]["instrument"] is None
    assert rows[0]["price"] is None


def test_cat_prints_a_range_of_times_and_a_limit(log: Path) -> None:
    window = ("--from", "2023-11-14T22:13:20.005", "--to", "2023-11-14T22:13:20.009+00:00")
    lines = run("cat", log, *window).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["6", "7", "8", "9", "10"]
    assert len(run("cat", log, *window, "--limit", 2).stdout.splitlines()) == 2
    assert run("cat", log, "--limit", 0).stdout == ""


def test_cat_says_what_a_place_is(log: Path) -> None:
    with pytest.raises(ConfigError, match="--from: found 'noon'; give a sequence number"):
        run("cat", log, "--from", "noon")


def test_merge_writes_one_log(log: Path, tmp_path: Path) -> None:
    other = write_log(
        tmp_path / "b.hql", make_ticks(50), instruments=make_instruments(2, prefix="OTHER")
    )
    out = tmp_path / "out.hql"
    fields = json.loads(run("merge", log, other, "-o", out, "--json").stdout)
    assert fields == {"output": str(out), "logs": 2, "ticks": 150, "left_out": {}}
    assert "150 ticks of 2 logs" in run("merge", log, other, "-o", out, "--overwrite").stdout
    assert run("verify", out).exit_code == 0


def test_every_command_shows_an_example() -> None:
    for command in ("info", "verify", "cat", "merge"):
        assert f"heqis log {command}" in run(command, "--help").stdout
