"""Going through a recording leaves the loop its turns, says how far it is, and can be ended."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from lives import COUNT, TREE, Life, lived, make_market

from engine import restart_walk
from engine.config import EngineConfig
from engine.own_recording import pieces_of
from engine.restart_walk import MAX_MESSAGES, STEP_NS, Pace

STALL_NS = EngineConfig().stall_budget


def test_a_step_grows_while_it_is_cheap_and_shrinks_at_once() -> None:
    pace = Pace()
    assert pace.messages == 1
    for _ in range(20):
        pace.took(pace.messages, STEP_NS // 10)
    assert pace.messages == MAX_MESSAGES
    pace.took(MAX_MESSAGES, STEP_NS - 1)
    assert pace.messages == MAX_MESSAGES
    pace.took(3, STEP_NS // 10)
    assert pace.messages == MAX_MESSAGES, "the end of a file says nothing"
    pace.took(MAX_MESSAGES, 50 * STEP_NS)
    assert pace.messages == MAX_MESSAGES // 2
    for _ in range(20):
        pace.took(pace.messages, 50 * STEP_NS)
    assert pace.messages == 1


async def turns(spent_ns: list[int]) -> None:
    """Note what the loop's thread has worked between two turns, for ever."""
    before_ns = time.thread_time_ns()
    while True:
        await asyncio.sleep(0)
        now_ns = time.thread_time_ns()
        spent_ns.append(now_ns - before_ns)
        before_ns = now_ns


async def recorded(directory: Path, tree: dict[str, Any] = TREE) -> Life:
    """Live without snapshots, die."""
    life = await lived(directory, make_market(), COUNT, tree)
    await life.journal.flush()
    await life.stop()
    return life


def test_the_loop_turns_within_its_budget_and_files_are_indexed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        life = await recorded(tmp_path)
        assert len(pieces_of(tmp_path / "recordings")) > 2
        monkeypatch.setattr(restart_walk, "TELL_NS", 0)
        monkeypatch.setattr(restart_walk, "SLICE_NS", 0)
        told: list[str] = []
        spent_ns: list[int] = []

        def tell(text: str) -> None:
            if not told:
                spent_ns.clear()  # what was before made the pipeline
            told.append(text)

        life = Life(tmp_path, life.market, on_progress=tell)
        watching = asyncio.create_task(turns(spent_ns))
        await life.open()
        watching.cancel()
        assert life.restart.story.replayed == COUNT
        assert life.restart.story.sessions == 1
        assert len(spent_ns) > 5
        assert max(spent_ns[1:]) < STALL_NS
        assert life.restart.story.slice_ns > 0
        assert len(told) > 5
        shares = [int(text.split(": ")[1].split(" %")[0]) for text in told]
        assert shares == sorted(shares)
        assert 0 <= shares[0] < 50 < shares[-1] <= 100
        await life.stop()

    asyncio.run(scene())


def test_it_can_be_ended_between_two_slices_and_done_again(tmp_path: Path) -> None:
    async def scene() -> None:
        life = await recorded(tmp_path)
        life = Life(tmp_path, life.market)
        opening = asyncio.create_task(life.open())
        # It is looked at, not told.
        while not (hasattr(life, "restart") and life.restart.story.replayed):  # noqa: ASYNC110
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait((opening,))
        assert opening.cancelled()
        assert 0 < life.restart.story.replayed < COUNT
        await life.stop()
        life = Life(tmp_path, life.market)
        await life.open()
        assert life.next_row == COUNT
        assert life.restart.sink.counts["late"] + life.restart.sink.counts["expired"] == 0
        await life.stop()

    asyncio.run(scene())
