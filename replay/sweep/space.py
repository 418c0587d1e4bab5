"""What a sweep varies: dimensions, each found in the configuration and tried against it.

Pure but for plugin files and rulebooks, which resolving a configuration reads.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import orjson
from pydantic import ValidationError

from engine.composition import resolve
from engine.config import Config
from engine.core.errors import ConfigError, PluginError
from engine.core.suggest import known_names
from replay.sweep.dimension import MAX_VALUES, Dimension, Scalar

Params = Mapping[str, Scalar]
"""What one trial sets: values by dotted key."""
Place = tuple[str | int, ...]
"""The way to a key in a configuration's tree: names of tables, numbers in lists."""

TABLES: Final = ("backtest", "bars", "models", "risk", "strategies")
"""Tables of the configuration that a backtest depends on."""
_FREE: Final = "params"
"""The table whose keys are not the configuration's but a strategy's."""
_FIXED: Final = "name"
_COMMAND: Final = "command line"


@dataclass(frozen=True)
class SearchSpace:
    """Dimensions over a configuration; plain values, so that it travels to workers.

    Attributes:
        tree: The configuration, as tables, lists and values.
        dimensions: What varies.
        places: Where each dimension's key is in the tree.
    """

    tree: dict[str, Any]
    dimensions: tuple[Dimension, ...]
    places: tuple[Place, ...]

    def config_at(self, params: Params) -> Config:
        """Return the configuration with the keys set.

        Raises:
            ConfigError: they may not be set so.
        """
        tree = self.tree
        for dimension, place in zip(self.dimensions, self.places, strict=True):
            if dimension.key in params:
                tree = _put(tree, place, params[dimension.key])
        try:
            return Config.model_validate(tree)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            told = first["msg"].removeprefix("Value error, ")
            raise ConfigError("sweep", key, first["input"], told) from None

    def points(self) -> int:
        """Return how many points its grid has.

        Raises:
            ConfigError: they cannot be listed, or are too many.
        """
        count = prod(len(dimension.listed()) for dimension in self.dimensions)
        if count > MAX_VALUES:
            fix = f"larger steps or fewer keys: at most {MAX_VALUES} points, or another --sampler"
            raise ConfigError(_COMMAND, "--sampler", f"a grid of {count} points", fix)
        return count

    def fingerprint(self) -> str:
        """Return a hash of what the trials have in common: the tables a backtest depends on."""
        tree: dict[str, Any] = {name: self.tree.get(name) for name in (*TABLES, "inference")}
        for place in self.places:
            tree = _put(tree, place, None)
        digest = hashlib.sha256(orjson.dumps(tree, default=str, option=orjson.OPT_SORT_KEYS))
        for path in self.tree.get("plugins", ()):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:32]


def make_space(config: Config, dimensions: Sequence[Dimension]) -> SearchSpace:
    """Find every dimension's key and try the ends of its range.

    Raises:
        ConfigError: no dimension, one twice, an unknown key, or a value it may not have.
    """
    if not dimensions:
        fix = "say what to vary: --param strategies.NAME.params.KEY=LOW:HIGH"
        raise ConfigError(_COMMAND, "--param", None, fix)
    keys = [dimension.key for dimension in dimensions]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ConfigError(_COMMAND, "--param", twice, "give each key once")
    tree = _thawed(config.model_dump())
    places = tuple(_find(tree, dimension.key) for dimension in dimensions)
    space = SearchSpace(tree, tuple(dimensions), places)
    for dimension in dimensions:
        _check_active(space, dimension)
        for value in dimension.ends:
            _try(space, dimension, value)
    return space


def _thawed(value: Any) -> Any:
    """Return tuples as lists, so that every level can be copied alike."""
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_thawed(item) for item in value]
    return value


def _find(tree: dict[str, Any], key: str) -> Place:
    """Return the way to a key; an entry of a list goes by its name, dots in it and all."""
    top = key.partition(".")[0]
    if top not in TABLES:
        expected = known_names("tables a sweep can vary", TABLES, top)
        raise ConfigError(_COMMAND, "--param", key, expected)
    node: Any = tree
    place: list[str | int] = []
    rest = key
    while rest:
        found = _step(node, rest)
        if found is None:
            place.append(_free(node, place, key, rest))
            return tuple(place)
        name, at = found
        place.append(at)
        node, rest = node[at], rest[len(name) + 1 :]
    if isinstance(node, dict | list) or place[-1] == _FIXED:
        inside = ", ".join(_names(node)) or "nothing that varies"
        raise ConfigError(_COMMAND, "--param", key, f"give a key within it; there are: {inside}")
    return tuple(place)


def _step(node: Any, rest: str) -> tuple[str, str | int] | None:
    """Return the longest name within a node that begins the rest of a key, and where it is."""
    matching = [name for name in _names(node) if rest == name or rest.startswith(f"{name}.")]
    if not matching:
        return None
    name = max(matching, key=len)
    return name, _names(node).index(name) if isinstance(node, list) else name


def _names(node: Any) -> list[str]:
    if isinstance(node, dict):
        return list(node)
    if isinstance(node, list):
        return [str(item.get("name", at)) if isinstance(item, dict) else str(at)
                for at, item in enumerate(node)]  # fmt: skip
    return []


def _free(node: Any, place: Sequence[str | int], key: str, rest: str) -> str:
    """Return the rest of a key if any name is possible there: a strategy checks its own."""
    if place and place[-1] == _FREE and isinstance(node, dict):
        return rest
    if not isinstance(node, dict | list):
        whole = key[: -len(rest) - 1]
        raise ConfigError(_COMMAND, "--param", key, f"{whole} is a value and has no keys")
    first = rest.partition(".")[0]
    where = key[: -len(rest) - 1]
    raise ConfigError(
        _COMMAND, "--param", key, known_names(f"keys in {where}", _names(node), first)
    )


def _put(node: Any, place: Place, value: Any) -> Any:
    """Return a copy with one value changed; what lies beside the way is shared."""
    if not place:
        return value
    first, rest = place[0], place[1:]
    if isinstance(node, list):
        assert isinstance(first, int)
        return [*node[:first], _put(node[first], rest, value), *node[first + 1 :]]
    return {**node, first: _put(node.get(first), rest, value)}


def _check_active(space: SearchSpace, dimension: Dimension) -> None:
    """Refuse to vary what nobody looks at."""
    place = space.places[space.dimensions.index(dimension)]
    if place[0] != "strategies" or place[2] == "enabled":
        return
    entry = space.tree["strategies"][place[1]]
    switched = f"strategies.{entry['name']}.enabled"
    if not entry["enabled"] and switched not in [each.key for each in space.dimensions]:
        raise ConfigError(_COMMAND, "--param", dimension.key, f"set {switched} to true")


def _try(space: SearchSpace, dimension: Dimension, value: Scalar) -> None:
    """Refuse a value that the configuration would not take by itself."""
    try:
        resolve(space.config_at({dimension.key: value}))
    except PluginError:
        return  # a plain Python strategy may want another value beside it: each trial will say
    except ConfigError as error:
        found = f"{dimension.key}={value}"
        raise ConfigError(_COMMAND, "--param", found, f"{error.key}: {error.expected}") from None
