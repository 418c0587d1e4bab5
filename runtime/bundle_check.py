"""Every form of a bundle on everything this machine can run it on, against the parity vectors."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Backend, LoadOptions, ModelFile
from runtime.bundle import Bundle
from runtime.manifest import MANIFEST
from runtime.parity import ParityReport, run_parity

BUCKETS: Final = (1, 8)
"""Batch sizes that a form is tried with if it takes any: one row, and rows beside others."""


class FormCheck(NamedTuple):
    """What came of one form on one device."""

    file: ModelFile
    backend: str
    device: str
    report: ParityReport | None
    """None if it did not run."""
    problem: str
    """Why it failed, "" if it did not."""
    skipped: str
    """Why it was not run here, "" if it was."""
    fallback: str = ""
    """What of it did not run on the device it was meant for, "" if all of it did."""

    @property
    def verdict(self) -> str:
        """``passed``, ``failed`` or ``not run``."""
        if self.skipped:
            return "not run"
        return "passed" if self.report is not None and self.report.passed else "failed"


def check_forms(bundle: Bundle, backends: Sequence[Backend]) -> Iterator[FormCheck]:
    """Run the parity vectors through every form, on every device of every backend that reads it.

    Args:
        bundle: An open bundle.
        backends: All there are, also those whose library is not installed.

    Yields:
        One result a form, backend and device, as soon as it is there.
    """
    for file in bundle.forms():
        yield from check_file(bundle, file, backends)


def check_file(bundle: Bundle, file: ModelFile, backends: Sequence[Backend]) -> Iterator[FormCheck]:
    """Do so with one form, which need not be in the bundle yet."""
    readers = [backend for backend in backends if file.format in backend.formats]
    if not readers:
        yield FormCheck(file, "", "", None, "", f"no backend reads {file.format}")
    for backend in readers:
        yield from _check_on(bundle, file, backend)


def _check_on(bundle: Bundle, file: ModelFile, backend: Backend) -> Iterator[FormCheck]:
    devices = backend.devices()
    if not devices:
        reason = backend.missing() or "it found no device"
        yield FormCheck(file, backend.name, "", None, "", reason)
    for fact in devices:
        yield check_form(bundle, file, backend, fact.device)


def check_form(bundle: Bundle, file: ModelFile, backend: Backend, device: str) -> FormCheck:
    """Run the parity vectors through one form on one device."""
    options = LoadOptions(buckets=(file.batch,) if file.batch else BUCKETS)
    try:
        report, fallback = run_parity(bundle, backend, file, device, options)
    except (BundleError, DeviceError) as error:
        return FormCheck(file, backend.name, device, None, str(error), "")
    problem = "" if report.passed else str(report)
    return FormCheck(file, backend.name, device, report, problem, "", fallback)


def unnamed_files(bundle: Bundle) -> list[str]:
    """Return the files in the bundle's directory that its manifest does not name, so unverified."""
    manifest = bundle.manifest
    named = {MANIFEST, *manifest.files, *(form.file for form in manifest.forms)}
    below = (path for path in bundle.path.rglob("*") if path.is_file())
    return sorted({path.relative_to(bundle.path).as_posix() for path in below} - named)
