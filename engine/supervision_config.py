"""Settings of supervision and of the budgets, ``[supervision]`` and ``[budgets]``."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from engine.core.settings import DurationNs, Settings

PositiveNs = Annotated[DurationNs, Field(gt=0)]
SpanNs = Annotated[DurationNs, Field(ge=0)]
SECOND = 1_000_000_000

Thirds = tuple[float, float, float]
"""Where each step of the ladder begins: smaller batches, fewer instruments, halt."""


class SupervisionConfig(Settings):
    """What counts as alive, and what ``heqis run`` does about a process that is not."""

    watchdog: SpanNs = 2 * SECOND
    """``heqis run``: a process that gave no sign of life for so long is ended and started again;
    0: never. systemd has its own, ``WatchdogSec``."""
    start_timeout: PositiveNs = 600 * SECOND
    """Longest start; a small machine compiles the kernel for minutes, once."""
    data_timeout: PositiveNs = 10 * SECOND
    """The gateway is heard and no frame of it comes for so long: no more signs of life."""
    silence_timeout: SpanNs = 300 * SECOND
    """Nothing at all is heard of the gateway for so long: no more signs of life either, for our
    own sockets may be to blame; 0: wait for ever."""
    restart_wait: PositiveNs = SECOND // 4
    restart_wait_most: PositiveNs = 30 * SECOND
    healthy_after: PositiveNs = 60 * SECOND
    """A process that did its work for so long begins again with the shortest wait."""
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 10
    """Restarts of one process within ``restart_window``; then ``heqis run`` gives up. 0: none."""
    restart_window: PositiveNs = 600 * SECOND
    log_bytes: Annotated[int, Field(ge=4096)] = 16 << 20
    """Size at which a process's log goes on anew; the one before is kept beside it."""

    @model_validator(mode="after")
    def _waits_grow(self) -> Self:
        if self.restart_wait_most < self.restart_wait:
            raise ValueError("restart_wait_most must not be shorter than restart_wait")
        return self


class BudgetsConfig(Settings):
    """What the process may use, and where each step of the ladder begins.

    Three numbers a resource: from the first on batches are smaller, from the second on the least
    important instruments are left out, from the third on the engine halts and ends. An empty list
    watches nothing.
    """

    check_interval: PositiveNs = SECOND
    hold: SpanNs = 3 * SECOND
    """A step begins when its limit was passed for so long, without a break."""
    release: SpanNs = 30 * SECOND
    """A step ends when use was back by ``release_margin`` for so long; the halt never does."""
    release_margin: Annotated[float, Field(ge=0, lt=1)] = 0.1
    memory_frac: Thirds | tuple[()] = (0.6, 0.7, 0.8)
    """Resident memory, as a part of what the machine or the control group has."""
    memory_available_bytes: Thirds | tuple[()] = (512 << 20, 256 << 20, 128 << 20)
    """What the machine could still give to anybody, falling: the kernel ends a process when there
    is none."""
    disk_free_bytes: Thirds | tuple[()] = (2 << 30, 1 << 30, 256 << 20)
    """Room on the journal's file system, falling."""
    temperature_c: Thirds | tuple[()] = (85.0, 92.0, 98.0)
    """The hottest thermal zone, degrees Celsius; machines that tell none are never too hot."""
    queue_frac: Thirds | tuple[()] = (0.5, 0.75, 0.95)
    """The fullest of the queues for the journal and for the models' devices, as a part of its
    bound."""
    batch_frac: Annotated[float, Field(gt=0, le=1)] = 0.25
    """What is left of the largest batch in the first step."""
    least_important: tuple[str, ...] = ()
    """Patterns of SYMBOL.VENUE of the instruments that the second step leaves out."""

    @model_validator(mode="after")
    def _steps_are_in_order(self) -> Self:
        for name in ("memory_frac", "temperature_c", "queue_frac"):
            steps = getattr(self, name)
            if list(steps) != sorted(steps):
                raise ValueError(f"{name}: the three limits must rise")
        for name in ("disk_free_bytes", "memory_available_bytes"):
            steps = getattr(self, name)
            if list(steps) != sorted(steps, reverse=True):
                raise ValueError(f"{name}: the three limits must fall")
        return self
