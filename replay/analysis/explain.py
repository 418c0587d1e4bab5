"""Everything behind one signal: its ticks, indicators, window, score, gates and times."""

from pathlib import Path
from typing import Any

import msgspec

from engine.composition import Blueprint
from engine.core.errors import InputFileError
from engine.core.signals import Refusal, Signal
from replay.analysis.diff import Comparing, Progress, check_related
from replay.analysis.diff_journal import Told, find_signal, read_told
from replay.analysis.diff_material import Material, open_material
from replay.analysis.diff_result import Difference
from replay.analysis.diff_scores import Scores
from replay.analysis.explain_scene import Scene, SceneTaker

TICKS = 10


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The decision that is to be explained.

    Attributes:
        id: Of the signal; where none of that id is made, the strategy's last decision is meant.
        strategy: Whose it is.
        instrument: Its symbol.
        tick_epoch: Stream epoch of the tick that caused it.
        tick_seq: Its number.
    """

    id: str
    strategy: str
    instrument: str
    tick_epoch: int
    tick_seq: int


class Explanation(msgspec.Struct, kw_only=True):
    """What is behind one decision.

    Attributes:
        wanted: The decision.
        made: Whether the replay makes the same signal.
        live: What the journal has of it: the signal, or the refusal.
        strategy: What it is: version, parameters, how long its signals are valid.
        scene: What the replay knows at that place.
        times: What happened when, ns on the gateway's clock, each since the one before.
        notes: What could not be told.
    """

    wanted: Wanted
    made: bool
    live: dict[str, Any] | None
    strategy: dict[str, Any] | None
    scene: Scene
    times: list[dict[str, Any]] = []
    notes: list[str] = []

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


def explain(
    identity: str,
    recording: Path,
    journal: Path,
    blueprint: Blueprint,
    *,
    ticks: int = TICKS,
    progress: Progress | None = None,
) -> Explanation:
    """Explain a journaled signal.

    Args:
        identity: Its id, or the beginning of it.
        recording: As for ``diff``.
        journal: That has the signal.
        blueprint: The configuration that the engine had.
        ticks: Records of its instrument to show.
        progress: Called with the records done, now and then.

    Raises:
        InputFileError: there is no recording, or the signal's tick is not in it.
        LogError: it is no tick log.
        JournalError: the journal does not have the signal, or cannot be read.
    """
    signal = find_signal(journal, identity)
    wanted = Wanted(
        id=signal.id, strategy=signal.strategy, instrument=signal.instrument,
        tick_epoch=signal.tick_epoch, tick_seq=signal.tick_seq,
    )  # fmt: skip
    return explain_decision(wanted, recording, journal, blueprint, ticks=ticks, progress=progress)


def explain_difference(
    one: Difference, recording: Path, journal: Path, blueprint: Blueprint
) -> Explanation | None:
    """Explain what is behind a difference; None if it is about no strategy's decision."""
    if not one.strategy or "tick" in one.here:
        return None
    wanted = Wanted(
        id=one.id, strategy=one.strategy, instrument=one.instrument,
        tick_epoch=one.tick_epoch, tick_seq=one.tick_seq,
    )  # fmt: skip
    return explain_decision(wanted, recording, journal, blueprint)


def explain_decision(
    wanted: Wanted,
    recording: Path,
    journal: Path,
    blueprint: Blueprint,
    *,
    ticks: int = TICKS,
    progress: Progress | None = None,
) -> Explanation:
    """Explain one decision of a strategy; raises as ``explain``."""
    with open_material(recording) as material:
        told = read_told(journal, material.epochs)
        check_related(material, told)
        return _Explaining(wanted, material, told, blueprint, ticks, progress).run()


class _Explaining:
    """Goes to one record and looks."""

    def __init__(
        self,
        wanted: Wanted,
        material: Material,
        told: Told,
        blueprint: Blueprint,
        ticks: int,
        progress: Progress | None,
    ) -> None:
        self.wanted = wanted
        self.told = told
        self.path = material.path
        self.blueprint = blueprint
        self.comparing = Comparing(material, told, blueprint, None)
        self.signal = told.signals.get(wanted.id)
        self.taker = SceneTaker(
            self.comparing.twin,
            strategy=wanted.strategy,
            instrument=wanted.instrument,
            identity=wanted.id,
            live=self.signal,
            ticks=ticks,
            scores=Scores(blueprint),
            progress=progress,
        )

    def run(self) -> Explanation:
        """Return what there is to be told."""
        wanted = self.wanted
        if not self.comparing.walk_to(wanted.tick_epoch, wanted.tick_seq):
            raise InputFileError(
                self.path,
                f"tick {wanted.tick_epoch}/{wanted.tick_seq} is not in it; `heqis diff` says more",
            )
        scene = self.taker.finish()
        decided = self.taker.decided
        return Explanation(
            wanted=wanted,
            made=isinstance(decided, Signal),
            live=self._live(),
            strategy=self._strategy(),
            scene=scene,
            times=self._times(),
            notes=self._notes(decided),
        )

    def _live(self) -> dict[str, Any] | None:
        refusal = self.told.refusals.get(self.wanted.id)
        if self.signal is not None:
            found: dict[str, Any] = msgspec.to_builtins(self.signal)
            return found
        return None if refusal is None else refusal._asdict()

    def _strategy(self) -> dict[str, Any] | None:
        facts = self.comparing.parts["strategies"].get(self.wanted.strategy)
        return None if facts is None else {"name": self.wanted.strategy, **facts}

    def _times(self) -> list[dict[str, Any]]:
        """Return when what happened; live if the journal has it, else as far as the log tells."""
        origin, signal = self.taker.origin, self.signal
        tick = self.taker.scene.ticks[-1] if self.taker.scene.ticks else {}
        steps = [
            ("venue's event", tick.get("ts_event", 0)),
            ("received by the gateway", tick.get("ts_recv", 0)),
            ("was to be sent", origin.get("ts_intended", 0)),
            ("sent", origin.get("ts_send", 0)),
        ]
        if signal is not None:
            steps += [("signal left the engine", signal.ts_emit)]
            steps += [("valid until", signal.valid_until)]
        return _spans([(name, ts) for name, ts in steps if ts])

    def _notes(self, decided: Signal | Refusal | None) -> list[str]:
        notes = list(self.comparing.notes)
        if decided is None:
            notes.append("here the strategy decides nothing of that id on that tick")
        elif isinstance(decided, Refusal):
            notes.append(f"here it is refused: {decided.reason}")
        signal = self.signal
        if signal is not None and signal.late:
            notes.append("it was made late, by the engine's next life after a restart")
        if signal is not None and signal.queue_ns is not None:
            notes.append(
                f"its score waited {signal.queue_ns / 1e6:.3f} ms for its batch, which took "
                f"{(signal.service_ns or 0) / 1e6:.3f} ms on {signal.device}"
            )
        return notes


def _spans(steps: list[tuple[str, int]]) -> list[dict[str, Any]]:
    found, before = [], None
    for name, ts in steps:
        found.append({"what": name, "ts": ts, "since_ns": None if before is None else ts - before})
        before = ts
    return found
