"""What a process uses is read from the system, whatever of it is missing or odd."""

import math
from pathlib import Path

import psutil
import pytest

from engine.budget_readings import (
    available_bytes,
    disk_free_bytes,
    hottest_c,
    memory_limit_bytes,
    rss_bytes,
)

TOTAL = psutil.virtual_memory().total


def zone(thermal: Path, number: int, text: str) -> None:
    directory = thermal / f"thermal_zone{number}"
    directory.mkdir(parents=True)
    (directory / "temp").write_text(text)


def test_the_hottest_zone_counts(tmp_path: Path) -> None:
    for number, text in enumerate(["45500\n", "71250\n", "-3000", "garbage", ""]):
        zone(tmp_path, number, text)
    assert hottest_c(tmp_path) == 71.25


def test_a_machine_without_zones_is_not_too_hot(tmp_path: Path) -> None:
    assert math.isnan(hottest_c(tmp_path / "nothing"))


def test_a_zone_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "thermal_zone0" / "temp").mkdir(parents=True)
    assert math.isnan(hottest_c(tmp_path))
    zone(tmp_path, 1, "50000")
    assert hottest_c(tmp_path) == 50.0


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "4096000"}, 4_096_000),
        ("0::/a/b\n", {"a/b/memory.max": "1000"}, 1000),
        ("0::/\n", {"memory.max": "2000"}, 2000),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "3000"}, 3000),
        ("4:cpu:/x\n0::/gone\n", {"memory/x/memory.limit_in_bytes": "3000"}, TOTAL),
        ("garbage\n", {}, TOTAL),
        ("", {}, TOTAL),
        ("0::/../../etc\n", {}, TOTAL),
    ],
)
def test_the_least_bound_of_all_groups_around_counts(
    tmp_path: Path, own: str, files: dict[str, str], expected: int
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert memory_limit_bytes(tmp_path / "groups", tmp_path / "own") == expected


def test_this_very_machine_can_be_read(tmp_path: Path) -> None:
    assert 1_000_000 < rss_bytes() < memory_limit_bytes() <= TOTAL
    assert 0 < available_bytes() <= TOTAL
    assert disk_free_bytes(tmp_path) > 0
    assert disk_free_bytes(tmp_path / "not" / "there" / "yet") > 0
