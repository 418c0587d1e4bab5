"""Features and horizons as text: ``lean=weighted_mid.deviation_bps``, ``5m``, ``10rows``."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from engine.config import Config
from engine.core.errors import ConfigError
from engine.core.settings import parse_duration_ns
from engine.core.suggest import known_names
from engine.model_setup import open_models
from strategies.model_spec import ModelWindow, read_columns
from strategies.registry import Registry

_FEATURE: Final = re.compile(r"(?:([\w.-]+)\s*=)?\s*(\w+\s*(?:\(.*\))?)\s*(?:\.(\w+))?")
_ROWS: Final = re.compile(r"(\d+)\s*rows?")


class Horizon(NamedTuple):
    """How far ahead a label looks: a time, or a number of the instrument's rows; the other is 0."""

    ns: int
    rows: int

    @property
    def text(self) -> str:
        """Return it as text."""
        return f"{self.rows} rows" if self.rows else f"{self.ns} ns"


def parse_horizon(text: str) -> Horizon:
    """Read ``5m`` or ``10rows``.

    Raises:
        ConfigError: neither, or not above 0.
    """
    match = _ROWS.fullmatch(text.strip())
    try:
        found = Horizon(0, int(match[1])) if match else Horizon(parse_duration_ns(text), 0)
    except ValueError:
        found = Horizon(0, 0)
    if found.ns <= 0 and found.rows <= 0:
        raise ConfigError("command line", "--horizon", text, 'give a time as "5m", or "10rows"')
    return found


def window_of(config: Config, registry: Registry, model: str) -> ModelWindow:
    """Return what the live kernel keeps for a configured model.

    Raises:
        ConfigError: there is no such model.
        BundleError: its bundle cannot be used.
    """
    names = [one.name for one in config.models]
    if model not in names:
        raise ConfigError("command line", "--model", model, known_names("models", names, model))
    return next(
        one.window
        for one in open_models(config.models, config.bars, registry)
        if one.config.name == model
    )


def window_of_texts(texts: Sequence[str], clock: str, registry: Registry) -> ModelWindow:
    """Return features that were written as text, ``[name=]indicator[(parameters)][.output]``.

    Raises:
        ConfigError: not of that form, an unknown indicator or parameter, or a bad value.
    """
    written = []
    for text in texts:
        match = _FEATURE.fullmatch(text.strip())
        if match is None:
            expected = "write [name=]indicator[(parameter=number, …)][.output]"
            raise ConfigError("command line", "--feature", text, expected)
        name = match[1] or text.strip().replace(" ", "")
        written.append((name, match[2], match[3] or ""))
    return ModelWindow("features", clock, read_columns(written, registry, "--feature"), 1)
