"""What must hold after every turn, whatever happens, and at the end, when all is well again.

The checks know what the gateway published, from the gateway, and what the engine took, made, told
and sent, from the engine's edges; they share no code with either.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from simulation.clients import Client
from simulation.processes import Watcher

from engine.core.records import TICK, TickKind, Ticks
from engine.core.signals import Refusal, Signal
from engine.judge import MODEL_GATE
from feeds.sequencer import Sequenced

GAP: Final = int(TickKind.GAP)
_HEADER_BYTES: Final = 64


Record = tuple[tuple[int, int], bytes, bytes]
"""One tick or gap that was taken: its place, itself, its origin."""


class InvariantError(AssertionError):
    """Something that must hold does not.

    Attributes:
        first: The first one of this world; the engine's guards may catch it.
    """

    first: ClassVar["InvariantError | None"] = None

    def __init__(self, what: str) -> None:
        super().__init__(what)
        if InvariantError.first is None:
            InvariantError.first = self


class Told(NamedTuple):
    """A gap that was declared."""

    epoch: int
    first: int
    stop: int
    reason: str


class Taken:
    """What one life of an engine has taken, in order."""

    def __init__(self) -> None:
        self.place: tuple[int, int] | None = None
        self.begin: tuple[int, int] | None = None
        self.gap: int | None = None
        self.jumps: list[tuple[int, int, int]] = []
        self.bodies: dict[tuple[int, int], bytes] = {}
        self.records: list[Record] = []


class Checks(Watcher):
    """Keeps the books of one world and raises at the first thing that is not right.

    Attributes:
        published: Ticks by place, as the gateway sent them.
        ends: One past the last number of each epoch.
        declared: Gaps told so far.
    """

    def __init__(self) -> None:
        self.published: dict[tuple[int, int], bytes] = {}
        self.ends: dict[int, int] = {}
        self.declared: list[Told] = []
        self.unknown_ends: set[int] = set()
        self.taken = Taken()
        self.lives: list[Taken] = [self.taken]
        self.first_life = 0
        """Those before it ended before anything of them was on the disk."""
        self.signals: dict[tuple[int, int], Signal] = {}
        self.heads: Counter[int] = Counter()
        self.ids: dict[str, tuple[int, int]] = {}
        self.committed: set[str] = set()
        self.decided: dict[str, tuple[int, int]] = {}
        self.unscored: set[str] = set()
        """Refused for want of a score: with one they might not have been proposed at all."""
        self.events: Counter[str] = Counter()
        self.halted = False
        self.stays_halted = False
        """A fault has halted an engine, and the journal has it."""
        self.remembers = True
        self.positions: dict[str, tuple[int, int]] = {}
        self.given: dict[str, set[str]] = {}
        """Ids by client: what comes again in a later epoch it is not given again."""
        self.look_for_lost: Callable[[Told], None] = lambda told: None

    # What the gateway publishes

    def on_frame(self, epoch: int, frame: Sequenced) -> None:
        if not frame.consumed:
            return
        expected = self.ends.get(epoch, 1)
        require(frame.first_seq == expected, f"{epoch}: {frame.first_seq} follows {expected - 1}")
        if epoch not in self.ends:
            require(all(epoch > one for one in self.ends), f"epoch {epoch} is not new")
        body, size = frame.frame[_HEADER_BYTES:], TICK.itemsize
        for index in range(frame.consumed):
            at = frame.first_seq + index
            self.published[epoch, at] = body[index * size : (index + 1) * size]
        self.ends[epoch] = frame.first_seq + frame.consumed

    # What the engine takes

    def begin_life(self) -> None:
        """A new engine: it may go through again what the one before has taken."""
        self.taken = Taken()
        self.lives.append(self.taken)
        self.halted = self.stays_halted

    def on_ticks(self, ticks: Ticks, origins: npt.NDArray[np.void], at: int, stop: int) -> None:
        """The engine's pipeline is given a burst."""
        places = zip(
            origins["epoch"][at:stop].tolist(), origins["seq"][at:stop].tolist(), strict=True
        )
        kinds = ticks["kind"][at:stop].tolist()
        for row, (place, kind) in enumerate(zip(places, kinds, strict=True), at):
            self.taken.records.append((place, ticks[row].tobytes(), origins[row].tobytes()))
            if kind == GAP:
                self.taken.gap = int(ticks["size"][row])
            else:
                self._take(place)
                self.taken.bodies[place] = ticks[row].tobytes()

    def _take(self, place: tuple[int, int]) -> None:
        taken = self.taken
        before, gap = taken.place, taken.gap
        require(place in self.published, f"tick {place} was never published")
        taken.place, taken.gap = place, None
        if before is None:
            taken.begin = place
            return
        require(place > before, f"tick {place} after {before}")
        if place[0] == before[0]:
            missing = place[1] - before[1] - 1
            require(gap == (missing or None), f"{missing} missing before {place}, told: {gap}")
        else:
            whole = before[1] + 1 == self.ends[before[0]] and place[1] == 1
            require(whole or gap is not None, f"epoch {before} to {place} without a gap")
            self._jump(before, place)

    def _jump(self, before: tuple[int, int], place: tuple[int, int]) -> None:
        self.taken.jumps.append((*before, place[0]))

    # What the engine tells

    def on_event(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.events[kind] += 1
        if kind == "gap":
            self._note_gap(fields)
            self.look_for_lost(self.declared[-1])
        elif kind == "halted":
            self.halted = True

    def _note_gap(self, fields: Mapping[str, Any]) -> None:
        reason = str(fields.get("reason", ""))
        epoch, first, missing = fields["epoch"], fields["first_missing"], fields["missing"]
        self.declared.append(Told(epoch, first, first + missing, reason))
        if "previous_epoch" in fields:
            before, begin = fields["previous_epoch"], fields["previous_first_missing"]
            lost = fields["previous_missing"]
            if lost is None:
                self.unknown_ends.update(one for one in self.ends if before <= one < epoch)
            else:
                self.declared.append(Told(before, begin, begin + lost, reason))
                require(
                    begin + lost <= self.ends[before], f"{fields}: it ended at {self.ends[before]}"
                )
        elif not missing:
            self.unknown_ends.update(one for one in self.ends if one < epoch)

    def on_signal(self, signal: Signal, *, taken: bool) -> None:
        self.decided[signal.id] = signal.tick_epoch, signal.tick_seq
        if not taken:
            return
        require(not self.halted, f"signal {signal.seq} after the halt")
        place = signal.epoch, signal.seq
        self.heads[signal.epoch] += 1
        require(signal.seq == self.heads[signal.epoch], f"signal {place} is not the next")
        before = self.ids.get(signal.id)
        require(before is None or before[0] != signal.epoch, f"id of {before} again at {place}")
        require(signal.id not in self.committed, f"{place} was journaled in an earlier life")
        self.ids[signal.id] = place
        self.signals[place] = signal

    def on_made_again(self, signal: Signal) -> None:
        self.decided.setdefault(signal.id, (signal.tick_epoch, signal.tick_seq))

    def on_refusal(self, refusal: Refusal) -> None:
        self.decided[refusal.id] = refusal.tick_epoch, refusal.tick_seq
        if refusal.gate == MODEL_GATE:
            self.unscored.add(refusal.id)

    # What clients are given

    def on_item(self, client: Client, item: Any) -> None:
        """A client's user is given a signal or a gap."""
        epoch, position = self.positions.get(client.name, (0, 0))
        if isinstance(item, Signal):
            known = self.signals.get((item.epoch, item.seq))
            require(known is not None, f"{client.name}: {item.epoch}/{item.seq} was never sent")
            assert known is not None
            require(known.id == item.id, f"{client.name}: {item.seq} is another signal")
            if (epoch, position) != (0, 0):
                same = item.epoch == epoch
                require(same, f"{client.name}: epoch {epoch} became {item.epoch} untold")
                require(item.seq > position, f"{client.name}: {item.seq} after {position}")
            conflating = client.state.wish.on_slow == "conflate"
            first = position + 1 if position else item.seq
            skipped = [self.signals[epoch, seq].id for seq in range(first, item.seq)]
            given = self.given.setdefault(client.name, set())
            contiguous = not position or conflating or given.issuperset(skipped)
            require(contiguous, f"{client.name}: {item.seq} after {position}")
            require(item.id not in given, f"{client.name}: {item.id} twice")
            given.add(item.id)
            self.positions[client.name] = item.epoch, item.seq
            return
        require(item.reason != "chain_broken", f"{client.name}: its chain broke: {item}")
        if item.reason == "epoch_changed":
            self.positions[client.name] = client.state.epoch or 0, 0
        elif item.to_seq is not None and item.reason != "conflated":
            require(
                item.from_seq <= position + 1 or not position,
                f"{client.name}: {position} and then {item}",
            )
            self.positions[client.name] = item.epoch, max(position, item.to_seq)

    # At the end

    def assert_accounted(self, quiet: bool) -> None:
        """Every tick published since the engine began was taken, or is in a declared gap."""
        taken = {place for life in self.lives for place in life.bodies}
        lost = {(told.epoch, seq) for told in self.declared for seq in range(told.first, told.stop)}
        known = self.lives[self.first_life :]
        first = min((life.begin for life in known if life.begin), default=None)
        require(first is not None or not self.published, "nothing was ever taken")
        if first is None:
            return
        last = self.lives[-1].place or first
        newest = max(self.published)
        require(not quiet or last == newest, f"it ends at {last}, not at {newest}")
        missing = [
            place
            for place in self.published
            if first <= place <= last and place not in taken and place not in lost
            and place[0] not in self.unknown_ends
        ]  # fmt: skip
        require(not missing, f"{len(missing)} ticks were lost untold, first {missing[:3]}")

    def assert_unchanged(self) -> None:
        """What was taken is what was published, but for the flag of what was sent again."""
        for life in self.lives:
            if not life.bodies:
                continue
            places = list(life.bodies)
            got = np.frombuffer(b"".join(life.bodies.values()), TICK).copy()
            sent = np.frombuffer(b"".join(self.published[p] for p in places), TICK).copy()
            for part in (got, sent):
                part["flags"] = 0
            require(got.tobytes() == sent.tobytes(), "a tick was changed on its way")


def require(condition: bool, what: str) -> None:  # it is what is asserted
    if not condition:
        raise InvariantError(what)
