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


HEAP = """
import sys
import psutil
from engine.process import give_large_blocks_back

if sys.argv[1] == "back":
    assert give_large_blocks_back()
freed = bytes(30 << 20)
del freed
before = psutil.Process().memory_info().rss
kept = []
for turn in range(20):
    held = []
    for n in range(100):
        held.append(bytes(200_000 + 997 * n))
        kept.append(bytes(600 + 13 * n))
    del held
    kept = kept[-1000:]
print(psutil.Process().memory_info().rss - before)
"""


def grown_bytes(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", HEAP, how], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_large_blocks_go_back_though_small_ones_between_them_stay() -> None:
    assert grown_bytes("back") < 8 << 20
    assert grown_bytes("as it is") > 16 << 20


HOLES = """
import psutil
from engine.process import give_free_memory_back

rss = psutil.Process().memory_info
blocks = [bytes(4_000) for _ in range(20_000)]
del blocks[::2], blocks[:9_000:2]
full = rss().rss
kept = blocks[::50]
del blocks
assert give_free_memory_back()
print(full - rss().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the call is glibc's")
def test_what_is_free_between_blocks_that_stay_goes_back_when_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert int(done.stdout) > 16 << 20
