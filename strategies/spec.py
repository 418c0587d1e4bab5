"""What an indicator or a rule says of itself; fusion puts the kernel together from these.

An indicator file and a rule file each end in one module-level specification. State and parameters
are structured records, so that another parameter set is other data, never other code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.core.suggest import did_you_mean

ParamValue = int | float
Params = Mapping[str, ParamValue]
Kernel = Callable[..., Any]
"""A numba-compiled function."""

SAMPLE_CLOCKS: Final = ("tick", "trade", "quote")
"""Clocks that need no bar: every tick with a price, every trade, every quote."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: its default, inclusive bounds and meaning.

    The default's type is the parameter's: an int stays an int in the kernel, a float a float.
    """

    default: ParamValue
    low: ParamValue
    high: ParamValue
    doc: str

    def check(self, value: object) -> ParamValue:
        """Return the value in the parameter's own type.

        Raises:
            ValueError: not a number of that type, or outside the bounds; the text says which.
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a number")  # noqa: TRY004 - a user's value
        if isinstance(self.default, int) and not float(value).is_integer():
            raise ValueError(f"{value!r} is not a whole number")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value!r} is not within {self.low} and {self.high}")
        return int(value) if isinstance(self.default, int) else float(value)


def resolve_params(declared: Mapping[str, Param], given: Mapping[str, object]) -> Params:
    """Fill in defaults and check every given parameter.

    Raises:
        ValueError: an unknown name or a bad value; the text names it and what is allowed.
    """
    unknown = sorted(set(given) - set(declared))
    if unknown:
        hint = did_you_mean(unknown[0], declared)
        allowed = ", ".join(declared) or "none"
        raise ValueError(f"unknown parameter {unknown[0]!r}; {hint}it takes: {allowed}")
    values: dict[str, ParamValue] = {}
    for name, param in declared.items():
        try:
            values[name] = param.check(given.get(name, param.default))
        except ValueError as error:
            raise ValueError(f"parameter {name!r}: {error}") from None
    return values


def _no_ring(_params: Params) -> int:
    return 0


@dataclass(frozen=True)
class IndicatorSpec:
    """One streaming indicator.

    Attributes:
        name: What configurations call it.
        title: One line for people.
        params: Its parameters.
        outputs: Names of its float64 outputs, the main one first; NaN until it is ready.
        state: Further fields of its state record, as numpy dtype fields; all start as zero.
        update: Compiled ``update_nb(s, p, ring, base, x) -> None``: state record, parameter
            record, float64 array of which ``ring[base : base + ring_length]`` belongs to this
            instance (zeroed at first), and the sample, a BAR record. It writes the outputs into
            ``s`` and sets ``s["ready"] = 1`` when they are defined.
        warm_up: Number of samples until it is ready, from the parameters.
        ring: How many float64 of history it keeps, from the parameters.
        formula: The formula, in plain text.
        reference: Author, year, title.
        needs: Sample fields without which it says nothing.
    """

    name: str
    title: str
    params: Mapping[str, Param]
    outputs: tuple[str, ...]
    update: Kernel
    warm_up: Callable[[Params], int]
    formula: str
    reference: str
    state: tuple[tuple[str, npt.DTypeLike], ...] = ()
    ring: Callable[[Params], int] = _no_ring
    needs: tuple[str, ...] = ("close",)

    @property
    def state_dtype(self) -> np.dtype[np.void]:
        """The state record: the declared fields, then the outputs, then ``ready``."""
        outputs = [(name, "f8") for name in self.outputs]
        return np.dtype([*self.state, *outputs, ("ready", "u1")], align=True)

    @property
    def param_dtype(self) -> np.dtype[np.void]:
        """The parameter record: the parameters, then ``ring``, the offset of its history."""
        return _param_dtype(self.params, ring=True)


@dataclass(frozen=True, slots=True)
class Use:
    """A rule's wish for an indicator: which, with what parameters, on which clock.

    ``on`` is "" for the rule's own clock, else a bar's name or one of SAMPLE_CLOCKS.
    """

    indicator: str
    params: Params = field(default_factory=dict)
    on: str = ""


@dataclass(frozen=True)
class RuleSpec:
    """One compiled strategy rule.

    Attributes:
        name: What configurations call it.
        version: Goes into the signal id; change it when the rule's answers change.
        title: One line for people.
        params: Its parameters.
        uses: From the parameters, the indicators it reads, in the order ``decide`` takes them.
        decide: Compiled ``decide_nb(s, p, x, out, *indicators) -> bool``: own state record,
            parameter record, sample, CANDIDATE record to fill, and the state records of the
            indicators. Returns whether it proposes; if so it has set ``side`` (+1, -1),
            ``strength`` (0 to 1), ``confidence`` (0 to 1) and ``edge_bps`` (NaN if unknown).
            Called only while every indicator is ready.
        state: Fields of its own state record; all start as zero.
    """

    name: str
    version: str
    title: str
    params: Mapping[str, Param]
    uses: Callable[[Params], tuple[Use, ...]]
    decide: Kernel
    state: tuple[tuple[str, str], ...] = ()

    @property
    def state_dtype(self) -> np.dtype[np.void]:
        """The state record; never empty, since numba takes no empty record."""
        return np.dtype([*self.state, ("calls", "i8")], align=True)

    @property
    def param_dtype(self) -> np.dtype[np.void]:
        """The parameter record."""
        return _param_dtype(self.params, ring=False)


def _param_dtype(params: Mapping[str, Param], *, ring: bool) -> np.dtype[np.void]:
    fields = [(name, "i8" if isinstance(p.default, int) else "f8") for name, p in params.items()]
    if ring or not fields:
        fields.append(("ring", "i8"))
    return np.dtype(fields, align=True)
