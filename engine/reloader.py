"""Reads the configuration again while the engine runs, on SIGHUP or an operator's command."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.composition import resolve
from engine.config import Config
from engine.core.errors import DeviceError, HeqisError
from engine.notify import Notifier
from engine.reload import Reloaded, Sources, compare, read_again

_log = logging.getLogger(__name__)
Tell = Callable[[str, Mapping[str, Any]], None]


class Reloader:
    """Owned by the engine; the files are read on a thread, and taken over in one turn of the loop.

    Args:
        config: What runs.
        sources: What it was read from.
        take: Takes a configuration over, whole.
        tell: Journals what came of it.
        notifier: Tells the service manager.

    Attributes:
        config: What runs.
        reloads: Configurations taken over.
        refused: Configurations refused.
    """

    def __init__(
        self,
        config: Config,
        sources: Sources,
        take: Callable[[Config], None],
        tell: Tell,
        notifier: Notifier,
    ) -> None:
        self.config = config
        self.reloads = 0
        self.refused = 0
        self._sources = sources
        self._take = take
        self._tell = tell
        self._notifier = notifier
        self._busy = False

    async def reload(self, who: str) -> dict[str, Any]:
        """Take over what the files say now, or nothing; it is journaled either way.

        Args:
            who: Asked for it.

        Returns:
            The keys that changed, and those that wait for a restart.

        Raises:
            HeqisError: the files are not to be used, and why; the old configuration runs on.
        """
        if self._busy:
            raise DeviceError("the configuration is being read again; wait for its answer")
        self._busy = True
        self._notifier.reloading(time.monotonic_ns())
        try:
            reloaded = await self._read()
            self._take(reloaded.config)
        except HeqisError as error:
            self.refused += 1
            _log.error("configuration refused, the old one runs on: %s", error)
            self._tell("reload_refused", {"by": who, "problem": str(error)})
            raise
        finally:
            self._busy = False
            self._notifier.ready("running")
        self.config = reloaded.config
        self.reloads += 1
        self._tell("reload", {"by": who, **reloaded.told()})
        return reloaded.told()

    async def _read(self) -> Reloaded:
        loaded, sources = await asyncio.to_thread(read_again, self._sources)
        await asyncio.to_thread(resolve, loaded)
        reloaded = compare(self.config, loaded)
        self._sources = sources
        return reloaded
