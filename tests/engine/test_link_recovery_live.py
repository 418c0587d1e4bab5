"""Link recovery over real sockets: a gateway, an engine, and somebody in between."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import uvloop
from link_mangler import FrameMangler
from live_cases import live_tree, wait_until
from live_feed import HandFeed, feed_tree, takes
from websockets.asyncio.client import connect

from engine.composition import resolve
from engine.config import Config
from engine.daemon import Engine
from feeds.gateway import Gateway


def test_frames_dropped_doubled_and_swapped_on_the_way_all_arrive_once(tmp_path: Path) -> None:
    tree = live_tree(tmp_path, rate=5_000)
    mangler = FrameMangler(tree["link"]["data"], 0.0)
    tree["gateway"]["outputs"] = [mangler.endpoint]
    tree["gateway"]["spool"] = {"directory": tmp_path / "spool"}
    config = Config.model_validate(tree)

    async def main() -> None:
        gateway = Gateway(config.gateway)
        task = asyncio.create_task(gateway.run())
        async with Engine(resolve(config)) as engine, asyncio.timeout(60):
            decoder = engine.ingest.decoder
            await wait_until(lambda: bool(decoder.expected()))
            mangler.share = 0.05
            await wait_until(lambda: mangler.passed > 1_500)
            mangler.share = 0.0
            sent = gateway.status()["next_seq"]
            await wait_until(lambda: decoder.expected()[1][1] > sent)
            counted, told = decoder.count_by_name(), engine.board.status()["recovery"]
            assert counted["ticks"] == decoder.expected()[1][1] - 1
            assert counted.get("lost_records", 0) == counted.get("gaps", 0) == 0
            assert counted["duplicate_frames"] > 20
            assert told["recoveries"] > 50
            assert told["recovered"] > 50
            assert told["gap"]["count"] >= told["recoveries"] - 1
            gateway.stop()
            await task

    with mangler:
        uvloop.run(main())
    assert min(mangler.dropped, mangler.doubled, mangler.swapped) > 20


def test_clients_that_ask_for_it_are_told_what_data_is_missing(tmp_path: Path) -> None:
    blueprint = resolve(Config.model_validate(feed_tree(tmp_path)))
    feed = HandFeed(blueprint.config.link)
    told: list[dict[str, Any]] = []

    async def main() -> None:
        async with feed, Engine(blueprint) as engine, asyncio.timeout(60):
            await takes(engine, 40, lambda: feed.send_good(40))
            async with connect(f"ws://127.0.0.1:{engine.stream.port}") as client:
                await client.send(orjson.dumps({"type": "subscribe", "topics": ["data"]}))
                while orjson.loads(await client.recv())["type"] != "subscribed":
                    continue
                feed.next_seq += 9
                await takes(engine, 41, lambda: feed.send_good(40))
                while not told:
                    message = orjson.loads(await client.recv())
                    told.extend([message] if message["type"] == "data_gap" else [])

    uvloop.run(main())
    (gap,) = told
    assert (gap["nth"], gap["epoch"], gap["first_missing"], gap["missing"]) == (
        1,
        feed.epoch,
        41,
        9,
    )
    assert gap["reason"] == "unsupported"


def test_an_engine_that_stops_receiving_for_want_of_room_goes_on(tmp_path: Path) -> None:
    blueprint = resolve(Config.model_validate(feed_tree(tmp_path)))
    feed = HandFeed(blueprint.config.link)

    async def main() -> None:
        async with feed, Engine(blueprint) as engine, asyncio.timeout(60):
            await takes(engine, 40, lambda: feed.send_good(40))
            engine.link.pause(stop=True)
            await feed.send_good(400)
            engine.link.pause(stop=False)
            await wait_until(lambda: engine.ingest.pipeline.ticks == 440)

    uvloop.run(main())
