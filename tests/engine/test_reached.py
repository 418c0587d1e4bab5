"""An engine without recording and snapshot knows where it was, and asks for what came after."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from live_cases import live_tree, wait_until
from live_feed import GATEWAY
from lives import EPOCH, TREE, Life, make_market

from engine.composition import resolve
from engine.config import Config
from engine.daemon import Engine
from engine.reached import INTERVAL_NS, ReachedKeeper, begin_of
from feeds.control_messages import PROTOCOL, Welcome
from feeds.gateway import Gateway

BARE: dict[str, Any] = {**TREE, "engine": {"record": None}}


def welcome(epoch: int, next_seq: int) -> Welcome:
    return Welcome(PROTOCOL, GATEWAY, epoch, next_seq, 1, b"")


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(0, 20_000), st.booleans())
def test_a_start_goes_through_what_is_wanted_and_leaves_nothing_out(
    seq: int, next_seq: int, wanted: int, same: bool
) -> None:
    next_seq += seq if same else 0
    epoch, begin = begin_of((5, seq), welcome(5 if same else 6, next_seq), wanted)
    there = next_seq - begin if same else next_seq - 1 + seq - begin
    assert epoch == 5
    assert 1 <= begin <= seq
    assert there >= wanted or begin == 1


def test_the_next_life_waits_for_what_comes_after_the_last_ones_end(tmp_path: Path) -> None:
    async def scene() -> None:
        market = make_market(2_000)
        life = Life(tmp_path / "first", market, BARE)
        await life.open()
        assert life.restart.reached is not None
        life.restart.go_live(market.instruments)
        life.restart.reached.begin(welcome(EPOCH, 1))
        life.feed(700)
        life.restart.reached.keep_if_due(1)
        life.feed(1_500)
        life.restart.reached.keep_if_due(INTERVAL_NS)
        await life.journal.flush()
        assert await life.journal.read_reached() == {GATEWAY: (EPOCH, 701)}
        life.restart.reached.keep_if_due(1 + INTERVAL_NS)
        await life.journal.flush()
        await life.die(tmp_path / "second")
        life = Life(tmp_path / "second", market, BARE)
        await life.open()
        assert life.ingest.decoder.expected() == {GATEWAY: (EPOCH, 1_501)}
        life.restart.greet(welcome(EPOCH, 1_901))
        assert life.ingest.decoder.expected() == {GATEWAY: (EPOCH, 1_501)}
        await life.stop()

    asyncio.run(scene())


def test_what_an_earlier_life_has_decided_warms_up_and_is_not_published(tmp_path: Path) -> None:
    async def scene() -> None:
        market = make_market(3_000)
        life = Life(tmp_path / "first", market, BARE)
        await life.open()
        life.restart.go_live(market.instruments)
        life.feed(2_000)
        life.restart.reached.keep()  # type: ignore[union-attr] # it keeps no recording
        await life.journal.flush()
        published = life.journal.next_seq - 1
        assert published > 10
        await life.die(tmp_path / "second")
        tree = {**BARE, "engine": {"record": None, "warm_up_resend": 1_500}}
        life = Life(tmp_path / "second", market, tree)
        await life.open()
        life.restart.greet(welcome(EPOCH, 2_501))
        assert life.ingest.decoder.expected() == {GATEWAY: (EPOCH, 1_001)}
        life.feed(2_000)
        assert life.journal.next_seq == 1
        assert life.restart.sink.counts["recognised"] > 0
        await life.stop()

    asyncio.run(scene())


def test_where_the_stream_begins_is_kept_before_anything_of_it_has_come(tmp_path: Path) -> None:
    async def scene() -> None:
        life = Life(tmp_path, make_market(100), BARE)
        await life.open()
        keeper = ReachedKeeper(life.ingest.decoder, life.journal)
        keeper.begin(None)
        keeper.begin(welcome(EPOCH, 41))
        await life.journal.flush()
        assert await life.journal.read_reached() == {GATEWAY: (EPOCH, 41)}
        await life.stop()

    asyncio.run(scene())


@pytest.mark.slow
def test_a_second_engine_takes_all_that_came_while_there_was_none(tmp_path: Path) -> None:
    tree = live_tree(tmp_path, engine={"snapshot_interval": 0, "record": None})
    tree["gateway"] |= {
        "ring_frames": 16,
        "output_hwm": 1,
        "spool": {"directory": tmp_path / "spool", "memory": tmp_path},
    }
    config = Config.model_validate(tree)

    async def life(gateway: Gateway, ticks: int) -> Engine:
        async with Engine(resolve(config)) as engine:
            await wait_until(lambda: engine.ingest.pipeline.ticks > ticks)
        return engine

    async def main() -> None:
        gateway = Gateway(config.gateway)
        running = asyncio.create_task(gateway.run())
        try:
            first = await life(gateway, 0)
            began = next(iter(first.ingest.decoder.expected().values()))[1]
            await wait_until(lambda: gateway.status()["next_seq"] > began + 500)
            second = await life(gateway, 500)
        finally:
            gateway.stop()
            await running
        assert second.link.recovery.recovered > 0
        assert first.ingest.pipeline.gaps == second.ingest.pipeline.gaps == 0
        end = next(iter(second.ingest.decoder.expected().values()))[1]
        assert second.ingest.pipeline.ticks == end - began

    uvloop.run(main())
