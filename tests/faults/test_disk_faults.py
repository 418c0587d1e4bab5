"""The journal's disk fills up, fails, is locked; the process dies in the middle of a checkpoint."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.journal_verify import verify

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "tests" / "journal_worker.py"
SHIM = ROOT / "tests" / "standin" / "torn_write.c"
DISK_KIB = 48 * 1024
CHECKPOINT_WRITES = 60
"""Writes to the database within so many of which a run of the worker is killed."""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **more}


def mounting(directory: Path, size_kib: int) -> list[str]:
    """Return the start of a command that runs the rest of it on a small disk of its own."""
    script = f'mount -t tmpfs -o size={size_kib}k none "{directory}" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]


def may_mount(directory: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*mounting(directory, 64), "true"], check=False).returncode == 0


def suffer(path: Path, fault: str, rounds: int, rule: str) -> dict[str, Any]:
    command = [sys.executable, str(WORKER), "suffer", str(path), fault, str(rounds), rule]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True)
    return dict(orjson.loads(done.stdout))


def run_fault(tmp_path: Path, fault: str, rounds: int, rule: str) -> dict[str, Any]:
    """Let a journal suffer; a disk of its own is gone afterwards, so it is checked on it."""
    path = tmp_path / "journal.db"
    if fault != "full":
        told = suffer(path, fault, rounds, rule)
        report = verify(path)
        assert report.ok
        assert report.clean
        assert report.signals == told["signals"]
        return told
    if not may_mount(tmp_path):
        pytest.skip("no right to mount a small disk")
    script = f'"$0" "$@" && "$0" -m engine.cli journal verify --json {path}'
    prefix = [*mounting(tmp_path, DISK_KIB), "sh", "-c", script]
    command = [*prefix, sys.executable, str(WORKER), "suffer", str(path), fault, str(rounds), rule]
    result = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True)
    first, _, report_text = result.stdout.partition(b"\n")
    told = dict(orjson.loads(first))
    checked = orjson.loads(report_text)
    assert (checked["ok"], checked["clean"]) == (True, True)
    assert checked["signals"] == told["signals"]
    return told


def assert_told_in_time(told: dict[str, Any], rounds: int) -> None:
    assert len(told["alarm_s"]) == rounds
    assert max(told["alarm_s"]) < 1.0
    assert max(told["recovered_s"]) < 5.0
    assert told["counters"]["alarms"] == rounds
    assert told["counters"]["refused_signals"] == 0


REASONS = {"full": ("full", "bytes left"), "error": ("disk I/O error",), "locked": ("locked",)}


@pytest.mark.parametrize("fault", ["full", "error", "locked"])
def test_a_bad_disk_is_told_within_a_second_and_costs_no_signal(tmp_path: Path, fault: str) -> None:
    told = run_fault(tmp_path, fault, rounds=1, rule="continue")
    assert_told_in_time(told, 1)
    assert told["halts"] == 0
    assert any(reason in told["reason"] for reason in REASONS[fault])


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["full", "error", "locked"])
def test_a_bad_disk_halts_the_engine_where_the_rule_says_so(tmp_path: Path, fault: str) -> None:
    told = run_fault(tmp_path, fault, rounds=2, rule="halt")
    assert_told_in_time(told, 2)
    assert told["halts"] == 2
    assert any(reason in told["reason"] for reason in REASONS[fault])


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("fault", ["full", "error", "locked"])
def test_a_signal_costs_the_loop_no_more_while_the_disk_is_bad(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = 8
    told = run_fault(tmp_path, fault, rounds=rounds, rule="continue")
    assert_told_in_time(told, rounds)
    good, bad = min(told["good_ns"]), min(told["bad_ns"])
    with capsys.disabled():
        print(f"\n{fault}: send and journal p99 {good / 1e3:.1f} us on a good disk, "  # noqa: T201
              f"{bad / 1e3:.1f} us on a bad one; alarm after {max(told['alarm_s']):.2f} s at most, "
              f"recovered {max(told['recovered_s']):.2f} s after the disk", end="")  # fmt: skip
    assert bad < 1.25 * good


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("shim") / "torn_write.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"]
    subprocess.run(command, check=True)
    return library


def kill_in_checkpoint(path: Path, shim: Path, write: int) -> tuple[int, int]:
    """Run a writer that dies in its n-th write to the database; return what it had committed."""
    torn = environment(LD_PRELOAD=str(shim), TORN_FILE=path.name, TORN_AT=str(write))
    command = [sys.executable, str(WORKER), "write", str(path)]
    done = subprocess.run(command, env=torn, stdout=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    lines = [line for line in done.stdout.split(b"\n") if line.endswith(b"}")]
    if not lines:
        return 0, 0
    last = orjson.loads(lines[-1])
    return last["epoch"], last["seq"]


def run_kills(path: Path, shim: Path, kills: int) -> int:
    """Kill a writer again and again; every time the journal must be whole. Return the signals."""
    rng = random.Random(kills)
    signals = 0
    for _ in range(kills):
        epoch, seq = kill_in_checkpoint(path, shim, rng.randrange(3, CHECKPOINT_WRITES))
        report = verify(path)
        assert report.ok, report.listed
        kept = {one.epoch: one for one in report.epochs}
        if seq:
            assert kept[epoch].first_seq == 1
            assert kept[epoch].last_seq >= seq
        assert report.signals >= signals + seq
        signals = report.signals
    return signals


def test_a_process_killed_in_a_checkpoint_leaves_a_whole_journal(
    tmp_path: Path, shim: Path
) -> None:
    assert run_kills(tmp_path / "journal.db", shim, kills=3)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_a_hundred_kills_in_checkpoints_leave_a_whole_journal(
    tmp_path: Path, shim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signals = run_kills(tmp_path / "journal.db", shim, kills=100)
    with capsys.disabled():
        print(f"\n100 kills in checkpoints: {signals:,} signals, none lost, none damaged", end="")  # noqa: T201
