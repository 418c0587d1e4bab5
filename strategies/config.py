"""What a configuration says of bars and strategies, ``[[bars]]`` and ``[[strategies]]``."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from engine.core.settings import DurationNs, Settings
from strategies.bar_spec import BarKind, BarSpec, PriceBasis
from strategies.spec import SAMPLE_CLOCKS

MAX_BARS: Final = 32
MAX_RULES: Final = 256
CONFIRM_MIN: Final = 0.4
"""Default of ``confirm_min``."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}")


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name has 1 to 48 letters, digits, '_', '-' and '.'")
    return value


Name = Annotated[str, AfterValidator(_check_name)]
"""A name of a bar or a strategy."""


class BarConfig(Settings):
    """One kind of bar."""

    name: Name
    """What strategies call it in ``on``."""
    kind: Literal["time", "tick", "volume", "turnover"] = "time"
    interval: Annotated[DurationNs, Field(gt=0)] | None = None
    """Length of a time bar, for example "1m"."""
    size: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Ticks, volume or turnover of one bar, for the other kinds."""
    price: Literal["auto", "trade", "mid"] = "auto"
    """Prices from trades, from mids, or from mids until the instrument first trades."""

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if self.name in SAMPLE_CLOCKS:
            raise ValueError(f"{self.name!r} is a built-in clock; choose another name")
        wanted, other = ("interval", "size") if self.kind == "time" else ("size", "interval")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"a {self.kind} bar takes `{wanted}` and no `{other}`")
        return self

    def spec(self) -> BarSpec:
        """Return the kernel's specification of this bar."""
        return BarSpec(
            name=self.name,
            kind=BarKind[self.kind.upper()],
            interval_ns=self.interval or 0,
            size=self.size or 0.0,
            basis=PriceBasis[self.price.upper()],
        )


class StrategyConfig(Settings):
    """One strategy: a compiled ``rule``, a Python ``strategy`` or a ``model`` alone."""

    name: Name
    """Stands on every signal; unique."""
    rule: str | None = None
    """Name of a compiled rule."""
    strategy: str | None = None
    """Name of a Python strategy class."""
    model: str | None = None
    """Name of a model whose score is the signal."""
    on: str = ""
    """Its clock: a bar's name, or "tick", "trade", "quote"; a model has its own."""
    params: Mapping[str, Any] = Field(default_factory=dict)
    """Parameters; what is left out has its default."""
    confirm: str = ""
    """Name of a model that must confirm what the rule proposes."""
    confirm_min: Annotated[float, Field(ge=0, le=1)] = CONFIRM_MIN
    """Least probability of the rule's side by which the model confirms it."""
    priority: Annotated[int, Field(ge=0, le=9)] | None = None
    """Who goes first at its model's device among requests of one deadline; None: the model's."""
    instruments: tuple[str, ...] = ("*",)
    """Patterns of ``SYMBOL.VENUE`` it looks at; ``*`` and ``?`` as in file names."""
    valid_for: Annotated[DurationNs, Field(gt=0)] = 30 * 10**9
    """How long a signal may be acted on after the tick that caused it."""
    enabled: bool = True

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in ("rule", "strategy", "model") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError("give one of `rule` (compiled), `strategy` (Python class), `model`")
        if self.model is None and not self.on:
            raise ValueError("give its clock, `on`: a bar's name, tick, trade or quote")
        if self.confirm and self.rule is None:
            raise ValueError("`confirm` goes with a `rule`")
        if self.priority is not None and not (self.model or self.confirm):
            raise ValueError("`priority` goes with `model` or `confirm`")
        if not self.confirm and self.confirm_min != CONFIRM_MIN:
            raise ValueError("`confirm_min` goes with `confirm`")
        return self


BarList = Annotated[tuple[BarConfig, ...], Field(max_length=MAX_BARS)]
StrategyList = Annotated[tuple[StrategyConfig, ...], Field(max_length=MAX_RULES)]
