"""What can be wrong with a manifest whose keys and types are right. Pure: no file is looked at."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.core.models import Precision
from engine.core.settings import parse_duration_ns

if TYPE_CHECKING:
    from runtime.manifest import Form, Manifest

MAX_WINDOW: Final = 4096
MAX_FEATURES: Final = 256
MAX_OUTPUTS: Final = 64
MAX_FORMS: Final = 64
MAX_FILES: Final = 256
MAX_FORM_BATCH: Final = 1024
MIN_OPSET: Final = 11
MAX_OPSET: Final = 25
SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "onnx": (".onnx",),
    "openvino": (".xml",),
    "litert": (".tflite",),
    "ncnn": (".param",),
    "rknn": (".rknn",),
    "tensorrt": (".engine", ".plan"),
    "torch": (".pt2",),
}
"""File name endings of each format."""
COMPANIONS: Final[Mapping[str, str]] = {"openvino": ".bin", "ncnn": ".bin"}
"""Formats with their weights in a second file, of the same name with this ending."""
RESERVED: Final = "manifest.json"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}")
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_USE: Final = re.compile(r"[A-Za-z_]\w{0,63}(?:\([\w=., +-]{0,200}\))?", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_SHOWN: Final = 60
_FLOAT32: Final = (1.18e-38, 3.4e38)
"""Least magnitude, but for 0, and greatest of the numbers that windows are normalised with."""


class Problem(NamedTuple):
    """One thing that is wrong."""

    key: str
    found: object
    expected: str
    """What may be there, and what to do."""

    def __str__(self) -> str:
        found = repr(self.found)
        if len(found) > _SHOWN:
            found = f"{found[:_SHOWN]}…"
        return f"{self.key}: found {found}; {self.expected}"


Problems = Iterator[Problem]


def problems(manifest: "Manifest") -> Problems:
    """Return everything that is wrong with a manifest, lazily, in the order of its keys."""
    for check in _CHECKS:
        yield from check(manifest)


def problem_of_path(text: str) -> str:
    """Return why a text is no path of a file inside the bundle, "" if it is one."""
    parts = text.split("/")
    if text.startswith("/") or "\\" in text or ":" in text or ".." in parts:
        return "a file of a bundle lies inside it: give a relative path without '..'"
    if len(parts) > 4 or not all(_SEGMENT.fullmatch(part) for part in parts):
        return "a path has letters, digits, '_', '.', '+' and '-', at most 4 parts with '/'"
    if text == RESERVED:
        return "the manifest itself is no such file"
    return ""


def _check_identity(manifest: "Manifest") -> Problems:
    if manifest.format != 1:
        yield Problem("format", manifest.format, "this version reads format 1")
    if not _NAME.fullmatch(manifest.name):
        yield Problem("name", manifest.name, "a name has 1 to 48 letters, digits, '_', '-' and '.'")
    if not _VERSION.fullmatch(manifest.version):
        expected = "a version has 1 to 32 letters, digits, '_', '.', '+' and '-'"
        yield Problem("version", manifest.version, expected)


def _check_window(manifest: "Manifest") -> Problems:
    if not 1 <= manifest.window <= MAX_WINDOW:
        yield Problem("window", manifest.window, f"a window has 1 to {MAX_WINDOW} rows")


def _check_features(manifest: "Manifest") -> Problems:
    features = manifest.features
    if not 1 <= len(features) <= MAX_FEATURES:
        yield Problem("features", len(features), f"a model has 1 to {MAX_FEATURES} features")
    names = [feature.name for feature in features]
    for index, feature in enumerate(features):
        key = f"features[{index}]"
        if not _NAME.fullmatch(feature.name):
            expected = "a name has 1 to 48 letters, digits, '_', '-' and '.'"
            yield Problem(f"{key}.name", feature.name, expected)
        if feature.name in names[:index]:
            yield Problem(f"{key}.name", feature.name, "every feature has a name of its own")
        if not _USE.fullmatch(feature.of):
            expected = "write an indicator as name or name(parameter=number, …)"
            yield Problem(f"{key}.of", feature.of, expected)
        if feature.output and not feature.output.isidentifier():
            expected = 'give the name of an output, or "" for the main one'
            yield Problem(f"{key}.output", feature.output, expected)


def _check_clock(manifest: "Manifest") -> Problems:
    clock = manifest.clock
    wants_interval = clock.kind == "time"
    wants_size = clock.kind in ("tick", "volume", "turnover")
    if wants_interval:
        yield from _check_duration("clock.interval", clock.interval)
    elif clock.interval:
        yield Problem("clock.interval", clock.interval, f"a {clock.kind} clock has no interval")
    if wants_size and not 0 < clock.size < math.inf:
        yield Problem("clock.size", clock.size, f"a {clock.kind} clock has a size above 0")
    if not wants_size and clock.size:
        yield Problem("clock.size", clock.size, f"a {clock.kind} clock has no size")


def _check_normalisation(manifest: "Manifest") -> Problems:
    stated = manifest.normalisation
    if stated.kind == "in_graph":
        if stated.mean or stated.scale:
            expected = 'leave out mean and scale, or make the kind "stated"'
            yield Problem("normalisation.kind", stated.kind, expected)
        return
    for key, values in (("mean", stated.mean), ("scale", stated.scale)):
        if len(values) != len(manifest.features):
            expected = f"one number a feature: {len(manifest.features)}"
            yield Problem(f"normalisation.{key}", f"{len(values)} numbers", expected)
        for index, value in enumerate(values):
            if not abs(value) <= _FLOAT32[1]:
                expected = "give a number that float32 can hold"
                yield Problem(f"normalisation.{key}[{index}]", value, expected)
    for index, value in enumerate(stated.scale):
        if abs(value) < _FLOAT32[0]:
            expected = "a scale of 0 would erase the feature; leave the feature out"
            yield Problem(f"normalisation.scale[{index}]", value, expected)


def _check_output(manifest: "Manifest") -> Problems:
    output = manifest.output
    labels = output.labels
    for index, label in enumerate(labels):
        if not _LABEL.fullmatch(label):
            expected = "a label has 1 to 32 letters, digits, '_', '-' and '.'"
            yield Problem(f"output.labels[{index}]", label, expected)
    if len(set(labels)) < len(labels) or not {"down", "up"} <= set(labels):
        expected = 'a direction has the labels "down" and "up", and others, each once'
        yield Problem("output.labels", list(labels), expected)
    if len(labels) > MAX_OUTPUTS:
        yield Problem("output.labels", len(labels), f"a model has up to {MAX_OUTPUTS} outputs")
    yield from _check_finite("output.range", output.range)
    if not output.range[0] < output.range[1]:
        yield Problem("output.range", list(output.range), "give [lowest, highest]")
    if output.sum is not None:
        yield from _check_finite("output.sum", (output.sum,))
    yield from _check_finite("output.move_bps", output.move_bps)
    if output.move_bps and len(output.move_bps) != len(labels):
        expected = f"one number a label: {len(labels)}"
        yield Problem("output.move_bps", list(output.move_bps), expected)


def _check_history(manifest: "Manifest") -> Problems:
    yield from _check_duration("horizon", manifest.horizon)
    yield from _check_sha256("training.data_sha256", manifest.training.get("data_sha256", ""))


def _check_parity(manifest: "Manifest") -> Problems:
    parity = manifest.parity
    if parity.file not in manifest.files:
        yield Problem("parity.file", parity.file, "`files` has to give its SHA-256")
    if parity.inputs == parity.outputs:
        yield Problem("parity.outputs", parity.outputs, "inputs and outputs are two arrays")
    for precision, tolerance in parity.tolerance.items():
        if not 0 < tolerance < math.inf:
            expected = "a tolerance is a number above 0"
            yield Problem(f"parity.tolerance.{precision}", tolerance, expected)


def _check_forms(manifest: "Manifest") -> Problems:
    forms = manifest.forms
    if not 1 <= len(forms) <= MAX_FORMS:
        yield Problem("forms", len(forms), f"a bundle has 1 to {MAX_FORMS} forms")
    files = [form.file for form in forms]
    for index, form in enumerate(forms):
        key = f"forms[{index}]"
        if form.file in files[:index] or form.file in manifest.files:
            expected = "a form has a file of its own, which is not in `files`"
            yield Problem(f"{key}.file", form.file, expected)
        yield from _check_form(key, form, manifest)
    yield from _check_companions(forms)
    references = [form for form in forms if form.reference]
    if len(references) != 1:
        yield Problem("forms", f"{len(references)} references", "mark one form as the reference")
    for form in references:
        if (form.format, form.precision, form.batch) != ("onnx", Precision.FP32, 0):
            found = f"{form.format} {form.precision} of batch {form.batch}"
            expected = "the reference is an onnx form in fp32 that takes any batch (batch 0)"
            yield Problem(f"forms[{forms.index(form)}].reference", found, expected)


def _check_companions(forms: "Sequence[Form]") -> Problems:
    """Refuse two forms with the same weights file: formats whose second files are named alike."""
    owners: dict[str, str] = {}
    for index, form in enumerate(forms):
        companion = companion_of(form)
        if companion and companion in owners:
            expected = (
                f"{companion} holds the weights of {owners[companion]}; name the form otherwise"
            )
            yield Problem(f"forms[{index}].file", form.file, expected)
        elif companion:
            owners[companion] = form.file


def _check_form(key: str, form: "Form", manifest: "Manifest") -> Problems:
    yield from _check_path(f"{key}.file", form.file)
    yield from _check_sha256(f"{key}.sha256", form.sha256)
    endings = SUFFIXES[form.format]
    if not form.file.endswith(endings):
        expected = f"a form in {form.format} ends in {' or '.join(endings)}"
        yield Problem(f"{key}.file", form.file, expected)
    companion = companion_of(form)
    if companion and companion not in manifest.files:
        expected = f"`files` has to give the SHA-256 of {companion}, where its weights are"
        yield Problem(f"{key}.file", form.file, expected)
    if not 0 <= form.batch <= MAX_FORM_BATCH:
        yield Problem(f"{key}.batch", form.batch, f"a batch is 0 (any) to {MAX_FORM_BATCH}")
    if form.format == "onnx" and not MIN_OPSET <= form.opset <= MAX_OPSET:
        expected = f"opsets {MIN_OPSET} to {MAX_OPSET} are read; export with opset 17"
        yield Problem(f"{key}.opset", form.opset, expected)
    if form.format != "onnx" and form.opset:
        yield Problem(f"{key}.opset", form.opset, "only onnx forms have an opset; leave it out")
    if form.precision not in manifest.parity.tolerance:
        expected = f"parity.tolerance has to say how far {form.precision} may be off"
        yield Problem(f"{key}.precision", str(form.precision), expected)


def _check_files(manifest: "Manifest") -> Problems:
    if len(manifest.files) > MAX_FILES:
        yield Problem("files", len(manifest.files), f"a bundle has up to {MAX_FILES} files")
    for file, sha256 in manifest.files.items():
        yield from _check_path("files", file)
        yield from _check_sha256(f"files.{file}", sha256)


def companion_of(form: "Form") -> str:
    """Return the path of a form's second file, "" if its format has only one."""
    ending = COMPANIONS.get(form.format)
    return f"{form.file.rsplit('.', 1)[0]}{ending}" if ending else ""


def _check_duration(key: str, text: str) -> Problems:
    try:
        length_ns = parse_duration_ns(text)
    except ValueError:
        length_ns = 0
    if length_ns <= 0:
        yield Problem(key, text, 'give a duration above 0 such as "250ms", "10s" or "1m"')


def _check_path(key: str, text: str) -> Problems:
    problem = problem_of_path(text)
    if problem:
        yield Problem(key, text, problem)


def _check_sha256(key: str, value: object) -> Problems:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        yield Problem(key, value, "give a SHA-256 in 64 small hexadecimal digits")


def _check_finite(key: str, values: Sequence[float]) -> Problems:
    for index, value in enumerate(values):
        if not math.isfinite(value):
            yield Problem(f"{key}[{index}]", value, "give a finite number")


_CHECKS: Final[tuple[Callable[["Manifest"], Problems], ...]] = (
    _check_identity,
    _check_window,
    _check_features,
    _check_clock,
    _check_normalisation,
    _check_output,
    _check_history,
    _check_parity,
    _check_forms,
    _check_files,
)
