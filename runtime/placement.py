"""The ladder of one model: which device of its placement serves, when it is left, when it is back.

Pure: outcomes and times go in, transitions come out. A device is left at once and returned to
slowly, after probes and a hold that doubles each time it disappoints again; so a device that comes
and goes cannot make the model oscillate. Lateness alone never leaves the last device: late for some
is better than silent for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

_NS_PER_S: Final = 10**9


class Outcome(StrEnum):
    """How one request went, as far as its device is to blame."""

    OK = "ok"
    LATE = "late"
    """Refused for its deadline, or answered after it."""
    FAILED = "failed"
    INVALID = "invalid"


class Cause(StrEnum):
    """Why the ladder moved. Part of the journal's contract: add, never rename."""

    STARTED = "DEVICE_STARTED"
    ABSENT = "DEVICE_ABSENT"
    """Not on this machine, or no form of the bundle loads on it."""
    UNLOADED = "DEVICE_UNLOADED"
    """Not loaded: it failed to, or there was no room."""
    LATE = "DEVICE_LATE"
    FAILED = "DEVICE_FAILED"
    INVALID = "DEVICE_INVALID"
    LOST = "DEVICE_LOST"
    """A call did not return in time."""
    DRIFT = "DEVICE_DRIFT"
    """Its answers differ from the reference form's by more than the manifest allows."""
    RECOVERED = "DEVICE_RECOVERED"
    """Its probes passed, and the hold is over."""


_CAUSES: Final = {
    Outcome.LATE: Cause.LATE,
    Outcome.FAILED: Cause.FAILED,
    Outcome.INVALID: Cause.INVALID,
}


class Standing(StrEnum):
    """What the ladder thinks of a device."""

    ABSENT = "absent"
    """Cannot serve, and is not probed."""
    READY = "ready"
    LEFT = "left"
    """Disappointed, and is probed."""


class Transition(NamedTuple):
    """The model went from one device to another; "" is none."""

    at_ns: int
    before: str
    after: str
    cause: Cause
    detail: str
    """What was seen, for people; never empty."""


@dataclass(frozen=True, slots=True)
class LadderPolicy:
    """When a device is left and when it is returned to.

    Attributes:
        window: Outcomes after which older ones count half.
        failures: Failed or invalid answers in the window that leave the device.
        late_share: Share of late ones that leaves it.
        least: Outcomes seen before lateness is judged.
        probe_interval_ns: Between probes of a device that was left, at first.
        probes: Probes in a row that must pass.
        hold_ns: Shortest time away; doubled by each return that did not last ``hold_max_ns``.
        hold_max_ns: Longest time away once its probes pass, and longest between two probes.
    """

    window: int = 64
    failures: int = 3
    late_share: float = 0.5
    least: int = 16
    probe_interval_ns: int = 5 * _NS_PER_S
    probes: int = 2
    hold_ns: int = 5 * _NS_PER_S
    hold_max_ns: int = 300 * _NS_PER_S


class _Rung:
    """One device of the placement."""

    __slots__ = (
        "bad", "cause", "detail", "late", "left_ns", "misses", "name", "next_probe_ns", "passed",
        "probing", "ready_ns", "returns_ns", "standing", "strikes", "total",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.standing = Standing.ABSENT
        self.cause = Cause.ABSENT
        self.detail = "not loaded yet"
        self.total = self.late = self.bad = 0
        self.left_ns = self.ready_ns = self.returns_ns = self.next_probe_ns = 0
        self.passed = self.strikes = self.misses = 0
        self.probing = False

    def forget(self) -> None:
        self.total = self.late = self.bad = 0


class Ladder:
    """Devices in order of preference, and which of them serves; the loop thread owns it.

    The first that is ready serves. Times are of one monotonic clock and never go back.

    Args:
        rungs: Entries of the placement, the preferred first; no two alike.
        policy: When to leave and to return.

    Attributes:
        current: The device that serves, "" if none is left.
        transitions: How often it changed.
        changed_ns: When it last changed.
    """

    def __init__(self, rungs: Sequence[str], policy: LadderPolicy) -> None:
        self._policy = policy
        self._rungs = {name: _Rung(name) for name in rungs}
        self.current = ""
        self.transitions = 0
        self.changed_ns = 0

    @property
    def rungs(self) -> tuple[str, ...]:
        """The devices, the preferred first."""
        return tuple(self._rungs)

    def standing(self, name: str) -> Standing:
        """Return what is thought of a device."""
        return self._rungs[name].standing

    def cause(self, name: str) -> Cause:
        """Return why a device stands as it does."""
        return self._rungs[name].cause

    def start(self, now_ns: int, name: str, detail: str) -> Transition | None:
        """Take a device up that has been loaded and passed parity."""
        rung = self._rungs[name]
        rung.standing, rung.cause, rung.detail = Standing.READY, Cause.STARTED, detail
        rung.ready_ns = now_ns
        rung.misses = 0
        rung.forget()
        return self._settle(now_ns, Cause.STARTED, f"{name}: {detail}")

    def drop(self, now_ns: int, name: str, detail: str) -> Transition | None:
        """Give a device up for good."""
        rung = self._rungs[name]
        rung.standing, rung.cause, rung.detail = Standing.ABSENT, Cause.ABSENT, detail
        return self._settle(now_ns, Cause.ABSENT, f"{name}: {detail}")

    def note(self, now_ns: int, name: str, outcome: Outcome, detail: str = "") -> Transition | None:
        """Take in how a request went on a device; requests on a device already left are ignored."""
        rung = self._rungs[name]
        if rung.standing is not Standing.READY:
            return None
        rung.total += 1
        if outcome is Outcome.OK:
            if rung.total >= self._policy.window:
                self._halve(rung)
            return None
        if outcome is Outcome.LATE:
            rung.late += 1
        else:
            rung.bad += 1
        cause = self._verdict(rung, outcome)
        if rung.total >= self._policy.window:
            self._halve(rung)
        if cause is None:
            return None
        return self.leave(now_ns, name, cause, detail or outcome.value)

    def note_answers(self, name: str, count: int) -> None:
        """Take in that so many requests in a row went well: ``note`` with OK, so many times."""
        rung = self._rungs[name]
        if rung.standing is not Standing.READY:
            return
        window = self._policy.window
        while count:
            step = min(count, max(1, window - rung.total))
            rung.total += step
            count -= step
            if rung.total >= window:
                self._halve(rung)

    def leave(self, now_ns: int, name: str, cause: Cause, detail: str) -> Transition | None:
        """Leave a device at once; one that was left already only gets the newer reason.

        To be unloaded is no reason to forget why it was left.
        """
        rung = self._rungs[name]
        if rung.standing is Standing.LEFT:
            rung.passed = 0
            if cause is not Cause.UNLOADED:
                rung.cause, rung.detail = cause, detail
            return None
        rung.cause, rung.detail = cause, detail
        policy = self._policy
        lasted = rung.standing is Standing.READY and now_ns - rung.ready_ns >= policy.hold_max_ns
        rung.strikes = 1 if lasted else rung.strikes + 1
        hold_ns = min(policy.hold_max_ns, policy.hold_ns << min(rung.strikes - 1, 32))
        rung.standing = Standing.LEFT
        rung.left_ns, rung.returns_ns = now_ns, now_ns + hold_ns
        rung.next_probe_ns = now_ns + policy.probe_interval_ns
        rung.passed, rung.probing = 0, False
        return self._settle(now_ns, cause, f"{name}: {detail}")

    def due(self, now_ns: int) -> list[str]:
        """Return the devices to be probed now; each is then awaited at ``probed``."""
        names = []
        for rung in self._rungs.values():
            if rung.standing is Standing.LEFT and not rung.probing and now_ns >= rung.next_probe_ns:
                rung.probing = True
                names.append(rung.name)
        return names

    def probed(self, now_ns: int, name: str, problem: str = "") -> Transition | None:
        """Take in what a probe said; ``problem`` is "" if it passed.

        To load a form takes long, so after each try that failed twice as much time passes.
        """
        rung, policy = self._rungs[name], self._policy
        rung.probing = False
        rung.misses = rung.misses + 1 if problem and rung.cause is Cause.UNLOADED else 0
        wait_ns = policy.probe_interval_ns << min(max(rung.misses - 1, 0), 32)
        rung.next_probe_ns = now_ns + min(
            wait_ns, max(policy.hold_max_ns, policy.probe_interval_ns)
        )
        if rung.standing is not Standing.LEFT:
            return None
        if problem:
            rung.passed, rung.detail = 0, problem
            return None
        rung.passed += 1
        if rung.passed < self._policy.probes or now_ns < rung.returns_ns:
            return None
        rung.standing, rung.cause = Standing.READY, Cause.RECOVERED
        rung.detail = f"{rung.passed} probes passed"
        rung.ready_ns = now_ns
        rung.forget()
        return self._settle(now_ns, Cause.RECOVERED, f"{name}: {rung.detail}")

    def told(self, now_ns: int) -> list[dict[str, object]]:
        """Return what is thought of each device, for status and people.

        ``for_s``: for how long it has served, been ready, or been left; None where it is absent.
        """
        return [
            {
                "rung": rung.name,
                "standing": rung.standing.value,
                "serves": rung.name == self.current,
                "for_s": self._for_s(now_ns, rung),
                "cause": rung.cause.value,
                "detail": rung.detail,
            }
            for rung in self._rungs.values()
        ]

    def _for_s(self, now_ns: int, rung: _Rung) -> float | None:
        if rung.standing is Standing.ABSENT:
            return None
        since_ns = rung.ready_ns if rung.standing is Standing.READY else rung.left_ns
        if rung.name == self.current:
            since_ns = self.changed_ns
        return (now_ns - since_ns) / _NS_PER_S

    def _verdict(self, rung: _Rung, outcome: Outcome) -> Cause | None:
        policy = self._policy
        if outcome is not Outcome.LATE:
            return _CAUSES[outcome] if rung.bad >= policy.failures else None
        if rung.total < policy.least or rung.late < policy.late_share * rung.total:
            return None
        return Cause.LATE if self._is_another_ready(rung) else None

    def _is_another_ready(self, rung: _Rung) -> bool:
        others = self._rungs.values()
        return any(one is not rung and one.standing is Standing.READY for one in others)

    @staticmethod
    def _halve(rung: _Rung) -> None:
        rung.total >>= 1
        rung.late >>= 1
        rung.bad >>= 1

    def _settle(self, now_ns: int, cause: Cause, detail: str) -> Transition | None:
        ready = (rung.name for rung in self._rungs.values() if rung.standing is Standing.READY)
        after = next(ready, "")
        if after == self.current:
            return None
        transition = Transition(now_ns, self.current, after, cause, detail)
        self.current = after
        self.changed_ns = now_ns
        self.transitions += 1
        return transition
