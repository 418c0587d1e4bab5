"""What the kernel must know of a model: which feature rows to keep for it, and on what clock.

Pure data. What the model is, and where it runs, is the business of ``runtime``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strategies.registry import Registry
from strategies.spec import Use
from strategies.use_text import parse_use

MAX_WINDOW: Final = 4096
"""Most rows of one window."""
MAX_FEATURES: Final = 256
"""Most columns of one row."""


@dataclass(frozen=True, slots=True)
class FeatureColumn:
    """One column of a model's input: an output of an indicator, "" for the main one.

    ``use.on`` is "" for the model's own clock; of another clock it is the value last known.
    """

    name: str
    use: Use
    output: str = ""


@dataclass(frozen=True, slots=True)
class ModelWindow:
    """One model's input: the last ``window`` rows of ``features`` in order, a row a sample.

    ``clock`` is a bar's name or one of SAMPLE_CLOCKS.
    """

    name: str
    clock: str
    features: tuple[FeatureColumn, ...]
    window: int


def read_columns(
    features: Iterable[tuple[str, str, str]], registry: Registry, source: str
) -> tuple[FeatureColumn, ...]:
    """Read features that were written as text.

    Args:
        features: (name, indicator with its parameters as ``strategies.use_text`` has it, output).
        registry: The indicators there are.
        source: Where they were written, for errors.

    Raises:
        ConfigError: an unknown indicator or parameter, or a bad value.
    """
    return tuple(
        FeatureColumn(name, parse_use(text, registry, source), output)
        for name, text, output in features
    )
