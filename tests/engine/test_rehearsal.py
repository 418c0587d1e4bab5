"""A rehearsal goes the way of a signal while ticks come, and a client hears nothing of it."""

import asyncio
from pathlib import Path

import uvloop
from pipeline_cases import RULES, make_pipeline, market_ticks, origins_of
from stream_fakes import make_signal
from stream_rig import rig, subscribed

from engine.rehearsal import Rehearsal

TICKS = market_ticks(2_000)


def test_it_waits_its_time_and_begins_with_the_first_candidate(tmp_path: Path) -> None:
    async def work() -> None:
        pipeline, _ = make_pipeline(RULES)
        async with rig(tmp_path / "j.db") as engine:
            often = Rehearsal(pipeline, engine.stream, 1)
            seldom = Rehearsal(pipeline, engine.stream, 10**12)
            often.after_burst()
            assert often.count == 0
            pipeline.run_ticks(TICKS, origins_of(len(TICKS)), 0, len(TICKS))
            assert pipeline.signals > 0
            for rehearsal in (often, seldom):
                for _ in range(100):
                    rehearsal.after_burst()
            assert often.count >= 99
            assert seldom.count == 0

    uvloop.run(work())


def test_no_client_hears_of_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path / "j.db") as engine:
            reader = await subscribed(engine.client())
            engine.emit(3)
            for _ in range(10):
                engine.stream.rehearse(make_signal(1, 99))
            engine.emit(2)
            await reader.until_last(5)
            assert reader.seqs == [1, 2, 3, 4, 5]
            assert reader.gaps == []
            assert engine.stream.next_seq == 6

    asyncio.run(work())
