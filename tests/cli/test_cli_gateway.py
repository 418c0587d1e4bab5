"""``heqis gateway``, ``record`` and ``simulate`` as processes."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

DEADLINE_S = 60


Process = subprocess.Popen[str]
Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def launch(*arguments: str | Path) -> Process:
            command = [sys.executable, "-m", "engine.cli", *map(str, arguments)]
            process = stack.enter_context(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                )
            )
            stack.callback(process.kill)
            return process

        yield launch


def finish(process: Process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "link.toml"
    file.write_text(
        f"""
        [link]
        data = "ipc://{tmp_path}/data"
        control = "ipc://{tmp_path}/control"
        [gateway]
        outputs = ["ipc://{tmp_path}/data"]
        control = "ipc://{tmp_path}/control"
        await_output = true
        stop_timeout = "1s"
        [gateway.source]
        kind = "simulator"
        rate = 5000
        """
    )
    return file


def test_a_recorded_gateway_stops_cleanly_on_sigterm(
    start: Start, config: Path, tmp_path: Path
) -> None:
    gateway = start("gateway", "-c", config, "--json")
    record = start("record", "-c", config, "-o", tmp_path / "x.hql", "--ticks", "2000", "--json")
    code, out, err = finish(record)
    assert code == 0, err
    summary = json.loads(out)
    assert summary["ticks"] >= 2000
    assert summary["gaps"] == 0
    gateway.send_signal(signal.SIGTERM)
    code, out, err = finish(gateway)
    assert code == 0, err
    assert json.loads(out)["ticks"] >= 1900
    assert (tmp_path / "x.hql").stat().st_size > 100_000


def test_record_without_a_gateway_ends_on_sigint(
    start: Start, config: Path, tmp_path: Path
) -> None:
    record = start("record", "-c", config, "-o", tmp_path / "x.hql", "--json", "--verbose")
    assert record.stderr is not None
    assert record.stderr.readline()
    record.send_signal(signal.SIGINT)
    code, out, err = finish(record)
    assert code == 0, err
    assert json.loads(out)["frames"] == 0


def test_simulate_writes_a_log_and_says_what_is_in_it(start: Start, tmp_path: Path) -> None:
    code, out, err = finish(
        start("simulate", "-o", tmp_path / "m.hql", "--ticks", "3000", "--json")
    )
    assert code == 0, err
    assert json.loads(out)["ticks"] == 3000
    code, _, err = finish(start("simulate", "-o", tmp_path / "m.hql", "--ticks", "10"))
    assert code == 2
    assert "exists already" in err


def test_a_wrong_key_is_the_users_error(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[gateway.source]\nkind = 'simulator'\nspeed = 3\n")
    code, _, err = finish(start("gateway", "-c", file))
    assert code == 2
    assert "speed" in err
    assert "Traceback" not in err
