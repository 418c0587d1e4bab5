"""What a configuration says of models and devices, ``[[models]]`` and ``[inference]``."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from engine.core.settings import DurationNs, Settings
from runtime.catalog import check_entry

MAX_MODELS: Final = 16
MAX_BATCH: Final = 1024


def _check_entries(entries: tuple[str, ...]) -> tuple[str, ...]:
    for entry in entries:
        check_entry(entry)
    return entries


Placement = Annotated[
    tuple[str, ...], Field(min_length=1, max_length=8), AfterValidator(_check_entries)
]
"""Devices in order of preference, ``device`` or ``backend@device``."""


class ModelConfig(Settings):
    """One model that strategies may ask."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$")]
    """What strategies call it."""
    bundle: Path
    """Directory of the bundle."""
    on: str
    """Clock of its features: a bar's name, or "tick", "trade", "quote"."""
    placement: Placement = ("cpu",)
    """Devices in order of preference."""
    deadline: Annotated[DurationNs, Field(gt=0)] = 50 * 10**6
    """How long an answer is worth waiting for; never longer than the signal would be valid."""
    max_batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 64
    priority: Annotated[int, Field(ge=0, le=9)] = 5
    """Which model goes first among requests of one deadline; 9 before 0."""
    shadow: Path | None = None
    """Bundle that scores the same inputs, is compared, and never traded."""
    check_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of live inputs that also run on the reference form."""


class InferenceConfig(Settings):
    """What all models share."""

    memory_budget_bytes: Annotated[int, Field(ge=1 << 20)] = 2 << 30
    """Loaded models together; the least recently used go first."""
    window_budget_bytes: Annotated[int, Field(ge=1 << 10)] = 1 << 30
    """Feature windows of all models and instruments together; more is refused at the start."""
    inline_below: DurationNs = 100_000
    """Models predicted to be faster run on the loop thread: a thread hop would cost more."""
    timeout: Annotated[DurationNs, Field(gt=0)] = 10**9
    """A call that takes longer is given up, and its device left until it answers a probe."""
    max_queued: Annotated[int, Field(ge=1, le=1 << 20)] = 4096
    """Requests waiting for one device; more are refused."""
    max_wait: DurationNs = 0
    """Longest wait for a batch to grow while the device is idle."""
    probe_interval: Annotated[DurationNs, Field(gt=0)] = 5 * 10**9
    """How often a device that was left is tried again."""
    start_wait: DurationNs = 10 * 10**9
    """How long the start waits for one device; a slower one joins when it is ready."""
    allow_faults: bool = False
    """An operator may have a device fail on purpose, to see the engine degrade and recover."""
    cache: Path = Path("var/models")
    """What devices compile is kept here."""


ModelList = Annotated[tuple[ModelConfig, ...], Field(max_length=MAX_MODELS)]
