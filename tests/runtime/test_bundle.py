"""A bundle opens only if all of it is as it says, and fits only what it was made for."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bundle_cases import edit_manifest, make_bundle, make_draft
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import make_mlp

from engine.core.errors import BundleError
from engine.core.models import ModelShape, Precision
from runtime.bundle import Bundle, check_against, check_replaces, feature_key, hash_file
from runtime.manifest import Clock, Feature, Normalisation, Output


@pytest.fixture
def made(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "b")


def test_a_whole_bundle_opens(made: Bundle) -> None:
    bundle = Bundle.open(str(made.path))
    assert bundle == made
    assert bundle.shape == ModelShape(8, 4, 3)
    assert bundle.forms("onnx") == bundle.forms() == [bundle.reference]
    assert bundle.forms("rknn") == []
    assert bundle.reference.batch == 0
    assert bundle.tolerance(Precision.FP16) == 5e-3
    assert bundle.parity().inputs.shape == (20, 8, 4)


def test_the_identity_has_the_manifests_hash(made: Bundle) -> None:
    digest = hash_file(made.path / "manifest.json")[:12]
    assert made.identity == f"tiny@1-{digest}"


def test_a_precision_without_a_tolerance_is_told(made: Bundle) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: parity\.tolerance does not .* int8"):
        made.tolerance(Precision.INT8)


def test_a_path_that_the_system_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read: File name too long"):
        Bundle.open(tmp_path / ("x" * 300))


def test_what_is_no_directory_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(BundleError, match="there is no such directory"):
            Bundle.open(path)
    with pytest.raises(BundleError, match=r"manifest\.json: it is missing"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "parity.npz"])
def test_one_flipped_bit_in_any_file_is_found(made: Bundle, name: str) -> None:
    file = made.path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}: its SHA-256 is .*copy the bundle again"):
        Bundle.open(made.path)


@pytest.mark.parametrize("name", ["model.onnx", "parity.npz"])
def test_a_missing_file_is_named(made: Bundle, name: str) -> None:
    (made.path / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: it is missing, though manifest.json names it"):
        Bundle.open(made.path)


def test_a_file_cut_short_or_emptied_is_found(made: Bundle) -> None:
    os.truncate(made.path / "model.onnx", 0)
    with pytest.raises(BundleError, match="its SHA-256 is e3b0c442"):
        Bundle.open(made.path)


def test_a_link_out_of_the_bundle_is_not_followed(made: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    (made.path / "model.onnx").rename(outside)
    (made.path / "model.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="it leads out of the bundle"):
        Bundle.open(made.path)


def test_a_bundle_behind_a_link_opens(made: Bundle, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(made.path)
    assert Bundle.open(tmp_path / "current").identity == made.identity


def test_a_link_onto_itself_is_told(made: Bundle) -> None:
    (made.path / "model.onnx").unlink()
    (made.path / "model.onnx").symlink_to("model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx: it cannot be read"):
        Bundle.open(made.path)


def test_what_would_block_the_reader_is_not_opened(made: Bundle) -> None:
    (made.path / "model.onnx").unlink()
    os.mkfifo(made.path / "model.onnx")
    with pytest.raises(BundleError, match="it is no regular file"):
        Bundle.open(made.path)


def test_a_file_of_absurd_size_is_refused_unread(made: Bundle) -> None:
    os.truncate(made.path / "model.onnx", 1 << 40)
    with pytest.raises(BundleError, match="it is larger than"):
        Bundle.open(made.path)


def test_a_path_out_of_the_bundle_is_refused_before_it_is_read(made: Bundle) -> None:
    edit_manifest(made.path, lambda tree: tree["forms"][0].update(file="../b-source/model.onnx"))
    with pytest.raises(BundleError, match=r"forms\[0\]\.file: .*a file of a bundle lies inside it"):
        Bundle.open(made.path)


def test_another_opset_than_stated_is_told(made: Bundle) -> None:
    edit_manifest(made.path, lambda tree: tree["forms"][0].update(opset=16))
    with pytest.raises(BundleError, match=r"model\.onnx: its opset is 17, the manifest says 16"):
        Bundle.open(made.path)


def test_another_window_than_the_graphs_is_told(made: Bundle) -> None:
    edit_manifest(made.path, lambda tree: tree.update(window=16))
    with pytest.raises(BundleError) as caught:
        Bundle.open(made.path)
    assert "its input is 'window' float32 (any, 8, 4)" in str(caught.value)
    assert "the manifest asks for 'window' float32 (any, 16, 4)" in str(caught.value)


def test_a_feature_too_few_is_told(made: Bundle) -> None:
    edit_manifest(made.path, lambda tree: tree["features"].pop())
    with pytest.raises(BundleError, match=r"asks for 'window' float32 \(any, 8, 3\)"):
        Bundle.open(made.path)


def test_another_number_of_labels_is_told(made: Bundle) -> None:
    two = {"labels": ["down", "up"], "move_bps": []}
    edit_manifest(made.path, lambda tree: tree["output"].update(two))
    with pytest.raises(BundleError, match=r"\(any, 3\); the manifest's labels ask .*\(any, 2\)"):
        Bundle.open(made.path)


def test_a_form_that_is_another_file_altogether_is_told(made: Bundle) -> None:
    (made.path / "model.onnx").write_bytes(b"<html>404 not found</html>")
    digest = hash_file(made.path / "model.onnx")
    edit_manifest(made.path, lambda tree: tree["forms"][0].update(sha256=digest))
    with pytest.raises(BundleError, match=r"model\.onnx: it is no ONNX model"):
        Bundle.open(made.path)


FEATURES = make_draft().features
SECOND = Clock(kind="time", interval="1s")


def test_a_bundle_fits_the_pipeline_it_was_made_for(made: Bundle) -> None:
    check_against(made, FEATURES, 8, SECOND)
    respelt = [msgspec.structs.replace(f, of=f.of.replace("=", " = ")) for f in FEATURES]
    check_against(made, respelt, 8, Clock(kind="time", interval="1000ms"))


def with_feature(index: int, **changes: Any) -> list[Feature]:
    features = list(FEATURES)
    features[index] = msgspec.structs.replace(features[index], **changes)
    return features


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (
            [FEATURES[0], FEATURES[2], FEATURES[1], FEATURES[3]],
            "features[1]: the bundle wants f1 = rsi(length=14), the pipeline makes "
            "f2 = ema(length=20) there, and f1 at 2: the order differs",
        ),
        (
            with_feature(2, of="ema(length=21)"),
            "features[2]: the bundle wants f2 = ema(length=20), the pipeline makes "
            "f2 = ema(length=21)",
        ),
        (with_feature(3, output="signal"), "the pipeline makes f3 = atr(length=14).signal"),
        (with_feature(0, name="g"), "features[0]: the bundle wants f0 = roc(length=1), the"),
        (FEATURES[:3], "features[3]: only the bundle has f3 = atr(length=14)"),
        ([*FEATURES, FEATURES[0]], "features[4]: only the pipeline has f0 = roc(length=1)"),
        ([], "features[0]: only the bundle has f0"),
    ],
)
def test_the_first_feature_that_differs_is_named(
    made: Bundle, features: list[Feature], expected: str
) -> None:
    with pytest.raises(BundleError) as caught:
        check_against(made, features, 8, SECOND)
    assert str(caught.value).startswith(f"{made.path / 'manifest.json'}: features[")
    assert expected in str(caught.value)


def test_another_window_or_clock_is_named(made: Bundle) -> None:
    with pytest.raises(BundleError, match="window: the bundle wants 8 rows, the pipeline keeps 9"):
        check_against(made, FEATURES, 9, SECOND)
    trades = Clock(kind="every_trade")
    with pytest.raises(BundleError, match=r"wants time bars of 1s, .* runs on every trade"):
        check_against(made, FEATURES, 8, trades)


def test_a_bundle_takes_the_place_only_of_one_like_it(made: Bundle) -> None:
    old = made.manifest
    check_replaces(made, msgspec.structs.replace(old, version="0", metrics={"auc": 0.5}))
    with pytest.raises(BundleError, match="the pipeline that runs keeps 9"):
        check_replaces(made, msgspec.structs.replace(old, window=9))
    turned = Output(meaning="direction", labels=("up", "flat", "down"), range=(0, 1))
    with pytest.raises(BundleError, match="found down, flat, up; the pipeline reads up, flat"):
        check_replaces(made, msgspec.structs.replace(old, output=turned))
    stated = Normalisation(kind="stated", mean=(0.0,) * 4, scale=(2.0,) * 4)
    with pytest.raises(BundleError, match="normalisation: "):
        check_replaces(made, msgspec.structs.replace(old, normalisation=stated))


@given(
    st.permutations([("fast", 12), ("slow", 26), ("gain", 0.5)]), st.sampled_from(["", " ", "  "])
)
def test_how_an_indicator_is_written_does_not_count(
    params: list[tuple[str, float]], blank: str
) -> None:
    inside = f"{blank},{blank}".join(f"{key}{blank}={blank}{value}" for key, value in params)
    plain = Feature(name="f", of="macd(fast=12,slow=26.0,gain=.5)")
    assert feature_key(Feature(name="f", of=f"macd({inside})")) == feature_key(plain)
    assert feature_key(Feature(name="f", of="macd()")) == feature_key(Feature(name="f", of="macd"))


def test_a_second_form_with_a_fixed_batch_is_held_against_it(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "b")
    other = make_mlp(made.path / "fixed.onnx")
    form = {
        "file": "fixed.onnx", "format": "onnx", "precision": "fp32", "batch": 4, "opset": 17,
        "sha256": hash_file(other),
    }  # fmt: skip
    edit_manifest(made.path, lambda tree: tree["forms"].append(form))
    with pytest.raises(BundleError, match=r"\(any, 8, 4\); the manifest asks for .*\(4, 8, 4\)"):
        Bundle.open(made.path)
