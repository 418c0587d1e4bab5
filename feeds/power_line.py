"""The line that cuts the compute board's power: libgpiod, or none at all in a dry run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from engine.core.errors import ConfigError, DeviceError
from feeds.power_config import PowerConfig

CONSUMER: Final = "heqis-gateway"
_KEY: Final = "gateway.power"


class PowerLine(Protocol):
    """One line; asserted, the board has no power (or is held in reset)."""

    def assert_line(self, asserted: bool) -> None:
        """Set it.

        Raises:
            DeviceError: it cannot be set.
        """
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class DryLine:
    """Stands for the line in a dry run: nothing is touched.

    Attributes:
        levels: What it would have been set to.
    """

    def __init__(self) -> None:
        self.levels: list[bool] = []

    def assert_line(self, asserted: bool) -> None:
        """Note the level."""
        self.levels = [*self.levels[-7:], asserted]

    def close(self) -> None:
        """Nothing is held."""


class GpioLine:
    """A line of a GPIO chip, held by us, not asserted, from the start (libgpiod 2).

    Args:
        config: Chip and line.

    Raises:
        ConfigError: the library is not there, or there is no such chip or line.
    """

    def __init__(self, config: PowerConfig) -> None:
        self._gpiod = _library()
        self._line = config.line
        value = self._gpiod.line.Value
        self._levels = {True: value.ACTIVE, False: value.INACTIVE}
        settings = self._gpiod.LineSettings(
            direction=self._gpiod.line.Direction.OUTPUT,
            active_low=config.active_low,
            output_value=value.INACTIVE,
        )
        chip = config.chip
        if not Path(chip).exists() or not self._gpiod.is_gpiochip_device(chip):
            raise ConfigError(
                "configuration", f"{_KEY}.chip", chip, "name a GPIO chip such as /dev/gpiochip0"
            )
        try:
            self._request: Any = self._gpiod.request_lines(
                chip, consumer=CONSUMER, config={config.line: settings}
            )
        except (OSError, ValueError) as error:
            expected = f"the line cannot be had ({error}): `gpioinfo` lists them and who holds them"
            raise ConfigError("configuration", f"{_KEY}.line", config.line, expected) from None

    def assert_line(self, asserted: bool) -> None:
        """Set it."""
        try:
            self._request.set_value(self._line, self._levels[asserted])
        except (OSError, ValueError) as error:
            raise DeviceError(f"the power line cannot be set: {error}") from error

    def close(self) -> None:
        """Release it, not asserted."""
        self._request.release()


def open_line(config: PowerConfig) -> PowerLine:
    """Return the line, or what stands for it in a dry run.

    Raises:
        ConfigError: as ``GpioLine``.
    """
    make: Callable[[PowerConfig], PowerLine] = GpioLine
    return DryLine() if config.dry_run else make(config)


def _library() -> Any:
    try:
        import gpiod
    except ImportError:
        expected = "install the gpiod package, 2.0 or later (pip install 'heqis[gpio]')"
        raise ConfigError("configuration", f"{_KEY}.dry_run", False, expected) from None
    if not hasattr(gpiod, "request_lines"):
        expected = "the gpiod package is older than 2.0: pip install -U 'heqis[gpio]'"
        raise ConfigError("configuration", f"{_KEY}.dry_run", False, expected)
    return gpiod
