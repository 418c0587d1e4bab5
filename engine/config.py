"""The whole configuration: TOML files in layers, environment overrides, complete validation.

A later file's keys win over an earlier one's; tables are merged key by key, lists are replaced.
``HEQIS__RISK__LIMITS__MAX_SIGNALS=5`` overrides ``risk.limits.max_signals``; its value is read as
TOML, else as text. Relative paths of plugins and of model bundles are relative to the file that
names them; all other paths to the working directory.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from engine.backtest_config import BacktestConfig
from engine.core.errors import ConfigError
from engine.core.records import MAX_FRAME_RECORDS, MAX_INSTRUMENTS
from engine.core.settings import DurationNs, Settings
from engine.core.suggest import did_you_mean, similar
from engine.risk.config import RiskConfig
from engine.stream_config import JournalConfig, StreamConfig
from engine.supervision_config import BudgetsConfig, SupervisionConfig
from feeds.config import GatewayConfig, LinkConfig
from runtime.config import InferenceConfig, ModelList
from strategies.config import BarConfig, BarList, StrategyConfig, StrategyList

ENV_PREFIX: Final = "HEQIS__"
_PLAIN: Final = re.compile(r"[A-Za-z0-9][\w.-]*")
CONFIGS: Final = Path(__file__).resolve().parent.parent / "configs"
"""The configurations that come with the program."""


class EngineConfig(Settings):
    """The engine's own keys, ``[engine]``."""

    max_instruments: Annotated[int, Field(ge=1, le=MAX_INSTRUMENTS)] = 1024
    """State is made for so many at the start; ticks of further ones are refused and counted."""
    burst: Annotated[int, Field(gt=MAX_FRAME_RECORDS, le=1 << 20)] = 4096
    """Most ticks handled by one compiled call."""
    record: Path | None = None
    """Directory into which every accepted frame is recorded, a log a session; absent: none."""
    record_rotate_bytes: Annotated[int, Field(ge=1 << 16)] = 256 << 20
    record_keep_bytes: Annotated[int, Field(ge=0)] = 8 << 30
    """The oldest recorded segments go until the rest needs no more; what the newest snapshots go on
    from stays. 0: everything is kept."""
    record_keep_age: Annotated[DurationNs, Field(ge=0)] = 0
    """Segments last written so long ago go, too. 0: whatever their age."""
    snapshot: Path | None = None
    """Directory of the snapshots that a restart goes on from; absent: beside the journal."""
    snapshot_interval: Annotated[DurationNs, Field(ge=0)] = 30 * 10**9
    """How often one is taken, and one at a clean stop; 0: never."""
    warm_up: Annotated[DurationNs, Field(ge=0)] = 24 * 3600 * 10**9
    """How much of the recording a start without a snapshot goes through; 0: nothing."""
    warm_up_resend: Annotated[int, Field(ge=0)] = 0
    """Records asked of the gateway by a start with neither snapshot nor recording."""
    hlog: Path | None = Path("var/latency.hlog")
    """Where stage latencies are logged, one interval after the other; absent: nowhere."""
    hlog_interval: Annotated[DurationNs, Field(gt=0)] = 10 * 10**9
    status_interval: Annotated[DurationNs, Field(gt=0)] = 10**9
    """How often status goes to clients that asked for it."""
    stall_budget: Annotated[DurationNs, Field(gt=0)] = 20 * 10**6
    """A turn of the event loop late by more counts as a stall."""
    rehearse_every: Annotated[DurationNs, Field(ge=0)] = 10**6
    """How often the way of a signal is gone through for nothing, so that a signal finds it in the
    processor's caches; only while ticks come. 0: never."""
    stop_timeout: Annotated[DurationNs, Field(gt=0)] = 5 * 10**9


class Config(Settings):
    """Everything a process needs to know."""

    engine: EngineConfig = EngineConfig()
    link: LinkConfig = LinkConfig()
    gateway: GatewayConfig = GatewayConfig()
    bars: BarList = (BarConfig(name="1m", interval=60 * 10**9),)
    strategies: StrategyList = ()
    models: ModelList = ()
    """Models that strategies may ask."""
    inference: InferenceConfig = InferenceConfig()
    plugins: tuple[Path, ...] = ()
    """Python files with indicators, rules and strategies."""
    risk: RiskConfig = RiskConfig()
    journal: JournalConfig = JournalConfig()
    stream: StreamConfig = StreamConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    budgets: BudgetsConfig = BudgetsConfig()
    backtest: BacktestConfig = BacktestConfig()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        named = {"bars": self.bars, "strategies": self.strategies, "models": self.models}
        for what, items in named.items():
            names = [item.name for item in items]  # type: ignore[attr-defined] # each has one
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"{what}: the name {twice[0]!r} is given twice")
        return self

    @property
    def active_strategies(self) -> tuple[StrategyConfig, ...]:
        """The strategies that are enabled, in order."""
        return tuple(strategy for strategy in self.strategies if strategy.enabled)


Origins = dict[tuple[str, ...], str]
"""Where each key that was given came from, by its path."""


def load_config(
    files: Sequence[Path | str] = (), environ: Mapping[str, str] | None = None
) -> Config:
    """Read, merge and validate.

    Args:
        files: TOML files, later ones over earlier ones; none gives the defaults.
        environ: The environment; the process's own if None.

    Raises:
        ConfigError: a file that cannot be read or parsed, or a key or value that is not allowed;
            names the file, the key, what was found and what may be there.
    """
    return load_with_origins(files, environ)[0]


def load_with_origins(
    files: Sequence[Path | str] = (), environ: Mapping[str, str] | None = None
) -> tuple[Config, Origins]:
    """Do as ``load_config`` does, and also tell which file or variable gave each key.

    Raises:
        ConfigError: as ``load_config``.
    """
    merged: dict[str, Any] = {}
    origins: Origins = {}
    for file in map(Path, files):
        _merge(merged, _read(file), origins, str(file))
    overrides = _overrides(os.environ if environ is None else environ)
    for variable, tree in overrides:
        _merge(merged, tree, origins, f"environment variable {variable}")
    default = ", ".join(map(str, files)) or "configuration"
    try:
        return Config.model_validate(merged), origins
    except ValidationError as error:
        raise _as_config_error(error.errors(), merged, origins, default) from None


def origin_of(key: Sequence[str], origins: Mapping[tuple[str, ...], str], default: str) -> str:
    """Return where a key, or the nearest table around it that was given, came from."""
    for length in range(len(key), 0, -1):
        if tuple(key[:length]) in origins:
            return origins[tuple(key[:length])]
    return default


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(file, "", None, _missing(file)) from None
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}; give the path of a TOML file"
        raise ConfigError(file, "", None, problem) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(file, "", str(error), "mend the TOML syntax there") from None
    plugins = tree.get("plugins")
    if isinstance(plugins, list):
        tree["plugins"] = [_beside(file, path) for path in plugins]
    models = tree.get("models")
    for model in models if isinstance(models, list) else ():
        for key in {"bundle", "shadow"} & set(model if isinstance(model, dict) else ()):
            model[key] = _beside(file, model[key])
    return tree


def _missing(file: Path) -> str:
    """Say that a file is not there, which one may have been meant, and how to get one."""
    here = file.parent.glob("*.toml") if file.parent.is_dir() else ()
    names = {path.stem: path for path in (*CONFIGS.glob("*.toml"), *here)}
    like = " or ".join(_shown(names[name]) for name in similar(file.stem, names))
    hint = f"did you mean {like}? " if like else ""
    return (
        f"there is no such file; {hint}`heqis config show > {file.name}` writes one with every "
        f"key, and {_shown(CONFIGS / 'default.toml')} says what each means"
    )


def _shown(path: Path) -> str:
    """Return a path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _beside(file: Path, path: Any) -> Any:
    """Return a path that means the same from any directory, so that a printed one does, too."""
    return os.path.abspath(file.parent / path) if isinstance(path, str) else path


def _overrides(environ: Mapping[str, str]) -> Iterable[tuple[str, dict[str, Any]]]:
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX):
            _check_not_meant(variable)
            continue
        keys = variable[len(ENV_PREFIX) :].lower().split("__")
        tree: dict[str, Any] = {keys[-1]: _toml_value(environ[variable])}
        for key in reversed(keys[:-1]):
            tree = {key: tree}
        yield variable, tree


def _check_not_meant(variable: str) -> None:
    """Refuse ``HEQIS_RISK__LIMITS``: it means to override a key, and would be passed over."""
    rest = variable.removeprefix("HEQIS_")
    if rest != variable and "__" in rest:
        expected = f"a key is overridden by {ENV_PREFIX}{rest}, with two underscores first"
        raise ConfigError("the environment", variable, variable, expected)


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(
    into: dict[str, Any],
    tree: Mapping[str, Any],
    origins: dict[tuple[str, ...], str],
    origin: str,
    path: tuple[str, ...] = (),
) -> None:
    for key, value in tree.items():
        here = (*path, key)
        if isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
                origins[here] = origin
            _merge(into[key], value, origins, origin, here)
        else:
            into[key] = value
            origins[here] = origin


def _as_config_error(
    errors: list[ErrorDetails],
    tree: Mapping[str, Any],
    origins: Mapping[tuple[str, ...], str],
    default: str,
) -> ConfigError:
    first = errors[0]
    location = tuple(str(part) for part in first["loc"])
    others = [_dotted(e["loc"], tree) for e in errors[1:]]
    more = f" (and {len(others)} more: {', '.join(others[:5])})" if others else ""
    return ConfigError(
        origin_of(location, origins, default),
        _dotted(first["loc"], tree),
        _found(first),
        _expected(first) + more,
    )


def _dotted(location: Sequence[int | str], tree: object) -> str:
    """Return a key's path; an entry of a list goes by its name, where it has a good one."""
    parts = []
    for part in location:
        tree = _inside(tree, part)
        name = tree.get("name") if isinstance(tree, dict) and isinstance(part, int) else None
        parts.append(name if isinstance(name, str) and _PLAIN.fullmatch(name) else str(part))
    return ".".join(parts)


def _inside(tree: object, part: int | str) -> object:
    if isinstance(tree, dict):
        return tree.get(part)
    return tree[part] if isinstance(tree, list) and isinstance(part, int) else None


def _found(error: ErrorDetails) -> object:
    value = error["input"]
    return "nothing" if error["type"] == "missing" else value


def _expected(error: ErrorDetails) -> str:
    if error["type"] != "extra_forbidden":
        return error["msg"].removeprefix("Value error, ")
    key = str(error["loc"][-1])
    allowed = _allowed_keys(Config, error["loc"][:-1])
    return f"unknown key; {did_you_mean(key, allowed)}keys allowed here: {', '.join(allowed)}"


def _allowed_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        models = _models_in(field.annotation) if field else []
        if field is not None and len(models) == 1:
            model = models[0]
        elif field is not None and len(models) > 1:
            rest = [m for m in models if str(location[-1]) in _kinds(m)]
            model = rest[0] if rest else models[0]
    return list(model.model_fields)


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
