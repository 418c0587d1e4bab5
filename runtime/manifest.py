"""A bundle's ``manifest.json``: what it may say, and reading it without believing it.

The structures mirror the file key by key; ``docs/models.md`` is the page for people. Unknown keys,
duplicate keys and values of another type are refused; ``manifest_checks`` judges the rest.
"""

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_type_hints

import msgspec

from engine.core.errors import BundleError
from engine.core.models import Precision
from engine.core.settings import parse_duration_ns
from engine.core.suggest import did_you_mean
from runtime.manifest_checks import problems

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
MAX_MANIFEST_BYTES: Final = 1 << 20

FormName = Literal["onnx", "openvino", "litert", "ncnn", "rknn", "tensorrt", "torch"]
ClockKind = Literal[
    "time", "tick", "volume", "turnover", "every_tick", "every_trade", "every_quote"
]
SAMPLE_CLOCKS: Final = {"every_tick": "tick", "every_trade": "trade", "every_quote": "quote"}
"""Clocks that need no bar, and what configurations call them in ``on``."""

_PLACE: Final = re.compile(r"(.*?)(?: - at (?:`key` in )?`\$\.?(.*)`)?", re.DOTALL)
_QUOTED: Final = re.compile(r"`(.*)`", re.DOTALL)


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One object of the manifest."""


class Feature(Record, frozen=True):
    """One column of the window."""

    name: str
    of: str
    """The indicator it is, as in ``rsi(length=14)``."""
    output: str = ""
    """Which of the indicator's outputs, "" for its main one."""


class Clock(Record, frozen=True):
    """When a row is added to the window."""

    kind: ClockKind
    interval: str = ""
    """Length of a time bar, ``"1s"``."""
    size: float = 0.0
    """Ticks, volume or turnover of one bar of the other kinds."""
    price: Literal["auto", "trade", "mid"] = "auto"
    """What the bars' prices are made of, as in ``[[bars]]``."""

    @property
    def interval_ns(self) -> int:
        """Length of a time bar in nanoseconds, 0 for the other kinds."""
        return parse_duration_ns(self.interval) if self.interval else 0

    def same_as(self, other: "Clock") -> bool:
        """Return whether both tick at the same times and prices, however it is written."""
        return (self.kind, self.interval_ns, self.size, self.price) == (
            (other.kind, other.interval_ns, other.size, other.price)
        )

    def __str__(self) -> str:
        if self.kind in SAMPLE_CLOCKS:
            return self.kind.replace("_", " ")
        length = _duration_text(self.interval_ns) if self.interval else f"{self.size:g}"
        return f"{self.kind} bars of {length}, {self.price} prices"


class Normalisation(Record, frozen=True):
    """How the graph's input is made of features: ``(x - mean) * scale``, or by the graph itself."""

    kind: Literal["in_graph", "stated"]
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()


class Output(Record, frozen=True):
    """What the numbers that come out mean, and which are possible."""

    meaning: Literal["direction"]
    """``direction``: a probability for each label, of the move until the horizon."""
    labels: tuple[str, ...]
    range: tuple[float, float]
    """Every valid output is within it, both ends included."""
    sum: float | None = None
    """What one answer's outputs add up to, None if nothing in particular."""
    move_bps: tuple[float, ...] = ()
    """Mean move of each label on the training span: the expected edge is sum(p * move)."""


class Parity(Record, frozen=True, kw_only=True):
    """Inputs and the reference's outputs that every form has to reproduce."""

    file: str
    inputs: str = "inputs"
    outputs: str = "outputs"
    tolerance: dict[Precision, float]
    """Largest absolute difference of an output that a form of a precision may show."""


class Form(Record, frozen=True):
    """The model as one file that one family of backends reads."""

    file: str
    format: FormName
    precision: Precision
    batch: int = 0
    """Its fixed batch size, 0 if it takes any."""
    opset: int = 0
    """Of ONNX forms; 0 for the others."""
    sha256: str = ""
    reference: bool = False
    """The one form that the parity vectors were made with."""


class Manifest(Record, frozen=True):
    """All of it."""

    format: int
    name: str
    version: str
    window: int
    """Rows of one input."""
    features: tuple[Feature, ...]
    """Columns of one input, in order."""
    clock: Clock
    normalisation: Normalisation
    output: Output
    horizon: str
    """How far ahead the model looks, ``"10s"``."""
    training: dict[str, Any]
    """How it was made; ``data_sha256`` has to be there, the rest is free."""
    metrics: dict[str, Any]
    """How good it was on data it had not seen; free."""
    parity: Parity
    forms: tuple[Form, ...]
    files: dict[str, str] = {}
    """SHA-256 of every file beside the forms and the manifest."""

    @property
    def horizon_ns(self) -> int:
        """How far ahead the model looks, nanoseconds."""
        return parse_duration_ns(self.horizon)

    @property
    def reference(self) -> Form:
        """The form that the parity vectors were made with."""
        return next(form for form in self.forms if form.reference)


def read_manifest(path: Path) -> Manifest:
    """Read and judge a manifest.

    Raises:
        BundleError: it is missing, too large, no JSON, or says something it may not; names the
            file, the key, what was found and what may be there.
    """
    return parse_manifest(read_manifest_bytes(path), path)


def read_manifest_bytes(path: Path) -> bytes:
    """Return a manifest's bytes, of which there may be ``MAX_MANIFEST_BYTES``.

    Raises:
        BundleError: it cannot be read, or is larger.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        problem = f"it is missing; a bundle is a directory with a {MANIFEST} in it"
        raise BundleError(path, problem) from None
    except OSError as error:
        raise BundleError(path, f"it cannot be read: {error.strerror}") from None
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(path, f"it is larger than {MAX_MANIFEST_BYTES} bytes: no manifest")
    return data


def parse_manifest(data: bytes, source: str | Path = MANIFEST) -> Manifest:
    """Read and judge a manifest's text.

    Args:
        data: JSON in UTF-8.
        source: Where it came from, for errors.

    Raises:
        BundleError: as ``read_manifest``.
    """
    tree = _parse_json(data, source)
    try:
        manifest = msgspec.convert(tree, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(source, _explain(str(error))) from None
    for problem in problems(manifest):
        raise BundleError(source, str(problem))
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as JSON for its file; the same manifest gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def _duration_text(length_ns: int) -> str:
    units = (("h", 3600 * 10**9), ("m", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 10**3))
    for unit, unit_ns in units:
        if length_ns % unit_ns == 0:
            return f"{length_ns // unit_ns}{unit}"
    return f"{length_ns}ns"


def _parse_json(data: bytes, source: str | Path) -> object:
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise BundleError(source, "it is nested too deeply: no manifest") from None
    except ValueError as error:
        raise BundleError(source, f"it is not JSON: {error}; mend the syntax there") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice in one object")
    return tree


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _explain(message: str) -> str:
    """Turn msgspec's message into one that names the key and what may be there."""
    match = _PLACE.fullmatch(message)
    text, key = (match[1], match[2] or "") if match else (message, "")
    steps = [step for step in re.sub(r"\[.*?\]", "", key).split(".") if step]
    where = f"{key}: " if key else ""
    return where + text[:1].lower() + text[1:] + _hint(text, steps)


def _hint(text: str, steps: list[str]) -> str:
    quoted = _QUOTED.search(text)
    if "unknown field" in text and quoted:
        allowed = list(get_type_hints(_struct_at(steps)))
        return f"; {did_you_mean(quoted[1], allowed)}keys here: {', '.join(allowed)}"
    if "Invalid enum value" in text and steps:
        hint = get_type_hints(_struct_at(steps[:-1])).get(steps[-1])
        return f"; one of: {', '.join(_choices(hint))}"
    return ""


def _choices(hint: object) -> list[str]:
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return list(kind)
    return [choice for choice in get_args(hint) if isinstance(choice, str)]


def _struct_at(steps: list[str]) -> type[Record]:
    return _STRUCTS.get(".".join(steps), Manifest)


_STRUCTS: Final[dict[str, type[Record]]] = {
    "features": Feature,
    "clock": Clock,
    "normalisation": Normalisation,
    "output": Output,
    "parity": Parity,
    "forms": Form,
}
