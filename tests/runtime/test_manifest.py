"""A manifest is read exactly, and every way of getting it wrong is told with key and remedy."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bundle_cases import make_draft
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import BundleError
from engine.core.models import Precision
from runtime.manifest import (
    MAX_MANIFEST_BYTES,
    Clock,
    Manifest,
    encode_manifest,
    parse_manifest,
    read_manifest,
)
from runtime.manifest_checks import problem_of_path

SHA = "0f" * 32
Tree = dict[str, Any]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def good_tree() -> Tree:
    """Return a manifest of two forms as JSON would give it."""
    tree: Tree = json.loads(encode_manifest(make_draft()))
    tree["forms"][0]["sha256"] = SHA
    int8 = {"file": "npu/model.rknn", "format": "rknn", "precision": "int8", "batch": 1}
    tree["forms"].append({**int8, "sha256": SHA})
    tree["parity"]["tolerance"]["int8"] = 0.05
    tree["files"] = {"parity.npz": SHA}
    return tree


def put(tree: Tree, path: str, value: object) -> Tree:
    """Set, or with ``...`` remove, what a dotted path leads to."""
    *steps, last = path.split(".")
    here: Any = tree
    for step in steps:
        here = here[int(step) if step.isdigit() else step]
    key = int(last) if last.isdigit() else last
    if value is ...:
        del here[key]
    else:
        here[key] = value
    return tree


def parse(tree: Tree) -> Manifest:
    return parse_manifest(json.dumps(tree).encode(), "b/manifest.json")


def paths_of(tree: object, path: str = "") -> list[str]:
    """Return the dotted path of everything in a tree."""
    pairs: list[tuple[object, object]] = []
    if isinstance(tree, dict):
        pairs = list(tree.items())
    elif isinstance(tree, list):
        pairs = list(enumerate(tree))
    found = []
    for key, value in pairs:
        here = f"{path}.{key}" if path else str(key)
        found += [here, *paths_of(value, here)]
    return found


SPOILABLE = [path for path in paths_of(good_tree()) if "parity.npz" not in path]


def test_a_good_manifest_says_what_was_written() -> None:
    manifest = parse(good_tree())
    assert manifest.name == "tiny"
    assert manifest.features[1].of == "rsi(length=14)"
    assert manifest.horizon_ns == 10 * 10**9
    assert manifest.clock.interval_ns == 10**9
    assert manifest.reference.file == "model.onnx"
    assert manifest.forms[1].precision is Precision.INT8
    assert manifest.output.range == (0.0, 1.0)


def test_encoding_and_reading_give_the_same_manifest() -> None:
    manifest = parse(good_tree())
    data = encode_manifest(manifest)
    assert parse_manifest(data) == manifest
    assert encode_manifest(parse_manifest(data)) == data


WRONG: list[tuple[str, object, str]] = [
    ("format", 2, "format: found 2; this version reads format 1"),
    ("name", "a/b", "name: found 'a/b'; a name has"),
    ("version", "", "version: found ''; a version has"),
    ("window", 0, "window: found 0; a window has 1 to 4096 rows"),
    ("window", 10**12, "window: found 1000000000000; a window has 1 to 4096"),
    ("window", "32", "window: expected `int`, got `str`"),
    ("window", ..., "missing required field `window`"),
    ("features", [], "features: found 0; a model has 1 to 256 features"),
    ("features.2.of", ..., "features[2]: object missing required field `of`"),
    ("features.1.name", "f0", "features[1].name: found 'f0'; every feature has a name of its own"),
    ("features.1.name", "", "features[1].name: found ''; a name has"),
    ("features.0.of", "roc(length=1", "features[0].of: found 'roc(length=1'; write an indicator"),
    ("features.0.of", "__import__('os')", "features[0].of: found"),
    ("features.0.output", "a b", "features[0].output: found 'a b'; give the name of an output"),
    ("features.0.unit", "bps", "unknown field `unit`; keys here: name, of, output"),
    ("clock.kind", "weekly", "clock.kind: invalid enum value 'weekly'; one of: time, tick,"),
    ("clock.interval", "", "clock.interval: found ''; give a duration above 0"),
    ("clock.interval", "0s", "clock.interval: found '0s'; give a duration above 0"),
    ("clock.interval", "1 fortnight", "clock.interval: found '1 fortnight'; give a duration"),
    ("clock.kind", "every_tick", "clock.interval: found '1s'; a every_tick clock has no interval"),
    ("clock", {"kind": "volume"}, "clock.size: found 0.0; a volume clock has a size above 0"),
    ("clock.size", 3, "clock.size: found 3.0; a time clock has no size"),
    ("clock.price", "last", "clock.price: invalid enum value 'last'; one of: auto, trade, mid"),
    ("normalisation.mean", [0] * 4, "normalisation.kind: found 'in_graph'; leave out mean"),
    ("normalisation", {"kind": "stated"}, "normalisation.mean: found '0 numbers'; one number a"),
    (
        "normalisation",
        {"kind": "stated", "mean": [0] * 4, "scale": [1, 1, 0, 1]},
        "normalisation.scale[2]: found 0.0; a scale of 0 would erase",
    ),
    (
        "normalisation",
        {"kind": "stated", "mean": [0] * 4, "scale": [1, 1, 1, 1e-60]},
        "normalisation.scale[3]: found 1e-60; a scale of 0 would erase",
    ),
    (
        "normalisation",
        {"kind": "stated", "mean": [0, -1e300, 0, 0], "scale": [1] * 4},
        "normalisation.mean[1]: found -1e+300; give a number that float32 can hold",
    ),
    ("output.meaning", "price", "output.meaning: invalid enum value 'price'; one of: direction"),
    ("output.labels", ["a", "b", "c"], 'a direction has the labels "down" and "up"'),
    ("output.labels", ["down", "up", "up"], "each once"),
    ("output.labels.1", "x\ny", "output.labels[1]: found 'x\\ny'; a label has"),
    ("output.range", [1, 0], "output.range: found [1.0, 0.0]; give [lowest, highest]"),
    ("output.range", [0], "output.range: expected `array` of length 2"),
    ("output.move_bps", [1], "output.move_bps: found [1.0]; one number a label: 3"),
    ("output.softmax", True, "output: object contains unknown field `softmax`"),
    ("horizon", "soon", "horizon: found 'soon'; give a duration above 0"),
    ("training.data_sha256", ..., "training.data_sha256: found ''; give a SHA-256"),
    ("training.data_sha256", 7, "training.data_sha256: found 7; give a SHA-256"),
    ("parity.file", "other.npz", "parity.file: found 'other.npz'; `files` has to give"),
    ("parity.outputs", "inputs", "parity.outputs: found 'inputs'; inputs and outputs are two"),
    ("parity.tolerance.fp32", 0, "parity.tolerance.fp32: found 0.0; a tolerance is a number"),
    ("parity.tolerance.fp64", 1, "invalid enum value 'fp64'; one of: fp32, fp16, int8"),
    ("parity.tolerance.int8", ..., "forms[1].precision: found 'int8'; parity.tolerance has to"),
    ("forms", [], "forms: found 0; a bundle has 1 to 64 forms"),
    ("forms.0.file", "/etc/passwd", "forms[0].file: found '/etc/passwd'; a file of a bundle lies"),
    ("forms.0.file", "../model.onnx", "a file of a bundle lies inside it"),
    ("forms.0.file", "a/../../m.onnx", "a file of a bundle lies inside it"),
    ("forms.0.file", "..\\model.onnx", "a file of a bundle lies inside it"),
    ("forms.0.file", "C:model.onnx", "a file of a bundle lies inside it"),
    ("forms.0.file", "a\0.onnx", "a path has letters"),
    ("forms.0.file", ".onnx", "a path has letters"),
    ("forms.0.file", "model.bin", "a form in onnx ends in .onnx"),
    ("forms.0.format", "caffe", "forms[0].format: invalid enum value 'caffe'; one of: onnx,"),
    ("forms.0.precision", "fp8", "invalid enum value 'fp8'; one of: fp32, fp16, int8"),
    ("forms.0.opset", 5, "forms[0].opset: found 5; opsets 11 to 25 are read; export with opset"),
    ("forms.0.opset", 0, "forms[0].opset: found 0; opsets 11"),
    ("forms.1.opset", 17, "forms[1].opset: found 17; only onnx forms have an opset"),
    ("forms.1.batch", 10**6, "forms[1].batch: found 1000000; a batch is 0 (any) to 1024"),
    ("forms.1.batch", -1, "forms[1].batch: found -1; a batch is"),
    ("forms.0.sha256", "ABC", "forms[0].sha256: found 'ABC'; give a SHA-256"),
    ("forms.0.sha256", ..., "forms[0].sha256: found ''; give a SHA-256"),
    ("forms.0.reference", False, "forms: found '0 references'; mark one form"),
    ("forms.0.batch", 8, "the reference is an onnx form in fp32 that takes any batch"),
    ("forms.1.reference", True, "forms: found '2 references'; mark one form"),
    ("forms.1.file", "model.onnx", "a form has a file of its own"),
    (
        "forms.1",
        {"file": "m.xml", "format": "openvino", "precision": "fp16", "sha256": SHA},
        "`files` has to give the SHA-256 of m.bin, where its weights are",
    ),
    ("files.parity.npz", ..., "`files` has to give its SHA-256"),
    ("metric", {}, "unknown field `metric`; did you mean 'metrics'? keys here: format, name,"),
]


def test_two_forms_never_share_their_weights() -> None:
    tree = good_tree()
    both = (("m.xml", "openvino"), ("m.param", "ncnn"))
    tree["forms"] += [
        {"file": file, "format": name, "precision": "fp32", "sha256": SHA} for file, name in both
    ]
    tree["files"]["m.bin"] = SHA
    with pytest.raises(BundleError, match=r"m\.bin holds the weights of m\.xml; name the form"):
        parse(tree)


@pytest.mark.parametrize(("path", "value", "expected"), WRONG)
def test_each_wrong_key_is_named_with_what_may_be_there(
    path: str, value: object, expected: str
) -> None:
    tree = good_tree()
    if path == "files.parity.npz":
        tree["files"] = {}
    else:
        put(tree, path, value)
    with pytest.raises(BundleError) as caught:
        parse(tree)
    assert str(caught.value).startswith("b/manifest.json: ")
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "it is not JSON"),
        (b'{"format": 1', "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[1]", "expected `object`, got `array`"),
        (b"null", "expected `object`, got `null`"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"format": 1, "format": 1}', "the key 'format' is given twice"),
        (b'{"window": NaN}', "NaN is no JSON number"),
        (b'{"window": -Infinity}', "-Infinity is no JSON number"),
        (b'{"window": ' + b"9" * 5000 + b"}", "it is not JSON"),
    ],
)
def test_what_is_no_manifest_at_all_is_said_so(text: bytes, expected: str) -> None:
    with pytest.raises(BundleError, match=expected):
        parse_manifest(text)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_numbers_beyond_a_float_are_refused(number: str) -> None:
    text = json.dumps(put(good_tree(), "output.sum", 123456789))
    with pytest.raises(BundleError, match=r"output\.sum"):
        parse_manifest(text.replace("123456789", number).encode())


def test_a_manifest_of_absurd_size_is_not_read_in(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(BundleError, match=f"larger than {MAX_MANIFEST_BYTES}"):
        read_manifest(file)


def test_a_missing_manifest_and_a_directory_in_its_place_are_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="it is missing; a bundle is a directory with a manifest"):
        read_manifest(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match="it cannot be read"):
        read_manifest(tmp_path)


def test_clocks_are_the_same_however_they_are_written() -> None:
    second = Clock(kind="time", interval="1s")
    assert second.same_as(Clock(kind="time", interval="1000ms"))
    assert not second.same_as(Clock(kind="time", interval="2s"))
    assert not second.same_as(Clock(kind="time", interval="1s", price="mid"))
    assert str(second) == str(Clock(kind="time", interval="1000000000ns"))
    assert str(second) == "time bars of 1s, auto prices"
    assert str(Clock(kind="time", interval="90m", price="mid")) == "time bars of 90m, mid prices"
    assert str(Clock(kind="time", interval="1.5us")) == "time bars of 1500ns, auto prices"
    assert str(Clock(kind="volume", size=500)) == "volume bars of 500, auto prices"
    assert str(Clock(kind="every_trade")) == "every trade"


@given(st.sampled_from(SPOILABLE), JSON)
def test_a_manifest_with_anything_anywhere_is_read_or_refused(path: str, value: object) -> None:
    try:
        manifest = parse(put(good_tree(), path, value))
    except BundleError:
        return
    assert parse_manifest(encode_manifest(manifest)) == manifest


@given(st.sampled_from(SPOILABLE))
def test_a_manifest_with_anything_left_out_is_read_or_refused(path: str) -> None:
    try:
        parse(put(good_tree(), path, ...))
    except BundleError:
        return


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(data)


@given(st.text(st.sampled_from("ab./\\:~\0 -"), max_size=12))
def test_no_path_that_passes_leaves_its_directory(text: str) -> None:
    if not problem_of_path(text):
        inside = (Path("/bundle") / text).resolve()
        assert inside.is_relative_to("/bundle")
        assert inside != Path("/bundle")


def test_the_structures_are_frozen() -> None:
    manifest = parse(good_tree())
    with pytest.raises(AttributeError):
        manifest.window = 3  # type: ignore[misc]
    assert msgspec.structs.replace(manifest, window=3).window == 3
