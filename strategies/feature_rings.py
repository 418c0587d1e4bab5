"""The feature windows of all models and instruments, and the way out of the kernel into a batch."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import boolean, config, float32, int64, typeof, uint8

from engine.core.models import Floats
from strategies.plan import KernelPlan, ModelInstance
from strategies.windows import SLACK, gather_nb

Whole = npt.NDArray[np.int64]
"""Instruments or window numbers of a batch's requests, shape (N,)."""
States = npt.NDArray[np.void]
_FLOAT32: Final = np.dtype(np.float32)
_INT64: Final = np.dtype(np.int64)
_UINT8: Final = np.dtype(np.uint8)


class FeatureRings:
    """Rings of float32 rows, filled by the kernel; belongs to its thread.

    Memory: the sum over models of (window + SLACK) x features x 4 bytes an instrument.

    Args:
        plan: Names the models.
        instruments: Most instruments.
        state: The kernel's state, shape (instruments + 1,).

    Attributes:
        rows: All rings, one after another, float32, shape (R,).
    """

    def __init__(self, plan: KernelPlan, instruments: int, state: States) -> None:
        self.models = plan.models
        sizes = [instruments * ring_length(one) * len(one.columns) for one in plan.models]
        self.bases: Final = [sum(sizes[:at]) for at in range(len(sizes))]
        self.rows: Floats = np.zeros(sum(sizes), np.float32)
        self._states = [state[one.field][:instruments] for one in plan.models]
        self._norms = [np.zeros((2, len(one.columns)), np.float32) for one in plan.models]
        self._stated = [False] * len(plan.models)
        self._shapes = [(one.window, len(one.columns)) for one in plan.models]
        self._gathers: list[Callable[..., int]] = [gather_nb] * len(plan.models)

    def pushed(self, model: int, instrument: int) -> int:
        """Return the number of an instrument's newest row, 0 before the first."""
        return int(self._states[model]["pushed"][instrument])

    def rows_of(self, instruments: int) -> list[Floats]:
        """Return the rings of the first ``instruments`` instruments, a view a model."""
        sizes = [instruments * ring_length(one) * len(one.columns) for one in self.models]
        return [self.rows[at : at + n] for at, n in zip(self.bases, sizes, strict=True)]

    def set_normalisation(
        self, model: int, mean: npt.ArrayLike | None, scale: npt.ArrayLike | None
    ) -> None:
        """Let ``gather`` give (x - mean) * scale, computed in float32; None for x itself.

        Raises:
            ValueError: not one number a feature, or one that is not finite.
        """
        self._stated[model] = mean is not None and scale is not None
        if mean is None or scale is None:
            return
        stated = np.array([mean, scale], np.float32)
        if stated.shape != self._norms[model].shape or not np.isfinite(stated).all():
            raise ValueError(f"normalisation of {self.models[model].name} is {stated}")
        self._norms[model][:] = stated

    def gather(
        self, model: int, instruments: Whole, windows: Whole, out: Floats, ok: npt.NDArray[np.uint8]
    ) -> int:
        """Copy the windows of a batch's requests side by side, in one compiled call.

        Args:
            model: The model's index.
            instruments: int64, shape (N,).
            windows: What the candidates' ``window`` said, int64, shape (N,).
            out: C-contiguous float32, shape (B, W, F), B at least N; rows from N on stay.
            ok: uint8, shape (N,): set to 1 where the window is still whole; 0 where it never was,
                or where more than SLACK rows came since; there ``out`` gets zeros.

        Returns:
            How many were whole.

        Raises:
            ValueError: an array of another shape or type.
        """
        wanted = self._shapes[model]
        if out.shape[1:] != wanted or out.dtype != _FLOAT32 or not out.flags.c_contiguous:
            raise ValueError(f"out is {out.dtype} {out.shape}, not float32 (B, {wanted})")
        if windows.dtype != _INT64 or instruments.dtype != _INT64 or ok.dtype != _UINT8:
            raise ValueError(f"{instruments.dtype} instruments, {windows.dtype}, {ok.dtype} ok")
        count = len(instruments)
        if len(out) < count or len(windows) != count or len(ok) != count:
            raise ValueError(f"{count} instruments, {len(windows)} windows, {len(ok)} ok")
        return self._gathers[model](
            self.rows, self._states[model], self.bases[model], self._norms[model],
            self._stated[model], instruments, windows, out, ok,
        )  # fmt: skip

    def warm_up(self) -> None:
        """Compile ``gather``, or load it from the cache."""
        self._gathers = [self._compiled(index) for index in range(len(self.models))]
        none, ok = np.zeros(0, np.int64), np.zeros(0, np.uint8)
        for index, (window, features) in enumerate(self._shapes):
            self.gather(index, none, none, np.zeros((1, window, features), np.float32), ok)

    def _compiled(self, model: int) -> Callable[..., int]:
        """Return the machine code's own entry: past numba's dispatch a call costs half.

        It trusts its arguments' types, so ``gather`` checks them; any stride fits.
        """
        if getattr(config, "DISABLE_JIT", 0):
            return gather_nb
        signature = (
            float32[::1], typeof(self._states[model]), int64, float32[:, ::1], boolean,
            int64[:], int64[:], float32[:, :, ::1], uint8[:],
        )  # fmt: skip
        gather_nb.compile(signature)
        overloads: dict[Any, Any] = gather_nb.overloads
        found: Callable[..., int] = overloads[signature].entry_point
        return found


def rings_bytes(model: ModelInstance, instruments: int) -> int:
    """Return what the windows of a model take."""
    return instruments * ring_length(model) * len(model.columns) * np.dtype(np.float32).itemsize


def ring_length(model: ModelInstance) -> int:
    """Return how many rows are kept of each instrument."""
    return model.window + SLACK


def set_window_params(record: Any, model: ModelInstance, base: int) -> None:
    """Fill a model's parameter record."""
    record["window"], record["length"] = model.window, ring_length(model)
    record["features"], record["base"] = len(model.columns), base
