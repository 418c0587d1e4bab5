"""A simulated market straight into a tick log, as fast as it goes; the same bytes every time."""

from pathlib import Path
from typing import Any

from feeds.cleaning import Cleaner
from feeds.config import SimulatorConfig
from feeds.log_writer import LogWriter
from feeds.simulator.source import Simulator, parse_start_ns


def write_simulated_log(
    config: SimulatorConfig, path: Path, *, gateway: int = 1, overwrite: bool = False
) -> dict[str, Any]:
    """Write the whole simulated stream, cleaned as a gateway would, under simulated times.

    Args:
        config: The market; needs a ``limit_ticks`` or a ``duration`` to end.
        path: The log.
        gateway: The gateway's id in the frames.
        overwrite: Replace an existing log.

    Returns:
        ``log``, ``ticks_in``, ``ticks``, ``refused`` by fault, ``instruments``.

    Raises:
        ConfigError: the start is not a time.
        LogError: the log exists or cannot be written.
    """
    source = Simulator(config)
    cleaner = Cleaner(config.instruments)
    kept = 0
    with LogWriter(
        path,
        source.instruments,
        gateway=gateway,
        epoch=parse_start_ns(config.start),
        overwrite=overwrite,
    ) as writer:
        defined = source.instruments
        for batch in source.batches():
            if source.instruments is not defined:
                defined = source.instruments
                writer.define(defined)
            count = cleaner.clean(batch)
            writer.write_ticks(batch[:count])
            kept += count
    return {
        "log": str(path),
        "ticks_in": cleaner.seen,
        "ticks": kept,
        "refused": cleaner.refused,
        "instruments": config.instruments,
    }
