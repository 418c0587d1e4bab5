"""What must hold once all is well again and everybody has caught up."""

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from simulation.checks import Record, require
from simulation.devices import AtOnce
from simulation.market import instruments
from simulation.processes import shared_histograms

from engine.clock import TickClock
from engine.composition import build_pipeline
from engine.core.records import TICK, TickKind
from engine.core.signals import Refusal, Signal
from feeds.burst import ORIGIN

if TYPE_CHECKING:
    from simulation.world import World

_BURST: Final = 64


def assert_ending(world: "World") -> None:
    """Look at everything once more."""
    world.checks.assert_unchanged()
    world.checks.assert_accounted(quiet=False)
    _assert_journal(world)
    _assert_decisions(world)
    _assert_clients(world)


def _assert_decisions(world: "World") -> None:
    """What was proposed is what one undisturbed run over the same ticks proposes, no more or less.

    Whether a proposal became a signal or a refusal may depend on when its tick came.
    """
    records = _last_word(world)
    if records is None:
        return
    ids, signals = _undisturbed(world, records)
    checks = world.checks
    bodies = np.frombuffer(b"".join(body for _, body, _ in records), TICK)
    ticks = (bodies["kind"] != TickKind.GAP).tolist()
    places = {place for (place, _, _), is_tick in zip(records, ticks, strict=True) if is_tick}
    missing = ids.keys() - checks.decided.keys()
    require(not missing, f"never decided: {sorted(ids[one] for one in missing)[:3]}")
    known = {place for life in checks.lives for place in life.bodies} <= places
    if known:
        further = checks.decided.keys() - ids.keys() - checks.unscored
        require(not further, f"out of nothing: {[checks.decided[one] for one in further][:3]}")
        if world.scenario.lax:
            others = checks.ids.keys() - signals
            require(not others, f"signals that are none: {[checks.ids[o] for o in others][:3]}")


def _last_word(world: "World") -> list[Record] | None:
    """Return what was taken, as the last life of the engine to take it has it.

    None if a life began with nothing: then no run is like it.
    """
    merged: list[Record] = []
    for life in world.checks.lives:
        if not life.records:
            continue
        begin = life.records[0][0]
        if merged and not world.checks.remembers:
            return None
        while merged and merged[-1][0] >= begin:
            merged.pop()
        merged += life.records
    return merged


def _undisturbed(
    world: "World", records: list[Record]
) -> tuple[dict[str, tuple[int, int]], set[str]]:
    """Return the ids of all proposals, with their ticks, and of those that became signals."""
    sink = _Decisions()
    pipeline = build_pipeline(
        world.blueprint,
        capacity=world.blueprint.config.engine.max_instruments,
        sink=sink,
        clock=TickClock(),
        histograms=shared_histograms(),
        infer=AtOnce,
    )
    pipeline.define(instruments())
    pipeline.host.start()
    ticks = np.frombuffer(b"".join(body for _, body, _ in records), TICK)
    origins = np.frombuffer(b"".join(origin for _, _, origin in records), ORIGIN)
    for at in range(0, len(ticks), _BURST):
        pipeline.run_ticks(ticks, origins, at, min(at + _BURST, len(ticks)))
    pipeline.host.stop()
    return sink.places, sink.signals


class _Decisions:
    """A sink."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[int, int]] = {}
        self.signals: set[str] = set()

    def on_signal(self, signal: Signal) -> bool:
        self.places[signal.id] = signal.tick_epoch, signal.tick_seq
        self.signals.add(signal.id)
        return True

    def on_refusal(self, refusal: Refusal) -> None:
        self.places[refusal.id] = refusal.tick_epoch, refusal.tick_seq

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        return


def _assert_journal(world: "World") -> None:
    """Every row is a signal that was sent, at its place; no id is there twice, none is missing."""
    checks, engine = world.checks, world.engine
    assert engine is not None
    desk = engine.ingest.pipeline.desk
    require(desk is None or not desk.waiting, "scores are awaited, and nothing is under way")
    connection = sqlite3.connect(world.directory / "journal.db")
    rows = connection.execute("SELECT epoch, seq, id FROM signals ORDER BY epoch, seq").fetchall()
    connection.close()
    for epoch, seq, known in rows:
        signal = checks.signals.get((epoch, seq))
        require(signal is not None and signal.id == known, f"journal: {epoch}/{seq} is {known}")
    there = {(epoch, seq) for epoch, seq, _ in rows}
    epoch = engine.journal.epoch
    queued = engine.journal.queued
    oldest = engine.journal.oldest_seq
    wanted = {(epoch, seq) for seq in range(oldest, engine.journal.next_seq)}
    require(len(wanted - there) <= queued, f"journal lacks {sorted(wanted - there)[:5]}")


def _assert_clients(world: "World") -> None:
    """Every client that asked for all has got, or was told it missed, everything."""
    checks, engine = world.checks, world.engine
    assert engine is not None
    head = engine.journal.epoch, checks.heads[engine.journal.epoch]
    for client in world.clients:
        require(not client.refusals, f"{client.name} was refused: {client.refusals}")
        require(client.state.stats.chain_breaks == 0, f"{client.name}: broken chain")
        if client.state.wish.strategies is None and client.name in checks.positions:
            epoch, position = checks.positions[client.name]
            near = epoch == head[0] and position + 8 >= head[1]
            require(near, f"{client.name} is at {epoch}/{position}, the stream at {head}")
