import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from stream_fakes import INSTRUMENTS, make_signal
from stream_rig import rig, run
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.cli.tail import json_line, parse_side, people_line
from engine.client import DataGap, Gap, Status
from engine.core.errors import ConfigError, StreamError
from engine.core.models import Score
from engine.core.signals import scored

ROOT = Path(__file__).resolve().parents[2]


async def start_tail(*arguments: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from engine.cli.main import main; main()", "tail", *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip


def test_tail_prints_one_json_object_a_line_and_stops_after_count(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            engine.emit(30)
            tail = await start_tail(
                engine.url, "--json", "--from-seq", "1", "-n", "4",
                "-i", INSTRUMENTS[0], "--side", "buy",
            )  # fmt: skip
            out, err = await tail.communicate()
            assert (tail.returncode, err) == (0, b"")
        lines = [orjson.loads(line) for line in out.splitlines()]
        assert [line["seq"] for line in lines] == [6, 12, 18, 24]
        assert {line["type"] for line in lines} == {"signal"}

    run(work)


def test_tail_shows_gaps_and_ends_quietly_on_interrupt(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            tail = await start_tail(engine.url, "--from-seq", "50")
            assert tail.stdout is not None
            assert tail.stderr is not None
            assert b"gap signals 1 to 49" in await tail.stdout.readline()
            engine.emit(1)
            line = await tail.stdout.readline()
            assert b"IF2103.CFFEX @ 100.01" in line
            assert b"donchian" in line
            tail.send_signal(signal.SIGINT)
            assert await tail.wait() == 0
            assert await tail.stderr.read() == b""

    run(work)


def test_tail_says_that_no_engine_answers() -> None:
    result = CliRunner().invoke(make_app(), ["tail", "ws://127.0.0.1:1"])
    assert isinstance(result.exception, StreamError)
    assert "cannot be reached" in str(result.exception)


def test_tail_help_has_an_example() -> None:
    result = CliRunner().invoke(make_app(), ["tail", "--help"])
    assert result.exit_code == 0
    assert "Example: heqis tail" in result.output


def test_sides_are_read_in_any_case() -> None:
    assert parse_side(None) is None
    assert parse_side("sell") == ["SELL"]
    with pytest.raises(ConfigError, match="--side: found 'hold'"):
        parse_side("hold")


def test_a_line_names_the_model_behind_a_signal_its_device_and_its_time() -> None:
    score = Score(
        (0.2, 0.3, 0.5), "tcn", "demo-tcn@1.2-0123456789ab", "onnxruntime", "cpu:1", "fp32",
        batch=1, queue_ns=30_000, service_ns=50_000,
    )  # fmt: skip
    line = people_line(scored(make_signal(5, 7), score))
    assert line.endswith("  demo-tcn@1.2 onnxruntime@cpu:1 80.0 µs")


def test_lines_say_what_matters() -> None:
    line = people_line(make_signal(5, 7, instrument="[x].Y"))
    assert "00:00:00.000" in line
    assert "edge 4.5 bps" in line
    assert r"\[x].Y" in line
    assert "edge" not in people_line(make_signal(5, 8))
    assert line.endswith("edge 4.5 bps")
    gap = Gap(5, 3, None, "epoch_changed", (make_signal(5, 1),))
    assert "3 to ? of epoch 5: epoch_changed; 1 latest known" in people_line(gap)
    assert people_line(Status(0, {})) == "[dim]status 00:00:00.000[/dim]"
    assert orjson.loads(json_line(gap))["snapshot"][0]["seq"] == 1


def test_missing_market_data_is_a_line_of_its_own() -> None:
    gap = DataGap(1, 1, 2, 5, 40, 9, "gone")
    assert "9 records of gateway 2 from 40 on: gone" in people_line(gap)
    assert orjson.loads(json_line(gap))["type"] == "data_gap"
    began = DataGap(1, 1, 2, 5, 1, 0, "unanswered", 4, 70, None)
    assert "gateway 2 began anew, ? records before and 0 after: unanswered" in people_line(began)
