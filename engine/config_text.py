"""Writes a configuration back as TOML that gives the same configuration when loaded."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.config import Origins
from engine.core.settings import parse_duration_ns

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_UNITS_NS: Final = (
    ("h", 3600 * 10**9), ("m", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 10**3),
)  # fmt: skip
KeyPath = tuple[str, ...]


def config_toml(config: BaseModel, origins: Origins | None = None) -> str:
    """Return every key as TOML; keys that were given say by which file or variable.

    A key that is absent stands as a comment.
    """
    lines = _table(config, (), origins or {})
    return "\n".join(lines).strip() + "\n"


def value_toml(value: Any, *, duration: bool = False) -> str:
    """Return one value as TOML; ``duration`` says that an integer is nanoseconds."""
    match value:
        case bool():
            return "true" if value else "false"
        case Enum() | Path():
            return _text(str(value.value if isinstance(value, Enum) else value))
        case int() if duration:
            return _text(duration_text(value))
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case Mapping():
            pairs = (f"{_key(str(k))} = {value_toml(v)}" for k, v in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
        case Sequence():
            return f"[{', '.join(value_toml(item, duration=duration) for item in value)}]"
    raise TypeError(f"{type(value).__name__} has no TOML form")


def duration_text(value_ns: int) -> str:
    """Return a duration in the largest unit in which it is whole."""
    for unit, unit_ns in _UNITS_NS:
        if value_ns % unit_ns == 0 and (value_ns or unit == "s"):
            return f"{value_ns // unit_ns}{unit}"
    return f"{value_ns}ns"


def is_duration(field: FieldInfo) -> bool:
    """Return whether a field of a configuration model is a duration."""
    return any(
        getattr(part, "func", None) is parse_duration_ns
        for part in (*field.metadata, *_metadata(field.annotation))
    )


def _metadata(annotation: object) -> Iterator[object]:
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _metadata(part)


def _table(model: BaseModel, path: KeyPath, origins: Origins) -> list[str]:
    """Return a table's own keys, then its tables: TOML wants them in this order."""
    lines, tables = [], []
    for name, field in type(model).model_fields.items():
        value, here = getattr(model, name), (*path, name)
        if isinstance(value, BaseModel):
            body = _table(value, here, origins)
            header = [] if not body or body[0].startswith("\n[") else [f"\n[{_dotted(here)}]"]
            tables += header + body
        elif _is_array(value):
            tables += [line for item in value for line in _item(item, here, origins)]
        elif isinstance(value, Mapping) and value:
            tables += _mapping(value, here, origins)
        elif value is None:
            lines.append(f"# {name} is absent")
        else:
            text = value_toml(value, duration=is_duration(field))
            lines.append(f"{name} = {text}{_origin(here, origins)}")
    return lines + tables


def _is_array(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], BaseModel)


def _item(model: BaseModel, path: KeyPath, origins: Origins) -> list[str]:
    lines = [f"\n[[{_dotted(path)}]]{_origin(path, origins)}"]
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if value is not None:
            lines.append(f"{name} = {value_toml(value, duration=is_duration(field))}")
    return lines


def _mapping(value: Mapping[str, object], path: KeyPath, origins: Origins) -> list[str]:
    return [
        f"\n[{_dotted(path)}]",
        *(
            f"{_key(key)} = {value_toml(item)}{_origin((*path, key), origins)}"
            for key, item in value.items()
        ),
    ]


def _origin(path: KeyPath, origins: Origins) -> str:
    return f"  # {origins[path]}" if path in origins else ""


def _dotted(path: KeyPath) -> str:
    return ".".join(_key(part) for part in path)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
