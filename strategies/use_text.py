"""An indicator with its parameters as text: ``rsi(length=14)``."""

import re
from typing import Final

from engine.core.errors import ConfigError
from engine.core.suggest import did_you_mean, known_names
from strategies.registry import Registry
from strategies.spec import ParamValue, Use, resolve_params

_CALL: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)


def parse_use(text: str, registry: Registry, source: str = "indicator") -> Use:
    """Read ``name`` or ``name(parameter=number, …)`` and check it against what there is.

    Args:
        text: What the user wrote.
        registry: The indicators there are.
        source: Where it was written, for errors.

    Raises:
        ConfigError: not of that form, an unknown indicator or parameter, or a bad value; it names
            the nearest known one.
    """
    match = _CALL.fullmatch(text)
    if match is None:
        raise ConfigError(source, "", text, "write name or name(parameter=number, …)")
    name, inside = match[1], match[2] or ""
    spec = registry.indicators.get(name)
    if spec is None:
        expected = known_names("indicators", sorted(registry.indicators), name)
        raise ConfigError(source, text.strip(), name, expected)
    params: dict[str, ParamValue] = {}
    for part in filter(None, (piece.strip() for piece in inside.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in spec.params or key in params:
            takes = ", ".join(spec.params) or "no parameters"
            hint = f"it takes, each at most once and as name=number: {takes}"
            expected = did_you_mean(key, spec.params) + hint if key not in spec.params else hint
            raise ConfigError(source, text.strip(), part, expected)
        params[key] = _number(source, text, value)
    try:
        resolve_params(spec.params, params)
    except ValueError as error:
        raise ConfigError(source, text.strip(), inside, str(error)) from None
    return Use(name, params)


def _number(source: str, text: str, value: str) -> ParamValue:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    raise ConfigError(source, text.strip(), value, "a parameter's value is a number")
