"""The software is examined by using it, and what is missing is named."""

from pathlib import Path

import pytest

from engine.doctor_stack import (
    _import,
    check_library,
    judge_kernel_cache,
    judge_python,
    judge_sqlite,
    stack_findings,
)
from engine.finding import Status


def test_this_installation_is_whole() -> None:
    findings = {finding.subject: finding for finding in stack_findings()}
    assert not any(finding.fatal for finding in findings.values())
    assert "CURVE yes" in findings["ZeroMQ"].found
    assert findings["kernel cache"].found.endswith("kernels")


@pytest.mark.parametrize(
    ("release", "fatal"),
    [((3, 10), True), ((3, 11), False), ((3, 13), False), ((3, 14), True)],
)
def test_python_outside_the_supported_range_is_fatal(release: tuple[int, int], fatal: bool) -> None:
    assert judge_python(release, "x").fatal is fatal


def test_sqlite_with_the_wal_bug_says_how_it_is_avoided() -> None:
    assert "one writer" in judge_sqlite((3, 40, 1), "3.40.1").found
    assert judge_sqlite((3, 51, 3), "3.51.3").found == "3.51.3"


def test_cache_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert judge_kernel_cache(blocked / "cache").status is Status.WARN
    assert judge_kernel_cache(tmp_path / "not" / "yet").status is Status.OK


def test_library_that_is_not_installed_is_fatal() -> None:
    finding = check_library("no_such_library", "nothing")
    assert finding.fatal
    assert finding.advice


def test_failing_import_is_a_reason_not_an_error() -> None:
    assert "no_such_library" in str(_import("no_such_library"))
