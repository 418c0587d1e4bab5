"""Bad logs and arguments on the command line: exit status, message, and never a traceback.

``heqis`` runs as a process, so that what a user sees is what is tested.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from frame_cases import make_ticks, write_log
from pipeline_cases import market_instruments, market_ticks

TICKS = 3_000
CONFIG = """
[[strategies]]
name = "macd"
rule = "macd_cross"
on = "trade"
params = { fast = 2, slow = 3, signal = 2 }
[risk.limits]
max_position = 0
"""


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def heqis(*arguments: object) -> Said:
    command = [sys.executable, "-m", "engine.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr + done.stdout
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    write_log(folder / "good.hql", market_ticks(TICKS), instruments=market_instruments())
    data = (folder / "good.hql").read_bytes()
    (folder / "replay.toml").write_text(CONFIG)
    (folder / "empty.hql").touch()
    (folder / "head.hql").write_bytes(data[:40])
    (folder / "text.hql").write_text("time,price\n1,2\n" * 99)
    (folder / "zeros.hql").write_bytes(bytes(9_999))
    (folder / "folder.hql").mkdir()
    (folder / "torn.hql").write_bytes(data[: len(data) * 2 // 3])
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0x20
    (folder / "flipped.hql").write_bytes(flipped)
    second = 64 + 112 * 4 + 64 + 256 * 80
    assert data[second : second + 4] == b"HEQ1"
    (folder / "version.hql").write_bytes(data[: second + 4] + b"\x02" + data[second + 5 :])
    return folder


def replay(folder: Path, log: str, *arguments: object) -> Said:
    return heqis("replay", folder / log, "-c", folder / "replay.toml", *arguments)


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("none.hql", "there is no such log"),
        ("empty.hql", "holds no whole frame"),
        ("head.hql", "holds no whole frame"),
        ("text.hql", "is not a tick log: begins with b'time'"),
        ("zeros.hql", "is not a tick log"),
        ("folder.hql", "holds no whole frame"),
    ],
)
def test_what_is_no_log_is_named_and_exits_2(folder: Path, log: str, told: str) -> None:
    said = replay(folder, log, "--json")
    assert (said.status, said.out) == (2, "")
    (line,) = [line for line in said.err.splitlines() if "heqis:" in line]
    assert f"{folder / log}: " in line
    assert told in line


@pytest.mark.slow
def test_damaged_logs_replay_with_what_they_lack_counted(folder: Path) -> None:
    good = replay(folder, "good.hql", "--json").fields
    assert (good["gaps"], good["missing"], good["bad_input"]) == (0, 0, {})
    assert good["signals"] > 0
    said = replay(folder, "flipped.hql", "--json")
    flipped = said.fields
    assert said.status == 0
    assert (flipped["gaps"], flipped["bad_input"]) == (1, {"frame_bad_crc": 1})
    assert flipped["missing"] == 256
    assert flipped["ticks"] + flipped["heartbeats"] + flipped["missing"] == TICKS
    assert 0 < flipped["signals"] < good["signals"]
    assert "frame_bad_crc 1" in replay(folder, "flipped.hql").out
    torn = replay(folder, "torn.hql", "--json").fields
    assert 0 < torn["signals"] < good["signals"]
    assert 0 < torn["ticks"] < good["ticks"]
    assert torn["gaps"] == 0
    assert torn["bad_input"].keys() == {"torn_bytes"}
    unread = replay(folder, "version.hql", "--json").fields
    assert (unread["missing"], unread["bad_input"]) == (256, {"frame_damaged": 1})


def test_bad_ticks_in_a_log_are_refused_by_reason(folder: Path, tmp_path: Path) -> None:
    ticks = make_ticks(400)
    ticks["price"][0:40:4] = float("nan")
    ticks["price"][40:80:4] = -1.0
    ticks["instrument"][80:120:4] = 50
    ticks["bid"][81:121:4], ticks["ask"][81:121:4] = 102.0, 101.0
    log = write_log(tmp_path / "bad.hql", ticks)
    fields = replay(folder, str(log), "--json").fields
    expected = {"refused_nan": 10, "refused_negative": 10, "refused_unknown_instrument": 10}
    assert fields["bad_input"] == expected
    assert fields["ticks"] + fields["heartbeats"] == 400 - 30


@pytest.mark.parametrize("log", ["flipped.hql", "torn.hql", "head.hql"])
def test_verify_of_a_damaged_log_fails_with_status_1(folder: Path, log: str) -> None:
    said = heqis("log", "verify", folder / log, "--json")
    assert said.status == 1
    assert said.fields["ok"] is False
    assert f"{folder / log}: " in said.err


def test_verify_of_what_is_no_log_exits_2(folder: Path) -> None:
    assert heqis("log", "verify", folder / "text.hql").status == 2


@pytest.mark.slow
def test_a_wrong_configuration_key_is_named_with_its_file(folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[risk.limits]\nmax_positoin = 3\n")
    for command in (["replay", folder / "good.hql"], ["engine"], ["gateway"], ["config", "check"]):
        said = heqis(*command, "-c", wrong)
        assert (said.status, said.out) == (2, "")
        assert str(wrong) in said.err
        assert "risk.limits.max_positoin" in said.err
        assert "max_position" in said.err


def test_a_signal_file_that_cannot_be_written_is_told(folder: Path, tmp_path: Path) -> None:
    said = replay(folder, "good.hql", "--signals", tmp_path / "nowhere" / "signals.jsonl")
    assert said.status == 2
    assert "--signals" in said.err


def test_a_signal_file_is_replaced_by_a_whole_one_or_not_at_all(
    folder: Path, tmp_path: Path
) -> None:
    signals = tmp_path / "signals.jsonl"
    signals.write_text("mine\n")
    assert replay(folder, "text.hql", "--signals", signals).status != 0
    assert replay(folder, "good.hql", folder / "good.hql", "--signals", signals).status != 0
    assert signals.read_text() == "mine\n"
    said = replay(folder, "good.hql", "--signals", signals, "--json")
    assert len(signals.read_text().splitlines()) == said.fields["signals"] > 0
    assert list(tmp_path.iterdir()) == [signals]


def test_signals_go_to_standard_output_as_to_a_file(folder: Path) -> None:
    said = replay(folder, "good.hql", "--signals", "/dev/stdout")
    assert said.status == 0
    assert any(line.startswith('{"') for line in said.out.splitlines())
