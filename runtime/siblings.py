"""Forms with a fixed batch, a file each, served together as one model with several buckets."""

import logging
from collections.abc import Mapping
from typing import Final

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Backend, Floats, LoadedModel, LoadOptions, ModelFile
from runtime.bundle import Bundle
from runtime.prepared import fallback_of

_log: Final = logging.getLogger(__name__)


class SiblingModel:
    """A ``LoadedModel`` of several that differ in nothing but their batch.

    Args:
        parts: By bucket, at least one; closed with this model.

    Attributes:
        fallback: What of the parts runs elsewhere than on their device, "" if nothing.
    """

    def __init__(self, parts: Mapping[int, LoadedModel]) -> None:
        first = next(iter(parts.values()))
        self.backend = first.backend
        self.device = first.device
        self.precision = first.precision
        self.shape = first.shape
        self.buckets = tuple(sorted(parts))
        self.memory_bytes = sum(part.memory_bytes for part in parts.values())
        told = dict.fromkeys(fallback_of(part) for part in parts.values())
        self.fallback = "; ".join(text for text in told if text)
        self._parts = dict(parts)

    def staging(self, bucket: int, slot: int = 0) -> Floats:
        """Return the buffer a batch is gathered into: C-contiguous (bucket, window, features).

        Raises:
            DeviceError: there is no such bucket and slot, or the model is closed.
        """
        return self._part(bucket).staging(bucket, slot)

    def run(self, bucket: int, slot: int = 0) -> Floats:
        """Compute a slot's rows; return (bucket, outputs), valid until the slot's next run.

        Raises:
            DeviceError: the library failed, there is no such bucket, or the model is closed.
        """
        return self._part(bucket).run(bucket, slot)

    def close(self) -> None:
        """Give everything back; closing twice does nothing."""
        for part in self._parts.values():
            part.close()

    def _part(self, bucket: int) -> LoadedModel:
        part = self._parts.get(bucket)
        if part is None:
            raise DeviceError(f"{self.backend} on {self.device}: no form of batch {bucket}")
        return part


def load_with_siblings(
    bundle: Bundle, backend: Backend, file: ModelFile, device: str, options: LoadOptions
) -> LoadedModel:
    """Load a form and, if its batch is fixed, those of the bundle that differ only in theirs.

    A sibling that does not load, as an engine that was built for another device, is left out; so
    are those larger than the largest bucket that is wanted.

    Args:
        bundle: Where the siblings are.
        backend: What loads them.
        file: The form; has to load.
        device: Where to.
        options: How; the buckets say which sizes are wanted.

    Raises:
        BundleError: the form is not what it says it is.
        DeviceError: the device or its library failed, or is not here.
    """
    first = backend.load(file, bundle.shape, device, options)
    parts = {file.batch: first}
    for sibling in siblings_of(bundle, file, max(options.buckets)):
        if sibling.batch in parts:
            continue
        try:
            parts[sibling.batch] = backend.load(sibling, bundle.shape, device, options)
        except (BundleError, DeviceError) as error:
            _log.info("%s is left out: %s", sibling.path.name, error)
    return first if len(parts) == 1 else SiblingModel(parts)


def siblings_of(bundle: Bundle, file: ModelFile, largest: int) -> list[ModelFile]:
    """Return the forms of other fixed batches, at most ``largest``, but otherwise the same kind."""
    if not file.batch:
        return []
    return [
        other
        for other in bundle.forms(file.format)
        if other.precision is file.precision and 0 < other.batch <= largest
        and other.batch != file.batch
    ]  # fmt: skip
