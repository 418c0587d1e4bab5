"""The fused kernel with its state: records in, candidates and closed bars out.

Owned by the thread that runs the pipeline. All buffers are made once; their sizes follow from the
configuration and the number of instruments.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from numba.core.errors import NumbaError

from engine.core.errors import PluginError
from engine.core.models import Floats
from engine.core.records import BAR, CANDIDATE, TICK, Bars, Instruments, Ticks, id_bound
from strategies.codegen import (
    MAX_CLOSES,
    TALLY_BARS,
    TALLY_CANDIDATES,
    TALLY_RESETS,
    TALLY_SHUT,
    TALLY_UNKNOWN,
    tally_broken,
)
from strategies.codegen import bindings_of as _bindings_of
from strategies.codegen import generate as _generate
from strategies.feature_rings import FeatureRings, Whole, set_window_params
from strategies.kernel_cache import load_module
from strategies.plan import KernelPlan
from strategies.sample import FACTS

OUTPUT_ROWS: Final = 4096
"""Rows of the candidate and closed-bar buffers beyond what one heartbeat can fill."""

_NS: Final = 1_000_000_000


class KernelState(msgspec.Struct, frozen=True, gc=False):
    """What a kernel knows of the first ``instruments`` instruments, as the arrays' bytes."""

    instruments: int
    state: bytes
    ring: bytes
    facts: bytes
    tally: bytes
    windows: list[bytes]
    """Feature rows by model."""


class Kernel:
    """One compiled pipeline over ``capacity`` instruments.

    Args:
        plan: What it contains.
        instruments: Most instruments it will know; ids are below it.
        emit: Names of the bars that leave the kernel when they close.
        pause: Also stop after every record that made a candidate.
        enabled: For each rule, which instruments it looks at, shape (rules, I), u1; None for all.

    Attributes:
        key: Names the compiled source and all that went into it.
    """

    def __init__(
        self,
        plan: KernelPlan,
        instruments: int,
        emit: frozenset[str] = frozenset(),
        enabled: npt.NDArray[np.uint8] | None = None,
        *,
        pause: bool = False,
    ) -> None:
        self.plan = plan
        self.instruments = instruments
        rules, bars = max(1, len(plan.rules)), max(1, len(plan.bars))
        self.params = np.zeros(1, plan.param_dtype)
        self.state = np.zeros(instruments + 1, plan.state_dtype)
        self.ring = np.zeros(instruments * plan.ring_width)
        self.facts = np.zeros(instruments, FACTS)
        self.facts["pre_close"] = np.nan
        self.enabled = np.ones((rules, instruments), np.uint8) if enabled is None else enabled
        most = max(instruments, MAX_CLOSES)
        self.candidates = np.zeros(OUTPUT_ROWS + most * rules, CANDIDATE)
        self.candidate_bytes = self.candidates.view(np.uint8).data
        out_bars = most * bars + (OUTPUT_ROWS if emit else 0)
        self.bar_rows = np.zeros(out_bars, np.int64)
        self.bars = np.zeros(out_bars, BAR)
        self.values = np.full((out_bars, plan.width), np.nan)
        self.tally = np.zeros(tally_broken(plan) + len(plan.models), np.int64)
        self.rings = FeatureRings(plan, instruments, self.state)
        self._outputs = self.tally[: TALLY_RESETS + 1]
        self._set_params(emit)
        self.params[0]["pause"] = pause
        self.params[0]["instruments"] = instruments
        self._known = 0
        self._set_pristine()
        self._module = load_module(_generate(plan), _bindings_of(plan))
        self.key = self._module.__name__.rpartition("_")[2]
        self._on_ticks: Callable[..., int] = self._module.on_ticks
        self._on_bars: Callable[..., int] = self._module.on_bars
        self._rest = (
            self.state, self.ring, self.params, self.facts, self.enabled,
            self.candidates, self.bar_rows, self.bars, self.values, self.tally,
            *([self.rings.rows] if plan.models else []),
        )  # fmt: skip

    def warm_up(self, *, bars: bool = False) -> None:
        """Compile, or load from the cache, before anything is live; ``bars``: that entry too.

        Raises:
            PluginError: an indicator or rule that numba cannot compile.
        """
        self._on_ticks = self._compiled(self._module.on_ticks, np.zeros(1, TICK))
        if bars:
            self._on_bars = self._compiled(self._module.on_bars, np.zeros(1, BAR))
        self.rings.warm_up()

    def _compiled(self, function: Any, records: npt.NDArray[np.void]) -> Callable[..., int]:
        """Return the machine code's own entry, past numba's dispatch: all types are known."""
        overloads: Mapping[Any, Any] | None = getattr(function, "overloads", None)
        try:
            function(records, 0, 0, *self._rest)
        except NumbaError as error:
            raise PluginError(self._file_in(str(error)), f"it does not compile: {error}") from error
        except OSError:  # the cache's disk is full: the compiled code is here all the same
            if not overloads:
                raise
        if overloads is None:
            return function  # type: ignore[no-any-return]  # compilation is switched off
        return next(iter(overloads.values())).entry_point  # type: ignore[no-any-return]

    def _file_in(self, text: str) -> str:
        """Return the file among the indicators' and rules' that an error's text names."""
        functions = [one.spec.update for one in self.plan.indicators]
        functions += [rule.spec.decide for rule in self.plan.rules]
        files = [getattr(f, "py_func", f).__code__.co_filename for f in functions]
        return next((file for file in files if file in text), "an indicator or rule")

    @property
    def signatures(self) -> int:
        """Compiled signatures of the tick entry: 1 after warm-up, ever."""
        return len(getattr(self._module.on_ticks, "signatures", [()]))

    def define(self, instruments: Instruments) -> None:
        """Take (new) instrument definitions; ids must be below the capacity.

        From the first definition on, heartbeats and gaps concern defined instruments only.

        Raises:
            IndexError: an id beyond the capacity; nothing was taken.
        """
        at = instruments["id"]
        self.facts["day_offset_ns"][at] = instruments["day_offset_s"].astype(np.int64) * _NS
        self.facts["pre_close"][at] = instruments["pre_close"]
        self._known = max(self._known, id_bound(instruments))
        self.params[0]["instruments"] = self._known

    def export_state(self) -> KernelState:
        """Return a copy of all that the defined instruments have been through."""
        known = self._known
        return KernelState(
            instruments=known,
            state=self.state[:known].tobytes(),
            ring=self.ring[: known * self.plan.ring_width].tobytes(),
            facts=self.facts[:known].tobytes(),
            tally=self.tally.tobytes(),
            windows=[rows.tobytes() for rows in self.rings.rows_of(known)],
        )

    def import_state(self, kept: KernelState) -> None:
        """Take up what another kernel of the same plan exported; all else is pristine again.

        Raises:
            ValueError: it is of another plan, or of more instruments than there is room for;
                nothing was taken.
        """
        known = kept.instruments
        if not 0 <= known <= self.instruments:
            raise ValueError(f"it knows {known} instruments, there is room for {self.instruments}")
        ring_end = known * self.plan.ring_width
        windows = self.rings.rows_of(known)
        places: list[tuple[npt.NDArray[Any], bytes]] = [
            (self.state[:known], kept.state),
            (self.ring[:ring_end], kept.ring),
            (self.facts[:known], kept.facts),
            (self.tally, kept.tally),
            *zip(windows, kept.windows, strict=True),
        ]
        for place, found in places:
            if place.nbytes != len(found):
                raise ValueError(f"{len(found)} bytes of state where {place.nbytes} belong")
        self.state[known:-1] = self.state[-1]
        self.ring[ring_end:] = 0.0
        self.facts[known:] = 0
        self.facts["pre_close"][known:] = np.nan
        for place, found in places:
            place[:] = np.frombuffer(found, place.dtype)
        self._known = known
        self.params[0]["instruments"] = known or self.instruments

    def run_ticks(self, ticks: Ticks, start: int, stop: int) -> int:
        """Take ticks [start, stop) of a C-contiguous TICK array; return where it stopped.

        Afterwards the first ``n_candidates`` of ``candidates`` and the first ``n_bars`` of
        ``bars``, ``bar_rows`` and ``values`` are this call's.
        """
        tally = self.tally
        tally[TALLY_CANDIDATES] = 0
        tally[TALLY_SHUT] = 0
        return self._on_ticks(ticks, start, stop, *self._rest)

    def run_bars(self, bars: Bars, start: int, stop: int) -> int:
        """Take recorded bars [start, stop) as samples; otherwise as ``run_ticks``."""
        tally = self.tally
        tally[TALLY_CANDIDATES] = 0
        tally[TALLY_SHUT] = 0
        return self._on_bars(bars, start, stop, *self._rest)

    def outputs(self) -> list[int]:
        """Return the last call's candidates and bars that left, and all gaps so far."""
        found: list[int] = self._outputs.tolist()
        return found

    @property
    def n_candidates(self) -> int:
        """Candidates of the last call."""
        return int(self.tally[TALLY_CANDIDATES])

    @property
    def n_bars(self) -> int:
        """Closed bars that left the kernel in the last call."""
        return int(self.tally[TALLY_SHUT])

    @property
    def unknown(self) -> int:
        """Records skipped because their instrument is not below the capacity."""
        return int(self.tally[TALLY_UNKNOWN])

    def bars_closed(self) -> dict[str, int]:
        """Return how many bars of each specification closed since the start."""
        counts = self.tally[TALLY_BARS:]
        return {bar.name: int(counts[i]) for i, bar in enumerate(self.plan.bars)}

    @property
    def windows(self) -> Floats:
        """All models' feature rows, float32, shape (R,)."""
        return self.rings.rows

    def pushed(self, model: int, instrument: int) -> int:
        """Return the number of an instrument's newest feature row, 0 before the first."""
        return self.rings.pushed(model, instrument)

    def gather(
        self, model: int, instruments: Whole, windows: Whole, out: Floats, ok: npt.NDArray[np.uint8]
    ) -> int:
        """Copy the windows of a batch's requests side by side: ``FeatureRings.gather``.

        Raises:
            ValueError: an array of another shape or type.
        """
        return self.rings.gather(model, instruments, windows, out, ok)

    def set_normalisation(
        self, model: int, mean: npt.ArrayLike | None, scale: npt.ArrayLike | None
    ) -> None:
        """Let ``gather`` give (x - mean) * scale: ``FeatureRings.set_normalisation``.

        Raises:
            ValueError: not one number a feature, or one that is not finite.
        """
        self.rings.set_normalisation(model, mean, scale)

    def broken_rows(self) -> dict[str, int]:
        """Return how many rows of each model were left out because a feature was not finite."""
        counts = self.tally[tally_broken(self.plan) :]
        return {model.name: int(counts[i]) for i, model in enumerate(self.plan.models)}

    def _set_params(self, emit: frozenset[str]) -> None:
        p = self.params[0]
        p["ring_width"] = self.plan.ring_width
        for index, bar in enumerate(self.plan.bars):
            b = p[f"b{index}"]
            b["kind"], b["basis"], b["spec"] = bar.kind, bar.basis, index
            b["interval_ns"], b["size"] = bar.interval_ns, bar.size
            b["emit"] = bar.name in emit
        for one in self.plan.indicators:
            for name, value in one.params.items():
                p[one.field][name] = value
            p[one.field]["ring"] = one.ring_offset
        for rule in self.plan.rules:
            for name, value in rule.params.items():
                p[rule.field][name] = value
        for model, base in zip(self.plan.models, self.rings.bases, strict=True):
            set_window_params(p[model.field], model, base)

    def _set_pristine(self) -> None:
        row = self.state[-1]
        for name in ("bid", "ask", "last"):
            row["m"][name] = np.nan
        for name in ("bid", "ask", "pre_close"):
            row["x"][name] = np.nan
        for one in self.plan.indicators:
            for output in one.spec.outputs:
                row[one.field][output] = np.nan
        self.state[:-1] = row
