"""A model bundle on disk: opened only if every byte of it is what its manifest says."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.core.errors import BundleError
from engine.core.models import ModelFile, ModelShape, Precision
from runtime.manifest import (
    MANIFEST,
    Clock,
    Feature,
    Form,
    Manifest,
    parse_manifest,
    read_manifest_bytes,
)
from runtime.onnx_file import check_onnx
from runtime.parity_file import ParityVectors, read_vectors

MAX_FILE_BYTES: Final = 4 << 30
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files have been verified. Make one with ``Bundle.open``."""

    path: Path
    manifest: Manifest
    identity: str
    """``name@version-`` and the first 12 digits of the manifest's SHA-256, which covers all."""

    @classmethod
    def open(cls, path: Path | str) -> "Bundle":
        """Read the manifest and verify every file it names.

        Raises:
            BundleError: a file is missing, outside the bundle, too large or has another hash, or
                the manifest or an ONNX form is not what it should be.
        """
        root = Path(path)
        if not _is_directory(root):
            problem = "there is no such directory; a bundle is a directory with a manifest.json"
            raise BundleError(root, problem)
        data = read_manifest_bytes(root / MANIFEST)
        manifest = parse_manifest(data, root / MANIFEST)
        digest = hashlib.sha256(data).hexdigest()
        bundle = cls(root, manifest, f"{manifest.name}@{manifest.version}-{digest[:12]}")
        bundle.verify()
        for form in manifest.forms:
            if form.format == "onnx":
                check_onnx(root, form, manifest, bundle.shape)
        return bundle

    def verify(self) -> None:
        """Hold every file against the manifest that was read, as before a form is loaded again.

        Raises:
            BundleError: a file is missing, outside the bundle, too large or has another hash.
        """
        for file, sha256 in _hashes(self.manifest).items():
            _verify(self.path, file, sha256)

    @property
    def shape(self) -> ModelShape:
        """The shape of one request."""
        manifest = self.manifest
        return ModelShape(manifest.window, len(manifest.features), len(manifest.output.labels))

    @property
    def reference(self) -> ModelFile:
        """The form that the parity vectors were made with: ONNX, fp32, any batch."""
        return self._file(self.manifest.reference)

    def forms(self, format_: str | None = None) -> list[ModelFile]:
        """Return the forms of a format, or all, in the order of the manifest."""
        forms = self.manifest.forms
        return [self._file(form) for form in forms if format_ in (None, form.format)]

    def tolerance(self, precision: Precision) -> float:
        """Return how far a form of a precision may be off the reference, absolute.

        Raises:
            BundleError: the manifest does not say.
        """
        try:
            return self.manifest.parity.tolerance[precision]
        except KeyError:
            problem = f"parity.tolerance does not say how far {precision} may be off"
            raise BundleError(self.path / MANIFEST, problem) from None

    def parity(self) -> ParityVectors:
        """Load the parity vectors.

        Raises:
            BundleError: the file is no such archive, or its arrays have another type or shape, or
                hold something that is not finite.
        """
        said = self.manifest.parity
        return read_vectors(self.path / said.file, said.inputs, said.outputs, self.shape)

    def _file(self, form: Form) -> ModelFile:
        return ModelFile(self.path / form.file, form.format, form.precision, form.batch)


def check_against(
    bundle: Bundle, features: Sequence[Feature], window: int, clock: Clock, who: str = "pipeline"
) -> None:
    """Refuse a bundle that wants other inputs than it will be given.

    Args:
        bundle: The bundle.
        features: The columns that the pipeline makes, in order.
        window: The rows it keeps.
        clock: When it adds a row.
        who: What makes them, for the error.

    Raises:
        BundleError: names the first feature that differs, or the window or the clock.
    """
    manifest, source = bundle.manifest, bundle.path / MANIFEST
    for index, (has, makes) in enumerate(zip(manifest.features, features, strict=False)):
        if feature_key(has) != feature_key(makes):
            problem = f"features[{index}]: the bundle wants {_describe(has)}, the {who} makes "
            hint = _hint_at_order(has, features)
            raise BundleError(source, f"{problem}{_describe(makes)}{hint}")
    if len(manifest.features) != len(features):
        shorter = min(len(manifest.features), len(features))
        longer = manifest.features if len(manifest.features) > shorter else features
        whose = "bundle" if longer is manifest.features else who
        extra = f"only the {whose} has {_describe(longer[shorter])}"
        raise BundleError(source, f"features[{shorter}]: {extra}")
    if manifest.window != window:
        problem = f"window: the bundle wants {manifest.window} rows, the {who} keeps {window}"
        raise BundleError(source, problem)
    if not manifest.clock.same_as(clock):
        problem = f"clock: the bundle wants {manifest.clock}, the {who} runs on {clock}"
        raise BundleError(source, problem)


def check_replaces(bundle: Bundle, old: Manifest) -> None:
    """Refuse a bundle that cannot take another's place while the pipeline runs.

    Raises:
        BundleError: it wants other inputs or another stated normalisation, or gives other outputs.
    """
    check_against(bundle, old.features, old.window, old.clock, "pipeline that runs")
    new, source = bundle.manifest, bundle.path / MANIFEST
    if new.normalisation != old.normalisation:
        problem = "normalisation: it is not that of the bundle in use, which the pipeline applies"
        raise BundleError(source, f"{problem}; bake it into the graph")
    if (new.output.meaning, new.output.labels) != (old.output.meaning, old.output.labels):
        found, wanted = ", ".join(new.output.labels), ", ".join(old.output.labels)
        raise BundleError(source, f"output.labels: found {found}; the pipeline reads {wanted}")


def feature_key(feature: Feature) -> tuple[str, str, str]:
    """Return what makes a feature the same as another, however its indicator is written.

    Blanks, the order of parameters and the way a number is written do not count.
    """
    name, _, inside = feature.of.replace(" ", "").partition("(")
    pairs = [part.partition("=") for part in inside.rstrip(")").split(",") if part]
    params = sorted(f"{key}={_number_text(value)}" for key, _, value in pairs)
    return feature.name, f"{name}({','.join(params)})", feature.output


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise BundleError(path, f"it cannot be read: {error.strerror}") from None


def _hashes(manifest: Manifest) -> dict[str, str]:
    return {form.file: form.sha256 for form in manifest.forms} | manifest.files


def _verify(root: Path, file: str, sha256: str) -> None:
    path = root / file
    try:
        if not path.resolve(strict=True).is_relative_to(root.resolve()):
            raise BundleError(path, "it leads out of the bundle; copy the file into the bundle")
        if not path.is_file():
            raise BundleError(path, "it is no regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BundleError(path, f"it is larger than {MAX_FILE_BYTES} bytes")
        found = hash_file(path)
    except FileNotFoundError:
        problem = f"it is missing, though {MANIFEST} names it; restore it, or make the bundle again"
        raise BundleError(path, problem) from None
    except (OSError, RuntimeError) as error:
        raise BundleError(path, f"it cannot be read: {error}") from None
    if found != sha256:
        problem = f"its SHA-256 is {found}, {MANIFEST} says {sha256}; copy the bundle again"
        raise BundleError(path, problem)


def _describe(feature: Feature) -> str:
    output = f".{feature.output}" if feature.output else ""
    return f"{feature.name} = {feature.of}{output}"


def _hint_at_order(feature: Feature, features: Sequence[Feature]) -> str:
    keys = [feature_key(other) for other in features]
    if feature_key(feature) not in keys:
        return ""
    return f" there, and {feature.name} at {keys.index(feature_key(feature))}: the order differs"


def _number_text(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        return text
