"""Which loaded models stay in memory: the least recently used go first, those in use never."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple

from engine.core.models import LoadedModel


class Admission(NamedTuple):
    """Whether a model may stay, and which had to go for it.

    Attributes:
        admitted: Whether it is in the cache now.
        evicted: Keys and models that left; their owners' threads close them.
        problem: Why it was not admitted, "" if it was.
    """

    admitted: bool
    evicted: list[tuple[Hashable, LoadedModel]]
    problem: str = ""


class _Entry:
    __slots__ = ("model", "pins")

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.pins = 0


class ModelCache:
    """Loaded models under a memory budget; keeps the books and closes nothing.

    A device's memory may only be given back by the thread that owns the device, so whoever asks
    for room closes what left. What a model takes is what it says of itself.

    Args:
        budget_bytes: For all together.

    Attributes:
        used_bytes: What those in the cache take.
        evictions: Models that had to go.
        refusals: Models for which there was no room.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.evictions = 0
        self.refusals = 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def admit(self, key: Hashable, model: LoadedModel) -> Admission:
        """Take a loaded model in, as the newest, making room if pinned ones allow it.

        Raises:
            ValueError: the key is in the cache.
        """
        if key in self._entries:
            raise ValueError(f"{key!r} is loaded already")
        needed_bytes = self.used_bytes + model.memory_bytes - self.budget_bytes
        leaving = self._choose(needed_bytes)
        if leaving is None:
            self.refusals += 1
            return Admission(False, [], self._told_refusal(model))
        evicted = [(old, self._remove(old)) for old in leaving]
        self.evictions += len(evicted)
        self._entries[key] = _Entry(model)
        self.used_bytes += model.memory_bytes
        return Admission(True, evicted)

    def touch(self, key: Hashable) -> None:
        """Note that a model was used; one that is not here is ignored."""
        if key in self._entries:
            self._entries.move_to_end(key)

    def pin(self, key: Hashable) -> None:
        """Keep a model whatever happens, until it is unpinned as often."""
        self._entries[key].pins += 1

    def unpin(self, key: Hashable) -> None:
        """Take one pin back; it stays as long as there is room."""
        entry = self._entries.get(key)
        if entry is not None and entry.pins:
            entry.pins -= 1

    def discard(self, key: Hashable) -> LoadedModel | None:
        """Forget a model, pinned or not, and return it to be closed; None if it is not here."""
        return self._remove(key) if key in self._entries else None

    def told(self) -> dict[str, Any]:
        """Return it for status and people."""
        return {
            "models": len(self._entries),
            "used_bytes": self.used_bytes,
            "budget_bytes": self.budget_bytes,
            "evictions": self.evictions,
            "refusals": self.refusals,
        }

    def _choose(self, needed_bytes: int) -> list[Hashable] | None:
        """Return the oldest unpinned whose going frees enough; None if that is impossible."""
        leaving: list[Hashable] = []
        for key, entry in self._entries.items():
            if needed_bytes <= 0:
                break
            if not entry.pins:
                leaving.append(key)
                needed_bytes -= entry.model.memory_bytes
        return leaving if needed_bytes <= 0 else None

    def _remove(self, key: Hashable) -> LoadedModel:
        model = self._entries.pop(key).model
        self.used_bytes -= model.memory_bytes
        return model

    def _told_refusal(self, model: LoadedModel) -> str:
        pinned = sum(one.model.memory_bytes for one in self._entries.values() if one.pins)
        return (
            f"needs {model.memory_bytes} bytes; {pinned} of the budget of {self.budget_bytes} "
            "are in use: raise inference.memory_budget_bytes"
        )
