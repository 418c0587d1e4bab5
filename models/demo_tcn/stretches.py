"""Examples cut into stretches of consecutive rows, which a dilated network learns from at once."""

from typing import Final, NamedTuple

import numpy as np

from models.demo_tcn.outcomes import UNKNOWN, Examples, Floats, Floats32, Integers, instruments_of
from models.demo_tcn.recipe import WINDOW

STRETCH: Final = 128
"""Most forecasts of one stretch."""


class Stretches(NamedTuple):
    """S stretches; each forecast sees WINDOW rows, so there are WINDOW - 1 rows more than those."""

    features: Floats32
    """Normalised, shape (S, F, STRETCH + WINDOW - 1)."""
    classes: Integers
    """Of the last STRETCH rows, UNKNOWN where nothing is to be learned, shape (S, STRETCH)."""


def cut(examples: Examples, mean: Floats, scale: Floats) -> Stretches:
    """Cut examples so that each of their ``ends`` is the end of a forecast once.

    Args:
        examples: At least one.
        mean: Subtracted from the features, shape (F,).
        scale: Then multiplied with them, shape (F,).
    """
    wanted = np.full(len(examples.classes), UNKNOWN)
    wanted[examples.ends] = examples.classes[examples.ends]
    features, classes = [], []
    for part in instruments_of(examples.rows):
        own = np.flatnonzero(wanted[part] != UNKNOWN) + part.start
        for first in range(own[0], own[-1] + 1, STRETCH) if len(own) else ():
            at = np.arange(first - WINDOW + 1, first + STRETCH)
            inside = np.minimum(at, part.stop - 1)
            features.append(examples.rows.features[inside].T)
            classes.append(np.where(at < part.stop, wanted[inside], UNKNOWN)[WINDOW - 1 :])
    made = ((np.stack(features) - mean[:, None]) * scale[:, None]).astype(np.float32)
    return Stretches(np.ascontiguousarray(made), np.stack(classes))
