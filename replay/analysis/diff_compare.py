"""Compares what a replay decides with what a journal says was decided, one decision after another.

Stands where the journal would: what was let through live is booked here, what was not is not.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from engine.core.signals import Refusal, Signal
from engine.journal_schema import RESTART_GATE
from engine.judge import MODEL_GATE
from feeds.burst import Gap
from replay.analysis.diff_ground import Spot, Where
from replay.analysis.diff_journal import Told, ToldRefusal
from replay.analysis.diff_result import Difference, Differences, Kind
from replay.analysis.diff_scores import Scores
from replay.analysis.diff_twin import Read, Twin

_SHOWN: Final = (
    "side", "strength", "confidence", "edge_bps", "price", "version", "model", "ts_event",
    "ts_recv", "valid_until",
)  # fmt: skip
_SIDES: Final = {"BUY": 1, "SELL": -1}
Place = tuple[str, str, int, int]
"""Strategy, instrument, stream epoch and number of a tick."""


class Comparison:
    """A signal sink; ``begin`` it with the twin whose sink it is.

    Attributes:
        counts: What was compared, by name.
        muted: What is gone through leads up to what is compared.
        since: The first record that is compared.
        untold: Tells of a tick whether its signals were made live without being told.
        ended: Tells of a tick whether live may have ended before it.

    Args:
        told: The journal.
        scores: Tolerances.
        differences: Where differences go.
    """

    def __init__(self, told: Told, scores: Scores, differences: Differences) -> None:
        self.told = told
        self.counts: Counter[str] = Counter()
        self.muted = False
        self.since = 0
        self.untold: Callable[[int, int], bool] = _never
        self.ended: Callable[[int, int], bool] = _never
        self._scores = scores
        self._differences = differences
        self._seen: set[str] = set()
        self._reads: dict[Place, Read] = {}
        self._by_place = {_place_of(one): one for one in told.signals.values() if one.model}
        self._gaps = {_gap_of(one.fields) for one in told.of("gap")}
        self._twin: Twin

    def begin(self, twin: Twin) -> None:
        """Know the pipeline whose decisions these are."""
        self._twin = twin
        twin.on_gap = self.on_gap
        if twin.desk is not None:
            twin.desk.on_read = self._on_read

    def was_let(self, identity: str) -> bool:
        """Tell whether a signal was let through live, told or expired."""
        return identity in self.told.signals or self._expired(identity) is not None

    def on_signal(self, signal: Signal) -> bool:
        """Compare a signal; False if it is not to be booked, as it was not live."""
        live = self.told.signals.get(signal.id)
        if live is not None:
            self._on_both(live, signal)
            return True
        if (expired := self._expired(signal.id)) is not None:
            self._on_expired(signal, expired)
            return True
        if self.untold(signal.tick_epoch, signal.tick_seq):
            self._count("untold")
            return True
        refused = self.told.refusals.get(signal.id)
        if refused is None and self.ended(signal.tick_epoch, signal.tick_seq):
            self._count("after_the_live_end")
        elif refused is not None:
            self._on_refused_live(signal, refused)
        else:
            self._on_extra(signal)
        return False

    def on_refusal(self, refusal: Refusal) -> None:
        """Compare a refusal."""
        live = self.told.signals.get(refusal.id)
        if live is not None:
            self._on_unscored(live, refusal)
            return
        told = self.told.refusals.get(refusal.id)
        if told is None:
            self._count("refusals_not_journaled")
            return
        self._see(refusal.id)
        self._count("refusals")
        if (told.gate, told.reason) != (refusal.gate, refusal.reason):
            self._add(
                Kind.VERDICT, refusal, _told(told), _told(refusal),
                f"refused live for {told.reason}, here for {refusal.reason}",
            )  # fmt: skip

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        """Count it."""
        self._count(f"event_{kind}")

    def on_gap(self, gap: Gap, place: int) -> None:
        """Compare a gap: live had it, or has told of it."""
        if self.muted:
            return
        if tuple(gap) in self._gaps:
            self.counts["gaps"] += 1
            return
        what = f"{gap.missing:,} records from {gap.first_missing:,} on" if gap.missing else "a hole"
        self._differences.add(
            Difference(
                kind=Kind.BYTES, place=place, tick_epoch=gap.epoch, tick_seq=gap.first_missing,
                why=f"{what} of stream {gap.epoch} are not in the recording; live had them",
                live={"missing": 0}, here={"missing": gap.missing},
            )
        )  # fmt: skip

    def finish(self, *, goes_on: bool) -> None:
        """Find what is journaled and was not made here.

        Args:
            goes_on: The session has a later one, which is not compared.
        """
        for signal in self.told.signals.values():
            if signal.id not in self._seen:
                self._on_missing(signal, goes_on=goes_on)
        for refusal in self.told.refusals.values():
            if refusal.id not in self._seen and refusal.id not in self.told.signals:
                self._on_missing(refusal, goes_on=goes_on)

    def _on_both(self, live: Signal, here: Signal) -> None:
        self._see(live.id)
        self._count("signals")
        self._count("signals_late", live.late)
        fields = self._scores.differences(live, here)
        verdict = self._twin.judge.overruled
        if fields:
            self._add(
                Kind.CONTENT, here, _shown(live), _shown(here),
                f"the same signal with another {', '.join(fields)}",
            )  # fmt: skip
        elif verdict is not None and verdict.reason is not None:
            here_told = {"gate": verdict.gate, "reason": verdict.reason, "detail": verdict.detail}
            self._add(
                Kind.VERDICT, here, {"verdict": "let through"}, here_told,
                f"let through live, refused here for {verdict.reason}",
            )  # fmt: skip

    def _on_expired(self, signal: Signal, expired: ToldRefusal) -> None:
        self._see(signal.id)
        self._add(
            Kind.VERDICT, signal, _told(expired), {"verdict": "let through"},
            "made again after a restart, when it was no longer valid",
        )  # fmt: skip

    def _on_refused_live(self, signal: Signal, refused: ToldRefusal) -> None:
        self._see(signal.id)
        if refused.gate == MODEL_GATE and self._is_close(signal.strategy):
            self._count("at_threshold")
            return
        self._add(
            Kind.VERDICT, signal, _told(refused), {"verdict": "let through", **_shown(signal)},
            f"refused live for {refused.reason}, let through here",
        )  # fmt: skip

    def _on_extra(self, signal: Signal) -> None:
        if self._is_close(signal.strategy):
            self._count("at_threshold")
            return
        self._add(
            Kind.EXTRA, signal, {}, _shown(signal),
            "made here; the journal has neither the signal nor a refusal of it",
        )  # fmt: skip

    def _on_unscored(self, live: Signal, refusal: Refusal) -> None:
        """Live had a score that let it through, here it has none or one that does not."""
        self._see(live.id)
        self._twin.judge.book_anyway()
        if self._is_close(live.strategy):
            self._count("at_threshold")
            return
        self._add(
            Kind.VERDICT, refusal, _shown(live), _told(refusal),
            f"let through live, refused here for {refusal.reason}",
        )  # fmt: skip

    def _on_read(self, read: Read) -> None:
        """Keep an answer that proposes nothing where live made a signal, and book that."""
        judge = self._twin.judge
        facts = judge.strategies[read.candidate.strategy]
        symbol = judge.symbols[read.candidate.instrument]
        place = facts.name, symbol, *read.origin[:2]
        live = self._by_place.get(place)  # type: ignore[arg-type] # four of them
        if live is None or read.verdict.candidate is not None or read.verdict.failure is not None:
            return
        self._reads[place] = read  # type: ignore[index]
        side = _SIDES[live.side]
        self._twin.pipeline.gate.accept(msgspec.structs.replace(read.candidate, side=side))

    def _on_missing(self, live: Signal | ToldRefusal, *, goes_on: bool) -> None:
        spot = self._twin.ground.find(live.tick_epoch, live.tick_seq)
        if spot.where is Where.BEFORE or (spot.where is Where.AFTER and goes_on):
            self.counts[f"{spot.where.value}_the_recording"] += 1
            return
        led_up = spot.where is Where.WITHIN and spot.place < self.since
        if led_up or (spot.where is Where.WITHIN and self._is_explained(live)):
            return
        what = "signal" if isinstance(live, Signal) else "refusal"
        why = f"the journal has this {what}; here the strategy proposes nothing"
        if spot.where is not Where.WITHIN:
            why = f"the journal has this {what}; its tick is not in the recording"
        told = _shown(live) if isinstance(live, Signal) else _told(live)
        self._missing(live, spot, told, why)

    def _is_explained(self, live: Signal | ToldRefusal) -> bool:
        read = self._reads.get(_place_of(live))
        if isinstance(live, Signal):
            if read is None or not self._is_close(live.strategy, read):
                return False
            self.counts["at_threshold"] += 1
            return True
        if live.gate == MODEL_GATE and self._scores.model(live.strategy) is not None:
            self.counts["unscored_live"] += 1
            return True
        return False

    def _missing(
        self, live: Signal | ToldRefusal, spot: Spot, told: dict[str, Any], why: str
    ) -> None:
        read = self._reads.get(_place_of(live))
        here: dict[str, Any] = {}
        if spot.where is not Where.WITHIN:
            here = {"tick": spot.where.value}
        elif read is not None and read.answer.score is not None:
            here = {"score": list(read.answer.score.values), "model": read.answer.score.bundle}
        self._differences.add(
            Difference(
                kind=Kind.MISSING, place=spot.place, tick_epoch=live.tick_epoch,
                tick_seq=live.tick_seq, ts_event=live.ts_event, instrument=live.instrument,
                strategy=live.strategy, id=live.id, live=told, here=here, why=why,
            )
        )  # fmt: skip

    def _is_close(self, strategy: str, read: Read | None = None) -> bool:
        desk = self._twin.desk
        read = read or (desk.last if desk is not None else None)
        if read is None or desk is None or self._scores.model(strategy) is None:
            return False
        return self._scores.is_close(strategy, read, desk.readings[read.candidate.strategy])

    def _expired(self, identity: str) -> ToldRefusal | None:
        told = self.told.refusals.get(identity)
        return told if told is not None and told.gate == RESTART_GATE else None

    def _see(self, identity: str) -> None:
        self._seen.add(identity)

    def _count(self, name: str, count: int = 1) -> None:
        if not self.muted and count:
            self.counts[name] += count

    def _add(
        self,
        kind: Kind,
        of: Signal | Refusal,
        live: dict[str, Any],
        here: dict[str, Any],
        why: str,
    ) -> None:
        if self.muted:
            return
        place = self._twin.ground.find(of.tick_epoch, of.tick_seq).place
        self._differences.add(
            Difference(
                kind=kind, place=place, tick_epoch=of.tick_epoch,
                tick_seq=of.tick_seq, ts_event=of.ts_event, instrument=of.instrument,
                strategy=of.strategy, id=of.id, live=live, here=here, why=why,
            )
        )  # fmt: skip


def _place_of(one: Signal | ToldRefusal) -> Place:
    return one.strategy, one.instrument, one.tick_epoch, one.tick_seq


def _gap_of(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(fields.get(name) for name in Gap._fields)


def _shown(signal: Signal) -> dict[str, Any]:
    return {name: getattr(signal, name) for name in _SHOWN if getattr(signal, name) is not None}


def _told(refusal: Refusal | ToldRefusal) -> dict[str, Any]:
    return {"gate": refusal.gate, "reason": refusal.reason, "detail": refusal.detail}


def _never(_: int, __: int) -> bool:
    return False
