"""Restarts in one process: what was decided before is known again, and nothing is missing."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest
from lives import (
    COUNT,
    STALE_NS,
    TREE,
    Life,
    Market,
    limits,
    lived,
    lose,
    make_market,
    told,
    undisturbed,
)
from pipeline_cases import market_instruments

from engine.core.reasons import Reason
from engine.core.signals import Signal

Scene = Callable[[Path], Coroutine[Any, Any, None]]


def run(scene: Scene, tmp_path: Path) -> None:
    asyncio.run(scene(tmp_path))


@pytest.mark.parametrize("seed", range(4))
def test_signals_of_many_short_lives_are_those_of_one_long_life(seed: int, tmp_path: Path) -> None:
    async def scene(directory: Path) -> None:
        random_ = random.Random(seed)
        market = make_market()
        expected = await undisturbed(directory / "long", make_market())
        home = directory / "life-0"
        kills = sorted(random_.sample(range(1, COUNT), 12))
        kept = late = reached = 0
        for number, stop in enumerate([*kills, COUNT]):
            life = Life(home, market)
            await life.open()
            kept += bool(life.restart.story.snapshot)
            if random_.random() < 0.8:
                life.feed(random_.randint(reached, stop))
                life.restart.go_live(market.instruments)
            if random_.random() < 0.7:
                life.feed(random_.randint(reached, stop))
                await life.journal.flush()
            if life.restart.live and random_.random() < 0.7:
                assert await life.keeper.keep()
            life.feed(stop)
            reached = stop
            if life.recorder is not None and random_.random() < 0.5:
                life.recorder.flush()
            late += life.restart.sink.counts["late"]
            home = directory / f"life-{number + 1}"
            await life.die(home)
            if random_.random() < 0.5:
                lose(home / "recordings", random_)
        assert await told(life) == expected
        assert len(expected) > 100
        assert kept >= 3
        assert late > 0

    run(scene, tmp_path)


def test_what_expired_while_the_engine_was_away_is_journaled_and_not_published(
    tmp_path: Path,
) -> None:
    async def scene(directory: Path) -> None:
        market = make_market(4_000)
        expected = await undisturbed(directory / "long", make_market(4_000))
        life = await lived(directory / "first", market, 1_500)
        await life.journal.flush()
        assert life.recorder is not None
        life.recorder.flush()
        await life.die(directory / "second")
        life = Life(directory / "second", market)
        await life.open()
        known = life.restart.sink.counts["recognised"]
        life.feed(4_000, late_ns=STALE_NS)
        counts = life.restart.sink.counts
        assert (counts["recognised"], counts["late"]) == (known, 0)
        assert counts["expired"] == len(expected) - known > 50
        assert life.journal.next_seq == 1
        await life.stop()
        assert await told(life) == expected
        await life.journal.open()
        _, expired = await life.journal.read_decisions(0, 0, 10_000)
        assert len(expired) == counts["expired"]
        await life.journal.close()
        life = Life(directory / "second", market)
        await life.open()
        assert life.restart.sink.counts == {"recognised": len(expected), "refused": ANY}
        await life.stop()

    run(scene, tmp_path)


def test_what_was_refused_as_too_late_when_it_was_due_is_refused_again(tmp_path: Path) -> None:
    async def scene(directory: Path) -> None:
        market = make_market(4_000)
        life = await lived(directory / "first", market, 1_000)
        life.feed(1_400, late_ns=STALE_NS)
        life.feed(2_500)
        assert life.pipeline.gate.refusals[Reason.DATA_LATE] > 5
        await life.journal.flush()
        assert life.recorder is not None
        life.recorder.flush()
        await life.die(directory / "second")
        first = await told(life)
        life = Life(directory / "second", market)
        await life.open()
        counts = life.restart.sink.counts
        assert counts["recognised"] == len(first)
        assert counts["overruled"] > 5
        assert counts["late"] + counts["expired"] == 0
        await life.stop()

    run(scene, tmp_path)


def test_an_operators_halt_does_not_unbook_what_was_let_through_before(tmp_path: Path) -> None:
    async def scene(directory: Path) -> None:
        market = make_market(3_000)
        life = await lived(directory / "first", market, 2_000)
        booked = life.pipeline.gate.bookings.export_state()
        await life.journal.flush()
        await life.stop()
        halted = {**TREE, "risk": {**TREE["risk"], "state": "halted"}}
        life = Life(directory / "first", market, halted)
        await life.open()
        assert life.pipeline.gate.bookings.export_state() == booked
        assert life.restart.sink.counts["late"] == 0
        await life.stop()

    run(scene, tmp_path)


def test_a_snapshot_that_does_not_fit_is_told_and_the_recording_gone_through(
    tmp_path: Path,
) -> None:
    async def scene(directory: Path) -> None:
        market = make_market(3_000)
        home = directory / "first"
        life = await lived(home, market, 1_000)
        assert await life.keeper.keep()
        life.feed(2_000)
        assert await life.keeper.keep()
        await life.stop()
        newest, older = life.keeper._files.paths()
        newest.write_bytes(newest.read_bytes()[:-1])
        life = Life(home, market)
        await life.open()
        assert (life.restart.story.snapshot, life.restart.story.replayed) == (older.name, 1_000)
        assert life.restart.story.ignored == {newest.name: "it is damaged"}
        await life.stop()
        changed = {**TREE, "risk": {"limits": limits(max_position=4)}}
        life = Life(home, market, changed)
        await life.open()
        reason = "it was taken under another configuration"
        assert life.restart.story.ignored == {newest.name: "it is damaged", older.name: reason}
        assert (life.restart.story.snapshot, life.restart.story.replayed) == ("", 2_000)
        assert life.next_row == 2_000
        await life.journal.flush()
        (told_of, *_) = await life.journal.read_fields("snapshot_ignored", 10)
        assert told_of == {"file": newest.name, "reason": "it is damaged"}
        await life.stop()

    run(scene, tmp_path)


def forget_journal(life: Life) -> None:
    for file in life.directory.glob("journal.db*"):
        file.unlink()


def test_a_snapshot_that_knows_more_than_the_journal_is_not_used(tmp_path: Path) -> None:
    async def scene(directory: Path) -> None:
        market = make_market(3_000)
        life = await lived(directory / "first", market, 2_000)
        assert await life.keeper.keep()
        assert life.journal.next_seq > 10
        await life.stop()
        forget_journal(life)
        life = Life(directory / "first", market)
        await life.open()
        assert "does not know the last signal" in next(iter(life.restart.story.ignored.values()))
        # The journal is new: nothing tells what was published of the old sessions.
        assert life.restart.sink.counts["untold"] > 50
        assert life.restart.sink.counts["late"] + life.restart.sink.counts["expired"] == 0
        await life.stop()

    run(scene, tmp_path)


def test_another_gateways_instruments_let_all_begin_anew(tmp_path: Path) -> None:
    async def scene(directory: Path) -> None:
        market = make_market(3_000)
        life = await lived(directory / "first", market, 2_000)
        assert await life.keeper.keep()
        await life.stop()
        others = market_instruments(4)
        others["symbol"] = [b"T0.X", b"T1.X", b"T2.X", b"T3.X"]
        life = Life(directory / "first", Market(others, market.ticks))
        await life.open()
        assert life.restart.story.snapshot
        assert life.pipeline.symbols == ["T0.X", "T1.X", "T2.X", "T3.X"]
        assert not life.pipeline.kernel.state["m"]["traded"].any()
        assert life.pipeline.gate.bookings.gross_units == 0
        life.restart.go_live(others)
        assert life.journal.next_seq == life.pipeline.judge.next_seq
        life.feed(3_000)
        await life.stop()
        life = Life(directory / "first", Market(others, market.ticks))
        await life.open()
        assert life.pipeline.symbols == ["T0.X", "T1.X", "T2.X", "T3.X"]
        assert life.next_row == 3_000
        await life.stop()

    run(scene, tmp_path)


def test_late_signals_say_so_and_how_late(tmp_path: Path) -> None:
    async def scene(directory: Path) -> None:
        market = make_market(3_000)
        life = Life(directory / "first", market)
        await life.open()
        life.feed(2_000, late_ns=3_000_000_000)
        late = life.journal.next_seq - 1
        life.restart.go_live(market.instruments)
        life.feed(3_000)
        await life.journal.flush()
        entries = await life.journal.read_signals(life.journal.epoch, 1, 10_000)
        signals = [msgspec.json.decode(entry.body, type=Signal) for entry in entries]
        assert [one.late for one in signals] == [True] * late + [False] * (len(signals) - late)
        assert all(one.ts_emit - one.ts_recv > 2_900_000_000 for one in signals[:late])
        assert len(signals) > late > 10
        (facts,) = await life.journal.read_fields("engine_live", 10)
        assert facts["late"] == late
        await life.stop()

    run(scene, tmp_path)


def test_what_the_journal_no_longer_keeps_is_not_published_once_more(tmp_path: Path) -> None:
    async def scene(directory: Path) -> None:
        market = make_market(2_000)
        life = await lived(directory / "first", market, 2_000)
        await life.journal.flush()
        assert life.recorder is not None
        life.recorder.flush()
        store, made = life.journal._store, life.journal.next_seq - 1
        assert store is not None
        assert await life.journal.is_whole_from(0, 0)
        await store.remove_oldest("signals", made - 5, None)
        assert not await life.journal.is_whole_from(0, 0)
        assert await life.journal.is_whole_from(life.journal.epoch, made - 4)
        await life.die(directory / "second")
        life = Life(directory / "second", market)
        await life.open()
        counts = life.restart.sink.counts
        assert (counts["recognised"], counts["late"], counts["expired"]) == (5, 0, 0)
        assert counts["untold"] == made - 5
        await life.stop()

    run(scene, tmp_path)
