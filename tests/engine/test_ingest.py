"""The duty cycle: what it tells the journal of the stream."""

import asyncio
import json
import sqlite3
from pathlib import Path

import uvloop
from live_feed import GATEWAY, HandFeed, assert_unharmed, feed_tree, takes

from engine.composition import resolve
from engine.config import Config
from engine.daemon import Engine


def test_gaps_and_new_epochs_are_journaled_with_what_is_missing(tmp_path: Path) -> None:
    blueprint = resolve(Config.model_validate(feed_tree(tmp_path)))
    feed = HandFeed(blueprint.config.link)
    places: list[tuple[int, int]] = []

    async def main() -> None:
        async with feed, Engine(blueprint) as engine, asyncio.timeout(60):
            await assert_unharmed(engine, feed)
            places.append((feed.epoch, feed.next_seq))
            feed.next_seq += 17
            await takes(engine, 1 + 40, lambda: feed.send_good(40))
            feed.epoch, feed.next_seq = feed.epoch + 1, 1
            places.append((feed.epoch, 1))
            await takes(engine, 1 + 40, lambda: feed.send_good(40))

    uvloop.run(main())
    with sqlite3.connect(blueprint.config.journal.path) as journal:
        rows = journal.execute("SELECT fields FROM events WHERE kind = 'gap' ORDER BY row")
        told = [json.loads(row[0]) for row in rows]
    facts = {"gateway": GATEWAY, "reason": "unsupported"}
    before = {
        "previous_epoch": places[0][0],
        "previous_first_missing": 601 + 17 + 40,
        "previous_missing": None,
    }
    (old, at), (new, _) = places
    assert told == [
        {**facts, "epoch": old, "first_missing": at, "missing": 17},
        {**facts, "epoch": new, "first_missing": 1, "missing": 0, **before},
    ]
