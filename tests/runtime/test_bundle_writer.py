"""Bundles are written whole or not at all, and the same input gives the same bundle."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from bundle_cases import make_bundle, make_draft
from tiny_models import MLP_SHAPE, make_mlp, random_windows, reference_outputs

from engine.core.errors import BundleError
from engine.core.models import ModelFile, Precision
from runtime.bundle import Bundle
from runtime.bundle_writer import add_forms, copy_bundle, write_bundle


def test_the_same_input_gives_the_same_bundle(tmp_path: Path) -> None:
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b")
    assert first.identity == second.identity
    for name in ("manifest.json", "parity.npz"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_anything_else_gives_another_identity(tmp_path: Path) -> None:
    first = make_bundle(tmp_path / "a")
    assert make_bundle(tmp_path / "b", metrics={"auc": 0.6}).identity != first.identity
    assert make_bundle(tmp_path / "c", rows=19).identity != first.identity


def test_a_bundle_is_written_over_an_older_one(tmp_path: Path) -> None:
    make_bundle(tmp_path / "a", version="1")
    assert make_bundle(tmp_path / "a", version="2").manifest.version == "2"
    assert Bundle.open(tmp_path / "a").manifest.version == "2"


def test_sources_are_files_or_bytes_at_any_depth(tmp_path: Path) -> None:
    model = make_mlp(tmp_path / "m.onnx")
    draft = make_draft()
    deep = msgspec.structs.replace(draft.forms[0], file="cpu/model.onnx")
    draft = msgspec.structs.replace(draft, forms=(deep,))
    inputs = random_windows(MLP_SHAPE, 3)
    outputs = reference_outputs(model, inputs)
    sources: dict[str, Path | bytes] = {"cpu/model.onnx": model, "README.md": b"# Tiny\n"}
    bundle = write_bundle(tmp_path / "b", draft, sources, inputs, outputs)
    assert set(bundle.manifest.files) == {"README.md", "parity.npz"}
    assert (bundle.path / "README.md").read_bytes() == b"# Tiny\n"


def test_a_form_without_a_source_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    windows = random_windows(MLP_SHAPE, 1)
    with pytest.raises(BundleError, match=r"model\.onnx: .* it was not given"):
        write_bundle(tmp_path / "b", make_draft(), {}, windows, np.zeros((1, 3), np.float32))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["../out", "/out", "manifest.json"])
def test_a_source_stays_inside_the_bundle(tmp_path: Path, name: str) -> None:
    sources: dict[str, Path | bytes] = {"model.onnx": b"", name: b"x"}
    windows = random_windows(MLP_SHAPE, 1)
    with pytest.raises(BundleError, match=r"a file of a bundle|the manifest itself"):
        write_bundle(tmp_path / "b", make_draft(), sources, windows, np.zeros((1, 3), np.float32))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "b" / "manifest.json").exists()


def test_a_draft_that_is_wrong_leaves_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="horizon: found 'soon'"):
        make_bundle(tmp_path / "b", horizon="soon")
    with pytest.raises(BundleError, match="it is missing"):
        Bundle.open(tmp_path / "b")


def made_form(out_dir: Path, *, seed: int = 7) -> ModelFile:
    """Do as a builder does: leave a form, and a file beside it, in a directory."""
    path = make_mlp(out_dir / "fp16" / "model.onnx", seed=seed)
    (out_dir / "fp16" / "notes.txt").write_text("made", encoding="utf-8")
    return ModelFile(path, "onnx", Precision.FP16)


def test_forms_are_added_with_the_files_beside_them(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    grown = add_forms(bundle, [made_form(tmp_path / "out")], tmp_path / "out")
    assert grown.identity != bundle.identity
    assert [form.file for form in grown.manifest.forms] == ["model.onnx", "fp16/model.onnx"]
    assert set(grown.manifest.files) == {"parity.npz", "fp16/notes.txt"}
    assert grown.manifest.forms[1].opset == 17
    assert grown.reference == bundle.reference


def test_a_form_made_again_takes_the_old_ones_place(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    once = add_forms(bundle, [made_form(tmp_path / "1")], tmp_path / "1")
    again = add_forms(once, [made_form(tmp_path / "2", seed=9)], tmp_path / "2")
    assert len(again.manifest.forms) == 2
    assert again.manifest.forms[1].sha256 != once.manifest.forms[1].sha256


def test_the_reference_is_never_replaced(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    out_dir = tmp_path / "out"
    other = ModelFile(make_mlp(out_dir / "model.onnx", seed=9), "onnx", Precision.FP32)
    with pytest.raises(BundleError, match=r"model\.onnx: it is the reference"):
        add_forms(bundle, [other], out_dir)
    assert Bundle.open(bundle.path) == bundle


def test_the_parity_vectors_are_never_replaced(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    made = made_form(tmp_path / "out")
    (tmp_path / "out" / "parity.npz").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"parity\.npz: it belongs to the bundle already"):
        add_forms(bundle, [made], tmp_path / "out")
    assert Bundle.open(bundle.path) == bundle


def weighty(out_dir: Path, name: str, format_: str) -> list[ModelFile]:
    """Leave a form with a weights file beside it."""
    out_dir.mkdir(parents=True)
    (out_dir / name).write_text(format_, encoding="utf-8")
    (out_dir / name).with_suffix(".bin").write_text(f"weights of {name}", encoding="utf-8")
    return [ModelFile(out_dir / name, format_, Precision.FP32)]


def test_the_weights_of_another_form_are_never_replaced(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    once = add_forms(bundle, weighty(tmp_path / "1", "m.xml", "openvino"), tmp_path / "1")
    with pytest.raises(BundleError, match=r"m\.bin: it belongs to m\.xml; name the form otherwise"):
        add_forms(once, weighty(tmp_path / "2", "m.param", "ncnn"), tmp_path / "2")
    assert Bundle.open(bundle.path) == once
    again = add_forms(once, weighty(tmp_path / "3", "m.xml", "openvino"), tmp_path / "3")
    assert again.identity == once.identity


def test_a_copy_is_the_same_bundle_without_what_nobody_names(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    (bundle.path / "stray.txt").write_text("stray", encoding="utf-8")
    copy = copy_bundle(bundle, tmp_path / "c" / "d")
    assert copy.identity == bundle.identity
    assert not (copy.path / "stray.txt").exists()
    with pytest.raises(BundleError, match="it is not empty"):
        copy_bundle(bundle, copy.path)
