"""The host is judged by stated limits, and this one can be examined."""

import resource
import time
from pathlib import Path

import pytest

from engine.doctor_host import (
    check_disk,
    clock_step_ns,
    host_findings,
    judge_clock,
    judge_disk,
    judge_files,
    judge_governors,
    judge_memory,
    judge_processor,
    judge_sync,
    read_clock_sync,
    read_governors,
    read_processor_name,
)
from engine.finding import Status

GIB = 1 << 30
X86 = (
    "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: Other\n"
)
RK3568 = "processor\t: 0\nBogoMIPS\t: 48.00\n\nHardware\t: Rockchip RK3568\nModel\t\t: Board\n"


def test_this_host_can_be_examined(tmp_path: Path) -> None:
    findings = host_findings(tmp_path)
    assert len({finding.subject for finding in findings}) == len(findings)
    assert not any(finding.fatal for finding in findings)
    assert all(finding.found and finding.needed_for for finding in findings)


@pytest.mark.parametrize(("cores", "status"), [(1, Status.WARN), (2, Status.OK)])
def test_one_core_is_few(cores: int, status: Status) -> None:
    assert judge_processor("x", "aarch64", cores).status is status


@pytest.mark.parametrize(
    ("governors", "status"),
    [
        ([], Status.OK),
        (["performance"] * 4, Status.OK),
        (["performance", "schedutil"], Status.WARN),
        (["powersave"], Status.WARN),
    ],
)
def test_only_the_performance_governor_keeps_latency_even(
    governors: list[str], status: Status
) -> None:
    assert judge_governors(governors).status is status


@pytest.mark.parametrize(
    ("total", "available", "status"),
    [
        (8 * GIB, 6 * GIB, Status.OK),
        (8 * GIB, GIB // 2, Status.WARN),
        (GIB, GIB, Status.WARN),
    ],
)
def test_little_memory_is_a_warning(total: int, available: int, status: Status) -> None:
    assert judge_memory(total, available).status is status


def test_data_directory_that_cannot_be_written_is_fatal() -> None:
    assert judge_disk("var", 100 * GIB, writable=False).fatal
    assert judge_disk("var", GIB, writable=True).status is Status.WARN
    assert judge_disk("var", 100 * GIB, writable=True).status is Status.OK


def test_data_directory_need_not_exist_yet(tmp_path: Path) -> None:
    finding = check_disk(tmp_path / "not" / "yet")
    assert not finding.fatal
    assert "not/yet" in finding.found


def test_data_directory_that_is_a_file_is_fatal(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    assert check_disk(place).fatal


@pytest.mark.parametrize(
    ("limit", "status"),
    [(1024, Status.WARN), (4096, Status.OK), (resource.RLIM_INFINITY, Status.OK)],
)
def test_few_open_files_are_a_warning(limit: int, status: Status) -> None:
    assert judge_files(limit).status is status


def test_coarse_clock_is_a_warning() -> None:
    assert judge_clock("wall clock", 50).status is Status.OK
    assert judge_clock("wall clock", 1_000_000).status is Status.WARN


def test_step_of_a_clock_is_the_least_that_was_seen() -> None:
    readings = iter(range(0, 10**9, 400))
    assert clock_step_ns(lambda: next(readings)) == 400
    assert clock_step_ns(lambda: 5) == 0
    assert 0 < clock_step_ns(time.monotonic_ns) < 10**9


@pytest.mark.parametrize(
    ("synchronised", "error_us", "status", "words"),
    [
        (True, 1_500, Status.OK, "within 1.5 ms"),
        (True, 500_000, Status.WARN, "within 500.0 ms"),
        (False, None, Status.WARN, "not synchronised"),
        (None, None, Status.WARN, "does not say"),
    ],
)
def test_clock_nobody_keeps_is_a_warning(
    synchronised: bool | None, error_us: int | None, status: Status, words: str
) -> None:
    finding = judge_sync(synchronised, error_us)
    assert finding.status is status
    assert words in finding.found


def test_kernel_answers_about_synchronisation() -> None:
    synchronised, error_us = read_clock_sync()
    assert (error_us is not None) == (synchronised is True)
    assert error_us is None or error_us >= 0


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (X86, "AMD EPYC"),
        (RK3568, "Rockchip RK3568"),
        ("Model : NVIDIA Jetson Orin NX\n", "NVIDIA Jetson Orin NX"),
        ("model : 17\n", "unknown processor"),
        ("", "unknown processor"),
    ],
)
def test_processor_name_is_found_whatever_the_architecture(cpuinfo: str, name: str) -> None:
    assert read_processor_name(cpuinfo) == name


def test_governors_are_read_core_by_core(tmp_path: Path) -> None:
    for core, governor in enumerate(["performance", "powersave"]):
        place = tmp_path / f"cpu{core}" / "cpufreq"
        place.mkdir(parents=True)
        (place / "scaling_governor").write_text(f"{governor}\n")
    assert read_governors(tmp_path) == ["performance", "powersave"]
    assert read_governors(tmp_path / "none") == []
