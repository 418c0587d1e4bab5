"""Indicators over an array of bars, without a pipeline around them: for checking and for research.

The same update functions as in the live kernel, fused into one compiled loop. The state stays, so
that a series may come in any number of pieces with the same answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.core.records import BAR, Bars
from strategies.borrowed import borrowed
from strategies.kernel_cache import load_module
from strategies.plan import KernelPlan, Watch, make_plan
from strategies.registry import Registry
from strategies.spec import Use

Columns = npt.NDArray[np.float64]
"""Outputs, shape (outputs, N)."""

_CLOCK = "tick"
"""Every bar is one sample."""


def label_of(use: Use) -> str:
    """Return the text of a use: ``rsi(length=14)``, or ``rsi`` without parameters."""
    inside = ",".join(f"{name}={value}" for name, value in use.params.items())
    return f"{use.indicator}({inside})" if inside else use.indicator


class IndicatorBatch:
    """Chosen indicators with their state, compiled together.

    Args:
        uses: Which indicators with which parameters, at least one; ``on`` does not count.
        registry: What there is.
        source: Where the wishes come from, for errors.

    Raises:
        ConfigError: an unknown indicator or parameter, or a bad value.
    """

    def __init__(self, uses: Sequence[Use], registry: Registry, source: str = "indicators") -> None:
        watches = [Watch(_CLOCK, label_of(use), Use(use.indicator, use.params)) for use in uses]
        plan = make_plan(registry, [], [], watches, source)
        self.plan = plan
        self.columns = tuple(name for name, _, _ in plan.columns(_CLOCK))
        """Names of the outputs: the label for the main one, ``label.output`` for the others."""
        self.state = np.zeros(1, plan.state_dtype)
        self.params = np.zeros(1, plan.param_dtype)
        self.ring = np.zeros(plan.ring_width)
        for one in plan.indicators:
            for name, value in one.params.items():
                self.params[one.field][name] = value
            self.params[one.field]["ring"] = one.ring_offset
        self.reset()
        self._run = load_module(_generate(plan), _bindings_of(plan)).run

    def reset(self) -> None:
        """Forget all samples: no indicator is ready."""
        self.ring[:] = 0.0
        self.state[:] = np.zeros(1, self.plan.state_dtype)
        for one in self.plan.indicators:
            for output in one.spec.outputs:
                self.state[one.field][output] = np.nan

    def run(self, bars: Bars, out: Columns | None = None) -> Columns:
        """Take the next bars; return their outputs, NaN while an indicator is not ready.

        Args:
            bars: Shape (N,).
            out: Where to write, C-contiguous, shape (outputs, N); None for a new array.
        """
        if out is None:
            out = np.empty((len(self.columns), len(bars)))
        if out.shape != (len(self.columns), len(bars)):
            raise ValueError(f"out has shape {out.shape}, not {(len(self.columns), len(bars))}")
        self._run(np.ascontiguousarray(bars, BAR), self.state, self.ring, self.params, out)
        return out


def run_indicators(
    bars: Bars, uses: Sequence[Use], registry: Registry
) -> dict[str, npt.NDArray[np.float64]]:
    """Compute indicators over bars, shape (N,); each output an array of shape (N,), NaN till ready.

    Raises:
        ConfigError: an unknown indicator or parameter, or a bad value.
    """
    batch = IndicatorBatch(uses, registry)
    return dict(zip(batch.columns, batch.run(bars), strict=True))


def _bindings_of(plan: KernelPlan) -> Mapping[str, Any]:
    updates = {f"{one.field}_update": one.spec.update for one in plan.indicators}
    return {"borrowed": borrowed, **updates}


def _generate(plan: KernelPlan) -> str:
    lines = [
        "from numba import njit",
        "import numpy as np",
        "",
        '@njit(error_model="numpy", nogil=True, cache=CACHE)',
        "def run(bars, state, ring, params, out):",
        *(f"    {name} = borrowed({name})" for name in ("bars", "state", "ring", "params", "out")),
        "    r = state[0]",
        "    p = params[0]",
        "    for k in range(bars.shape[0]):",
        "        x = bars[k]",
    ]
    columns = plan.columns(_CLOCK)
    for one in plan.indicators:
        f = one.field
        lines.append(f'        {f}_update(r["{f}"], p["{f}"], ring, p["{f}"]["ring"], x)')
        writes = [(c, output) for c, (_, it, output) in enumerate(columns) if it is one]
        lines.append(f'        if r["{f}"]["ready"]:')
        lines += [f'            out[{c}, k] = r["{f}"]["{output}"]' for c, output in writes]
        lines.append("        else:")
        lines += [f"            out[{c}, k] = np.nan" for c, _ in writes]
    return "\n".join(lines) + "\n"
