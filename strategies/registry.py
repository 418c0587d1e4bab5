"""Which indicators, rules and Python strategies there are: built in, and in users' files."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numba

from engine.core.errors import PluginError
from strategies.python_strategy import Strategy
from strategies.spec import IndicatorSpec, RuleSpec

BUILTIN_PACKAGES = ("strategies.indicators", "strategies.rules", "strategies.examples")


@dataclass(frozen=True)
class Registry:
    """Specifications by name."""

    indicators: Mapping[str, IndicatorSpec]
    rules: Mapping[str, RuleSpec]
    strategies: Mapping[str, type[Strategy]]


def load_registry(plugins: Iterable[Path] = ()) -> Registry:
    """Return everything built in and in the given files.

    Raises:
        PluginError: a file that is missing, fails to import, defines nothing, or takes a name that
            is already there.
    """
    found: dict[str, dict[str, object]] = {"indicator": {}, "rule": {}, "strategy": {}}
    for package in BUILTIN_PACKAGES:
        for module in _modules_of(package):
            _collect(module, found, str(module.__file__))
    for path in plugins:
        _load_plugin(Path(path), found)
    return Registry(
        indicators={k: v for k, v in found["indicator"].items() if isinstance(v, IndicatorSpec)},
        rules={k: v for k, v in found["rule"].items() if isinstance(v, RuleSpec)},
        strategies={k: v for k, v in found["strategy"].items() if isinstance(v, type)},
    )


def _modules_of(package: str) -> Iterable[ModuleType]:
    parent = importlib.import_module(package)
    names = sorted(info.name for info in pkgutil.iter_modules(parent.__path__))
    return [importlib.import_module(f"{package}.{name}") for name in names]


def _load_plugin(path: Path, found: dict[str, dict[str, object]]) -> None:
    if not path.is_file():
        raise PluginError(path, "there is no such file; `plugins` takes paths of Python files")
    name = f"heqis_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(path, "not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise PluginError(path, f"it failed to import: {type(error).__name__}: {error}") from error
    if not _collect(module, found, str(path)):
        raise PluginError(path, "it defines no IndicatorSpec, RuleSpec or Strategy subclass")


def _collect(module: ModuleType, found: dict[str, dict[str, object]], file: str) -> int:
    """Add what a module defines; return how many are new."""
    count = 0
    for value in vars(module).values():
        kind, name = _kind_of(value, module)
        if not kind or found[kind].get(name) is value:
            continue
        if name in found[kind]:
            raise PluginError(file, f"the {kind} {name!r} exists already; choose another name")
        if isinstance(value, IndicatorSpec):
            _check_compiled(file, f"indicator {name!r}", value, value.update)
        elif isinstance(value, RuleSpec):
            _check_compiled(file, f"rule {name!r}", value, value.decide)
        found[kind][name] = value
        count += 1
    return count


def _check_compiled(file: str, what: str, spec: IndicatorSpec | RuleSpec, function: object) -> None:
    """Refuse records that numpy refuses, and code that could raise or round otherwise live."""
    try:
        _ = spec.state_dtype, spec.param_dtype
    except (TypeError, ValueError) as error:
        raise PluginError(file, f"the state or parameters of {what}: {error}") from None
    options = getattr(function, "targetoptions", None)
    if options is None and getattr(numba.config, "DISABLE_JIT", False):
        return
    if options is None or options.get("error_model") != "numpy" or options.get("fastmath"):
        raise PluginError(
            file,
            f'the function of {what} must be decorated @njit(error_model="numpy",'
            " forceinline=True), without fastmath",
        )


def _kind_of(value: object, module: ModuleType) -> tuple[str, str]:
    if isinstance(value, IndicatorSpec):
        return "indicator", value.name
    if isinstance(value, RuleSpec):
        return "rule", value.name
    own = isinstance(value, type) and issubclass(value, Strategy) and value is not Strategy
    if own and getattr(value, "__module__", "") == module.__name__:
        return "strategy", getattr(value, "name", "") or getattr(value, "__name__", "")
    return "", ""
