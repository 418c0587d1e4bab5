"""What an ONNX file says of its opset, inputs and outputs, read without a library.

An ONNX file is a protocol buffer (onnx.proto3, ModelProto). Only the few fields that are asked
about are walked into, everything else is stepped over, so a file from anywhere can do no harm here.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.core.errors import BundleError
from engine.core.models import ModelShape

if TYPE_CHECKING:
    from runtime.manifest import Form, Manifest

INPUT: Final = "window"
"""The name of a model's one input."""
MAX_ONNX_BYTES: Final = 2**31
"""More is no protocol buffer."""

_FLOAT: Final = 1
_TYPES: Final = {
    1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 16: "bfloat16",
}  # fmt: skip
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_MAX_DEPTH: Final = 8

Value = int | memoryview


class OnnxTensor(NamedTuple):
    """An input or output: its shape, None for a dimension that is not fixed."""

    name: str
    type: str
    dims: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("any" if dim is None else str(dim) for dim in self.dims)
        return f"{self.name!r} {self.type} ({dims})"


class OnnxFacts(NamedTuple):
    """What was asked about."""

    opset: int
    """Of the default domain, 0 if it names none."""
    inputs: tuple[OnnxTensor, ...]
    """Without those that have a value in the file."""
    outputs: tuple[OnnxTensor, ...]
    external: tuple[str, ...]
    """Files that hold weights, relative to the model's directory."""


def check_onnx(root: Path, form: "Form", manifest: "Manifest", shape: ModelShape) -> None:
    """Hold an ONNX form against its manifest.

    Args:
        root: The bundle's directory.
        form: The form.
        manifest: What the bundle says.
        shape: The shape of one request.

    Raises:
        BundleError: another opset, other inputs or outputs, or weights outside the bundle.
    """
    path = root / form.file
    facts = read_onnx(path)
    for problem in _differences(facts, form, shape):
        raise BundleError(path, problem)
    for location in facts.external:
        file = (PurePosixPath(form.file).parent / location).as_posix()
        if file not in manifest.files:
            problem = f"it keeps weights in {location!r}, which `files` does not name; export it"
            raise BundleError(path, f"{problem} with its weights inside")


def read_onnx(path: Path) -> OnnxFacts:
    """Read the facts of an ONNX file.

    Raises:
        BundleError: it cannot be read, or is no ONNX model.
    """
    try:
        if path.stat().st_size > MAX_ONNX_BYTES:
            raise BundleError(path, f"an ONNX file has up to {MAX_ONNX_BYTES} bytes")
        return parse_onnx(path.read_bytes())
    except OSError as error:
        raise BundleError(path, f"it cannot be read: {error.strerror}") from None
    except ValueError as error:
        problem = f"it is no ONNX model: {error}; export the model again"
        raise BundleError(path, problem) from None


def parse_onnx(data: bytes) -> OnnxFacts:
    """Read the facts of an ONNX model.

    Raises:
        ValueError: the bytes are no ONNX model.
    """
    opset, graph = 0, None
    for number, value in _fields(memoryview(data)):
        if number == 8 and _text(_first(value, 1)) in ("", "ai.onnx"):
            opset = _number(_first(value, 2))
        elif number == 7:
            graph = value
    if graph is None:
        raise ValueError("it has no graph")
    initial = {_text(_first(tensor, 8)) for tensor in _all(graph, 5)}
    inputs = tuple(t for t in map(_tensor, _all(graph, 11)) if t.name not in initial)
    outputs = tuple(map(_tensor, _all(graph, 12)))
    return OnnxFacts(opset, inputs, outputs, tuple(dict.fromkeys(_external(graph))))


def _differences(facts: OnnxFacts, form: "Form", shape: ModelShape) -> Iterator[str]:
    if facts.opset != form.opset:
        yield f"its opset is {facts.opset}, the manifest says {form.opset}; correct the manifest"
    batch = form.batch or None
    wanted = OnnxTensor(INPUT, "float32", (batch, shape.window, shape.features))
    if facts.inputs != (wanted,):
        found = ", ".join(map(str, facts.inputs)) or "nothing"
        yield f"its input is {found}; the manifest asks for {wanted}"
    dims = (batch, shape.outputs)
    if [(out.type, out.dims) for out in facts.outputs] != [("float32", dims)]:
        found = ", ".join(map(str, facts.outputs)) or "nothing"
        labels = f"one float32 ({'any' if batch is None else batch}, {shape.outputs})"
        yield f"its output is {found}; the manifest's labels ask for {labels}"


def _tensor(info: Value) -> OnnxTensor:
    tensor = _first(_first(info, 2), 1)
    kind = _number(_first(tensor, 1))
    dims = (_number(_first(dim, 1)) for dim in _all(_first(tensor, 2), 1))
    name = _text(_first(info, 1))
    return OnnxTensor(name, _TYPES.get(kind, f"type {kind}"), tuple(d or None for d in dims))


def _external(graph: Value, depth: int = 0) -> Iterator[str]:
    """Yield where tensors of a graph, its nodes' attributes and their graphs are kept outside."""
    if depth > _MAX_DEPTH:
        raise ValueError("its graphs are nested too deeply")
    tensors = _all(graph, 5)
    for node in _all(graph, 1):
        for attribute in _all(node, 5):
            tensors += _all(attribute, 5) + _all(attribute, 10)
            for inner in _all(attribute, 6) + _all(attribute, 11):
                yield from _external(inner, depth + 1)
    for tensor in tensors:
        for entry in _all(tensor, 13):
            if _text(_first(entry, 1)) == "location":
                yield _text(_first(entry, 2))


def _all(message: Value, number: int) -> list[Value]:
    return [value for field, value in _fields(message) if field == number]


def _first(message: Value, number: int) -> Value:
    return next((value for field, value in _fields(message) if field == number), memoryview(b""))


def _text(value: Value) -> str:
    if isinstance(value, int):
        raise ValueError("a number where a text belongs")  # noqa: TRY004 - the file's, not ours
    return str(value, "utf-8")


def _number(value: Value) -> int:
    """Return a number; a field that is absent is 0."""
    return value if isinstance(value, int) else 0


def _fields(message: Value) -> Iterator[tuple[int, Value]]:
    """Yield the number and value of each field of a message.

    Raises:
        ValueError: the bytes are no protocol buffer.
    """
    if isinstance(message, int):
        raise ValueError("a number where a message belongs")  # noqa: TRY004 - the file's, not ours
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at} belongs to no protocol buffer")
        if size > end - at:
            raise ValueError("it is cut off")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("it is cut off")
