"""What every builder is told.

A builder is a module with ``build(bundle, out_dir, options) -> list[ModelFile]``. It converts the
bundle's reference form, proves what it made on the parity vectors where this machine can run it,
and writes nothing outside ``out_dir``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.core.models import Precision
from runtime.bundle_check import FormCheck


def no_check(check: FormCheck) -> None:
    """Keep nothing."""


class BuildOptions(NamedTuple):
    """How a form is to be built.

    Attributes:
        target: As the user named it: ``openvino``, ``dla:0``, ``rk3568``.
        precision: What the form computes in.
        buckets: Batch sizes, ascending, for forms with a fixed batch: one file each.
        tool: Program of the converter, or Python of the virtual environment it is installed in,
            where it is not to be found beside HEQIS; None to look for it.
        calibration: Windows that INT8 scales are learned from, ``.npz``; None for the bundle's own.
        on_check: Hears how what was built did where the builder itself could try it, as on a
            simulator that is no backend.
    """

    target: str = ""
    precision: Precision = Precision.FP32
    buckets: tuple[int, ...] = (1,)
    tool: Path | None = None
    calibration: Path | None = None
    on_check: Callable[[FormCheck], None] = no_check
