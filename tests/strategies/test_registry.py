"""What users' files may define, and what they are told where they may not."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.core.errors import PluginError
from strategies.registry import load_registry

INDICATOR = """
from numba import njit
from strategies.spec import IndicatorSpec, Param

@njit({options})
def update_nb(s, p, ring, base, x):
    s["value"] = x["close"]
    s["ready"] = 1

SPEC = IndicatorSpec(
    name="{called}", title="Close", params={{{params}}}, outputs=({outputs}),
    update=update_nb, warm_up=lambda p: 1, formula="C", reference="none",
)
"""
GOOD = {
    "called": "my_close",
    "params": "",
    "outputs": '"value",',
    "options": 'error_model="numpy", forceinline=True',
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str = "mine.py", text: str = INDICATOR, **changes: str) -> Path:
        path = tmp_path / name
        path.write_text(text.format(**{**GOOD, **changes}) if text is INDICATOR else text)
        return path

    return write_file


def problem(*paths: Path) -> str:
    with pytest.raises(PluginError) as caught:
        load_registry(paths)
    assert caught.value.file == str(paths[-1])
    return str(caught.value)


def test_builtin_names_are_there() -> None:
    registry = load_registry()
    assert {"sma", "ema", "macd", "macd_cross"} <= {*registry.indicators, *registry.rules}


def test_names_are_those_in_the_specification() -> None:
    registry = load_registry()
    for table in (registry.indicators, registry.rules, registry.strategies):
        for name, spec in table.items():
            assert name in (spec.name, getattr(spec, "__name__", ""))


def test_users_indicator_is_added(write: Write) -> None:
    assert "my_close" in load_registry([write()]).indicators


def test_missing_file_is_told() -> None:
    assert "no such file" in problem(Path("/nowhere/mine.py"))


def test_file_that_is_not_python_is_told(write: Write) -> None:
    assert "must end in .py" in problem(write("mine.txt"))


def test_syntax_error_is_told_with_its_line(write: Write) -> None:
    assert "SyntaxError" in problem(write(text="x = 1\ndef f(:\n"))
    assert "line 2" in problem(write(text="x = 1\ndef f(:\n"))


def test_import_that_fails_is_told_and_leaves_no_module(write: Write) -> None:
    assert "ZeroDivisionError" in problem(write("breaks.py", text="1 / 0"))
    assert "heqis_plugin_breaks" not in sys.modules


def test_file_that_defines_nothing_is_told(write: Write) -> None:
    assert "defines no" in problem(write(text="x = 1"))


def test_imported_builtin_does_not_count_as_defined(write: Write) -> None:
    assert "defines no" in problem(write(text="from strategies.indicators.sma import SPEC"))


def test_name_of_a_builtin_is_refused(write: Write) -> None:
    assert "'sma' exists already" in problem(write(called="sma"))


def test_name_taken_by_another_file_is_refused(write: Write) -> None:
    first, second = write("one.py"), write("two.py")
    assert "'my_close' exists already" in problem(first, second)


def test_output_called_as_a_field_of_the_state_is_refused(write: Write) -> None:
    assert "state or parameters of indicator 'my_close'" in problem(write(outputs='"ready",'))


def test_parameter_called_as_the_ring_is_refused(write: Write) -> None:
    assert "ring" in problem(write(params='"ring": Param(1, 1, 2, "none")'))


@pytest.mark.parametrize(
    "options", ["forceinline=True", 'error_model="numpy", fastmath=True', 'error_model="python"']
)
def test_compiled_code_that_could_raise_or_round_otherwise_is_refused(
    write: Write, options: str
) -> None:
    assert 'error_model="numpy"' in problem(write(options=options))


def test_function_that_is_not_compiled_is_refused(write: Write) -> None:
    plain = INDICATOR.format(**GOOD).replace('@njit(error_model="numpy", forceinline=True)', "")
    assert "must be decorated" in problem(write(text=plain))


def test_python_strategy_is_named_by_its_class_where_it_has_no_name(write: Write) -> None:
    text = "from strategies.python_strategy import Strategy\nclass Mine(Strategy):\n    pass\n"
    assert "Mine" in load_registry([write(text=text)]).strategies
