"""Making bundles: hashes are taken here, the manifest is written last, and the result is opened."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from engine.core.errors import BundleError
from engine.core.models import Floats, ModelFile
from runtime.bundle import Bundle, hash_file
from runtime.manifest import MANIFEST, Form, Manifest, encode_manifest, parse_manifest
from runtime.manifest_checks import companion_of, problem_of_path
from runtime.onnx_file import read_onnx
from runtime.parity_file import write_vectors

_PARTIAL: Final = ".partial"


def write_bundle(
    path: Path,
    draft: Manifest,
    sources: Mapping[str, Path | bytes],
    inputs: Floats,
    outputs: Floats,
) -> Bundle:
    """Write a bundle and open it.

    Args:
        path: Its directory, made if it is not there. While it is being written it has no manifest.
        draft: The manifest; what it says of hashes is replaced.
        sources: Every file but the parity vectors, by its name in the bundle: its bytes, or a file
            to copy.
        inputs: Windows, float32 (N, W, F).
        outputs: What the reference form answers to them, float32 (N, O).

    Raises:
        BundleError: as ``Bundle.open``; or a form has no source, or a name leads out of the bundle.
    """
    for form in draft.forms:
        if form.file not in sources:
            raise BundleError(path / form.file, "the manifest names it, but it was not given")
    path.mkdir(parents=True, exist_ok=True)
    (path / MANIFEST).unlink(missing_ok=True)
    for name, source in sources.items():
        _put(path, name, source)
    parity = draft.parity
    _check_name(path, parity.file)
    write_vectors(path / parity.file, {parity.inputs: inputs, parity.outputs: outputs})
    return _seal(path, draft, [*sources, parity.file])


def add_forms(bundle: Bundle, made: Sequence[ModelFile], out_dir: Path) -> Bundle:
    """Add forms that a builder made to a bundle, which gets another identity by it.

    Args:
        bundle: The bundle; a form of the same file name is replaced.
        made: The forms.
        out_dir: Where they are; every file below it goes into the bundle at the same place.

    Raises:
        BundleError: as ``Bundle.open``, or a file would be written over the reference or the
            parity vectors. The old manifest is in force until the new one is whole.
    """
    names = [file.relative_to(out_dir).as_posix() for file in _files_below(out_dir)]
    forms = [_form_of(file, out_dir) for file in made]
    manifest = bundle.manifest
    new = {form.file for form in forms}
    kept = [form for form in manifest.forms if form.file not in new]
    for name in names:
        _check_new(bundle, name)
        _check_others(bundle, name, kept)
    draft = msgspec.structs.replace(manifest, forms=(*kept, *forms))
    for name in names:
        _put(bundle.path, name, out_dir / name)
    return _seal(bundle.path, draft, [*names, *manifest.files])


def copy_bundle(bundle: Bundle, path: Path) -> Bundle:
    """Copy what the manifest names, and nothing else, to another directory.

    Raises:
        BundleError: there is something at that place already, or the copy cannot be opened.
    """
    if path.exists() and any(path.iterdir()):
        raise BundleError(path, "it is not empty; name a directory that is not there yet")
    manifest = bundle.manifest
    for name in [*(form.file for form in manifest.forms), *manifest.files, MANIFEST]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, path / name)
    return Bundle.open(path)


def _seal(path: Path, draft: Manifest, names: Sequence[str]) -> Bundle:
    """Take the hashes, and put the manifest in its place at once."""
    forms = tuple(
        msgspec.structs.replace(form, sha256=hash_file(path / form.file)) for form in draft.forms
    )
    own = {form.file for form in forms}
    files = {name: hash_file(path / name) for name in dict.fromkeys(names) if name not in own}
    data = encode_manifest(msgspec.structs.replace(draft, forms=forms, files=files))
    parse_manifest(data, path / MANIFEST)
    partial = path / f"{MANIFEST}{_PARTIAL}"
    partial.write_bytes(data)
    os.replace(partial, path / MANIFEST)
    return Bundle.open(path)


def _put(path: Path, name: str, source: Path | bytes) -> None:
    _check_name(path, name)
    target = path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        target.write_bytes(source)
    elif source.resolve() != target.resolve():
        shutil.copyfile(source, target)


def _check_name(path: Path, name: str) -> None:
    problem = problem_of_path(name)
    if problem:
        raise BundleError(path / name, problem)


def _check_new(bundle: Bundle, name: str) -> None:
    """Refuse to write over what every form is compared with."""
    manifest = bundle.manifest
    if name == manifest.reference.file:
        problem = "it is the reference, which every form is compared with; name the form otherwise"
        raise BundleError(bundle.path / name, problem)
    if name == manifest.parity.file:
        raise BundleError(bundle.path / name, "it belongs to the bundle already; name it otherwise")


def _check_others(bundle: Bundle, name: str, kept: Sequence[Form]) -> None:
    """Refuse to write over the weights of a form that stays."""
    for form in kept:
        if name == companion_of(form):
            problem = f"it belongs to {form.file}; name the form otherwise"
            raise BundleError(bundle.path / name, problem)


def _files_below(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _form_of(file: ModelFile, out_dir: Path) -> Form:
    name = file.path.relative_to(out_dir).as_posix()
    opset = read_onnx(file.path).opset if file.format == "onnx" else 0
    form = {
        "file": name, "format": file.format, "precision": file.precision,
        "batch": file.batch, "opset": opset,
    }  # fmt: skip
    return msgspec.convert(form, Form)
