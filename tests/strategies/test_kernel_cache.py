"""The kernel cache: never stale, shared by processes, bounded, and optional."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numba
import pytest

from strategies import kernel_cache
from strategies.kernel_cache import KEPT_KERNELS, kernel_key, load_module, share_modules

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
from numba import njit

@njit(error_model="numpy", cache=CACHE)
def go(x):
    return f(x)
"""
HELPER = """
from numba import njit
{extra}

@njit(error_model="numpy", forceinline=True)
def help_nb(x):
    return x + {number}
"""
PLUGINS = {
    "by name": "from kc_helper import help_nb\n{head}    return help_nb(x)\n",
    "by module": "import kc_helper\n{head}    return kc_helper.help_nb(x)\n",
    "by constant": "from kc_helper import NUMBER\n{head}    return x + NUMBER\n",
    "by module constant": "import kc_helper\n{head}    return x + kc_helper.NUMBER\n",
    "inside": "from kc_helper import help_nb\n{head}"
    "    def inner(y):\n        return help_nb(y)\n    return inner(x)\n",
}
HEAD = 'from numba import njit\n@njit(error_model="numpy", forceinline=True)\ndef f_nb(x):\n'
Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("HEQIS_CACHE_DIR", str(directory))
    return directory / "kernels"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write_file(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()

    yield write_file
    forget()


def forget() -> None:
    for name in ("kc_helper", "kc_plugin"):
        sys.modules.pop(name, None)


def helper(number: int) -> str:
    return HELPER.format(number=number, extra=f"NUMBER = {number}")


def imported() -> ModuleType:
    forget()
    return importlib.import_module("kc_plugin")


@pytest.mark.parametrize("style", PLUGINS)
def test_edit_in_another_file_is_noticed(write: Write, style: str) -> None:
    write("kc_plugin", PLUGINS[style].format(head=HEAD))
    write("kc_helper", helper(1))
    first = imported().f_nb
    write("kc_helper", helper(20))
    second = imported().f_nb
    assert kernel_key(SOURCE, {"f": first}) != kernel_key(SOURCE, {"f": second})
    assert load_module(SOURCE, {"f": first}).go(1) == 2
    assert load_module(SOURCE, {"f": second}).go(1) == 21


def test_edit_after_import_never_takes_the_place_of_the_new_code(write: Write) -> None:
    write("kc_plugin", PLUGINS["by name"].format(head=HEAD))
    write("kc_helper", helper(1))
    old = imported().f_nb
    write("kc_helper", helper(20))
    assert load_module(SOURCE, {"f": old}).go(1) == 2
    assert load_module(SOURCE, {"f": imported().f_nb}).go(1) == 21


def test_comment_in_a_helper_makes_another_key(write: Write) -> None:
    write("kc_plugin", PLUGINS["by name"].format(head=HEAD))
    write("kc_helper", helper(1))
    before = kernel_key(SOURCE, {"f": imported().f_nb})
    write("kc_helper", helper(1) + "# new\n")
    assert kernel_key(SOURCE, {"f": imported().f_nb}) != before


def test_setting_that_changes_compiled_code_makes_another_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = kernel_key(SOURCE, {})
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    assert kernel_key(SOURCE, {}) != before


def test_second_load_is_served_from_disk(write: Write) -> None:
    write("kc_plugin", PLUGINS["by name"].format(head=HEAD))
    write("kc_helper", helper(1))
    f = imported().f_nb
    assert load_module(SOURCE, {"f": f}).go(1) == 2
    again = load_module(SOURCE, {"f": f}).go
    assert again(1) == 2
    assert sum(again.stats.cache_hits.values()) == 1


def test_shared_module_is_made_once_in_a_process(write: Write) -> None:
    write("kc_plugin", PLUGINS["by name"].format(head=HEAD))
    write("kc_helper", helper(1))
    f = imported().f_nb
    before = load_module(SOURCE, {"f": f})
    share_modules()
    try:
        first = load_module(SOURCE, {"f": f})
        assert first is not before
        assert load_module(SOURCE, {"f": f}) is first
        write("kc_helper", helper(20))
        assert load_module(SOURCE, {"f": imported().f_nb}).go(1) == 21
        for number in range(KEPT_KERNELS):
            load_module(f"{SOURCE}# {number}\n", {"f": f})
        assert load_module(SOURCE, {"f": f}) is not first
    finally:
        share_modules(shared=False)
    assert load_module(SOURCE, {"f": f}) is not load_module(SOURCE, {"f": f})


@pytest.mark.parametrize("place", ["in the way", "not a directory"])
def test_works_where_the_cache_cannot_be_written(
    cache: Path, write: Write, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    blocked = cache.parent
    blocked.write_text("a file")
    if place == "not a directory":
        monkeypatch.setenv("HEQIS_CACHE_DIR", str(blocked / "below"))
    write("kc_plugin", PLUGINS["by name"].format(head=HEAD))
    write("kc_helper", helper(1))
    module = load_module(SOURCE, {"f": imported().f_nb})
    assert module.go(1) == 2
    assert module.CACHE is False


def test_oldest_kernels_go_first(cache: Path) -> None:
    for number in range(KEPT_KERNELS + 5):
        entry = cache / f"old{number:03}"
        entry.mkdir(parents=True)
        (entry / "kernel.py").touch()
        os.utime(entry, (1000 + number, 1000 + number))
    load_module(SOURCE, {"f": abs})
    kept = {entry.name for entry in cache.iterdir()}
    assert len(kept) == KEPT_KERNELS
    assert kernel_key(SOURCE, {"f": abs}) in kept
    assert {f"old{number:03}" for number in range(6)}.isdisjoint(kept)


def test_use_keeps_a_kernel_from_being_pruned(cache: Path) -> None:
    load_module(SOURCE, {"f": abs})
    mine = cache / kernel_key(SOURCE, {"f": abs})
    os.utime(mine, (1, 1))
    load_module(SOURCE, {"f": abs})
    assert mine.stat().st_mtime > 1


def test_pruning_that_fails_leaves_the_cache_in_use(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_root: Path) -> None:
        raise FileNotFoundError(_root)

    monkeypatch.setattr(kernel_cache, "_prune", fail)
    assert load_module(SOURCE, {"f": abs}).CACHE is True


PLAN = """
from strategies.bar_spec import BarKind
from strategies.codegen import bindings_of, generate
from strategies.kernel_cache import kernel_key, load_module
from strategies.bar_spec import BarSpec
from strategies.plan import RuleRequest, make_plan
from strategies.registry import load_registry
bars = [BarSpec("1s", BarKind.TIME, interval_ns=10**9)]
plan = make_plan(load_registry(), bars, [RuleRequest("m", "macd_cross", "1s")])
print(kernel_key(generate(plan), bindings_of(plan)))
"""


def start(code: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
    )


def answers(*running: subprocess.Popen[str]) -> list[str]:
    out = [one.communicate(timeout=100)[0] for one in running]
    assert [one.returncode for one in running] == [0] * len(running)
    return out


def test_two_processes_have_one_key() -> None:
    first, second = answers(start(PLAN, PYTHONHASHSEED="1"), start(PLAN, PYTHONHASHSEED="2"))
    assert first == second
    assert len(first.strip()) == 32


TWO_BUILD = """
import sys
from strategies.kernel_cache import load_module
from strategies.sample import flow_imbalance_nb
print("ready", flush=True)
sys.stdin.readline()
source = '''
from numba import njit
import numpy as np
@njit(error_model="numpy", cache=CACHE)
def go(m):
    return flow(m[0], 1.0, 2.0, 3.0, 4.0)
'''
module = load_module(source, {"flow": flow_imbalance_nb})
import numpy as np
from strategies.sample import MARKET
m = np.ones(1, MARKET)
print(module.CACHE, module.go(m), sum(module.go.stats.cache_hits.values()), flush=True)
"""


def test_two_processes_building_at_once_both_work_and_the_next_one_loads() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_BUILD],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for one in running:
        assert one.stdout
        assert one.stdout.readline() == "ready\n"
    for one in running[:2]:
        assert one.stdin
        one.stdin.write("go\n")
        one.stdin.flush()
    both = [one.communicate(timeout=100)[0].split() for one in running[:2]]
    assert [answer[:2] for answer in both] == [["True", "3.0"], ["True", "3.0"]]
    assert running[2].communicate("go\n", timeout=100)[0].split() == ["True", "3.0", "1"]
    assert [one.returncode for one in running] == [0, 0, 0]
