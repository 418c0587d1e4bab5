"""What a long-running process asks of the kernel, seen from outside it."""

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
from engine.process import refuse_huge_pages
print(refuse_huge_pages())
print(open("/proc/self/status").read())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is Linux's")
def test_a_process_can_refuse_huge_pages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    told, *status = done.stdout.splitlines()
    assert told == "True"
    assert [line.split() for line in status if line.startswith("THP_enabled")] in (
        [], [["THP_enabled:", "0"]],
    )  # fmt: skip
