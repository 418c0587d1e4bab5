"""The stages of a tick's way, in order, whose latency is always measured."""

from enum import IntEnum
from typing import Final


class Stage(IntEnum):
    """One stage; its value is its row in the histograms. Times are the engine's unless said."""

    WIRE = 0
    """Intended send time (the gateway's clock) to the wake-up of the engine's loop: the network
    and what waited in its buffers."""
    INGEST = 1
    """Wake-up to the burst checked and laid side by side."""
    COMPUTE = 2
    """The compiled call: bars, indicators, rules."""
    GATE = 3
    """A candidate's way through the risk gate."""
    PUBLISH = 4
    """An accepted signal encoded and handed to journal and clients."""
    TOTAL = 5
    """Intended send time of the tick to its signal handed over."""


STAGES: Final[tuple[str, ...]] = tuple(stage.name.lower() for stage in Stage)
"""Their names as histograms, logs and reports show them."""

MODEL_STAGES: Final = ("queue", "inference")
"""What every model has on every device: a request's wait for its batch, and its batch's run."""


def model_stage(stage: str, model: str, device: str) -> str:
    """Return the name under which a model's stage on a device is logged: ``queue:tcn@cpu``."""
    return f"{stage}:{model}@{device}"
