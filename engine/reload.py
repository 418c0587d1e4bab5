"""A configuration read anew while running: what it changes, and what waits for a restart.

A reload takes over all that it may or, where anything is wrong with the files, nothing at all.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError

from engine.config import Config, Origins, load_with_origins
from engine.core.errors import ConfigError

LIVE: Final[tuple[str, ...]] = (
    "risk.data", "risk.liquidity", "risk.market.sessions", "risk.market.price_limits",
    "risk.market.require_reference", "risk.market.settlement", "risk.market.order_size",
    "risk.limits", "risk.cost",
    "budgets",
    "supervision.data_timeout", "supervision.silence_timeout",
    "stream.max_connections", "stream.max_lag", "stream.max_subscriptions", "stream.max_errors",
    "stream.stall_timeout", "stream.slice_signals", "stream.turn_signals", "stream.page_rows",
    "journal.keep_signals", "journal.keep_refusals", "journal.keep_events", "journal.keep_age",
    "journal.prune_interval", "journal.prune_rows", "journal.commit_interval",
    "journal.commit_rows", "journal.on_full", "journal.on_failure",
)  # fmt: skip
"""Keys, and tables of keys, that take effect without a restart."""
SETTLE_S: Final = 0.2
"""How long the files must stay as they are: they may be being written."""

Sleep = Callable[[float], None]


class Sources(NamedTuple):
    """What a configuration was made of."""

    files: tuple[Path, ...] = ()
    origins: Mapping[tuple[str, ...], str] = MappingProxyType({})
    """Where each key that was given came from."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A good configuration, compared with the one that runs.

    Attributes:
        config: What runs from now on: the old one with the keys of ``live`` as the files have them.
        live: Keys that took effect.
        restart: Keys that differ and take effect at the next start.
    """

    config: Config
    live: tuple[str, ...]
    restart: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """Return it for the operator and the journal."""
        return {"changed": list(self.live), "needs_restart": list(self.restart)}


def read_again(
    sources: Sources,
    *,
    environ: Mapping[str, str] | None = None,
    sleep: Sleep = time.sleep,
) -> tuple[Config, Sources]:
    """Read the files again; blocks for ``SETTLE_S``, so call it on a thread.

    Args:
        sources: What was read the last time.
        environ: The environment; the process's own if None.
        sleep: Waits between the two reads.

    Raises:
        ConfigError: the files cannot be read, are being written, hold less than before, or are not
            a configuration.
    """
    files = sources.files
    if not files:
        expected = "it was started without -c, so there is no file to read again"
        raise ConfigError("command", "reload", "no file", expected)
    before = [_bytes_of(file) for file in files]
    sleep(SETTLE_S)
    loaded, origins = load_with_origins(files, environ)
    for file, content in zip(files, before, strict=True):
        _check_whole(file, content)
    _refuse_losses(files, sources.origins, origins)
    return loaded, Sources(files, origins)


def compare(running: Config, loaded: Config) -> Reloaded:
    """Return what of a loaded configuration takes effect now, and what does not.

    Raises:
        ConfigError: what takes effect now does not go with what has to wait.
    """
    differing = list(_differing(running, loaded, ()))
    live = [path for path in differing if _is_live(".".join(path))]
    merged: BaseModel = running
    for path in live:
        merged = _with(merged, path, _at(loaded, path))
    dotted = [".".join(path) for path in differing]
    now = {".".join(path) for path in live}
    return Reloaded(
        _checked(merged),
        tuple(key for key in dotted if key in now),
        tuple(key for key in dotted if key not in now),
    )


def _is_live(key: str) -> bool:
    return any(key == live or key.startswith(f"{live}.") for live in LIVE)


def _refuse_losses(
    files: Sequence[Path], given: Mapping[tuple[str, ...], str], origins: Origins
) -> None:
    """Refuse files that lack keys they had: half a file may be good TOML, and mean the defaults."""
    lost = sorted(".".join(key) for key in given if key not in origins)
    if lost:
        names = ", ".join(map(str, files))
        expected = "a reload takes no key away: write it with its default, or restart"
        raise ConfigError(names, lost[0], f"{len(lost)} keys missing that were given", expected)


def _check_whole(file: Path, before: bytes) -> None:
    """Refuse a file that changes, is empty, or ends in the middle of a line."""
    if _bytes_of(file) != before:
        raise ConfigError(file, "", "a file that changes", "reload when it is written")
    if not before.strip():
        raise ConfigError(file, "", "an empty file", "write it whole, then reload")
    if not before.endswith(b"\n"):
        last = before.rsplit(b"\n", 1)[-1].decode(errors="replace")
        expected = "a line end after its last line: a value that is cut short may look whole"
        raise ConfigError(file, "", last, expected)


def _checked(merged: BaseModel) -> Config:
    try:
        return Config.model_validate(merged.model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        expected = "it does not go with keys that need a restart: restart to have all of them"
        raise ConfigError("reload", key, first["msg"], expected) from None


def _bytes_of(file: Path) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(file, "", error.strerror, "give the path of a TOML file") from None


def _differing(old: BaseModel, new: BaseModel, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(before, BaseModel) and type(before) is type(after):
            yield from _differing(before, after, (*path, name))
        else:
            yield (*path, name)


def _at(model: BaseModel, path: Sequence[str]) -> Any:
    value: Any = model
    for name in path:
        value = getattr(value, name)
    return value


def _with(model: BaseModel, path: Sequence[str], value: Any) -> BaseModel:
    name, *rest = path
    changed = _with(getattr(model, name), rest, value) if rest else value
    return model.model_copy(update={name: changed})
