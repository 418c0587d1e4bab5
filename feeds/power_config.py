"""What the gateway is told of the compute board's power, ``[gateway.power]``."""

from typing import Annotated

from pydantic import Field

from engine.core.settings import DurationNs, Settings

PositiveNs = Annotated[DurationNs, Field(gt=0)]
SECOND = 1_000_000_000


class PowerConfig(Settings):
    """What to do about an engine that stays silent: ask it, run a command, cut its power."""

    chip: str = "/dev/gpiochip0"
    line: Annotated[int, Field(ge=0, le=1023)]
    """Offset of the line on the chip. Asserted, it cuts the board's power or holds its reset."""
    active_low: bool = False
    dry_run: bool = True
    """Journal what would be done, and do none of it."""
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The softer step: what restarts the engine's service from outside, as a list of words."""
    silent: PositiveNs = 30 * SECOND
    """How long no engine must have been heard, or taken data, before the first step."""
    ask_wait: PositiveNs = 30 * SECOND
    """How long the engine is given after it was asked to begin anew."""
    command_wait: PositiveNs = 120 * SECOND
    """How long the command and the engine are given after it was started."""
    off_time: PositiveNs = 5 * SECOND
    """How long the line is asserted."""
    boot: PositiveNs = 180 * SECOND
    """How long the board is given to come up, after a cycle and when the gateway begins."""
    max_cycles: Annotated[int, Field(ge=0, le=100)] = 2
    """Power cycles within ``window``; then only the softer steps are left."""
    window: PositiveNs = 3600 * SECOND
