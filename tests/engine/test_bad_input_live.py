"""Bad input against a live engine: counted, and no signal of the good ticks is lost or changed.

The gateway is a hand-held one (``live_feed``), so that a test may damage what it sends.
"""

import asyncio
import random
import struct
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
import zmq
from live_cases import wait_until
from live_feed import FRAME_TICKS, HandFeed, assert_unharmed, feed_tree, journaled_ids, takes
from pipeline_cases import market_instruments

from engine.composition import Blueprint, resolve
from engine.config import Config
from engine.core.reasons import Reason
from engine.core.records import (
    ALL_INSTRUMENTS,
    MAX_FRAME_BYTES,
    Schema,
    TickFlag,
    TickKind,
    Ticks,
    instrument_row,
)
from engine.daemon import Engine
from engine.risk.rules import RiskState
from feeds.log_verify import verify
from replay.player import Options, play

Scene = Callable[[Engine, HandFeed], Awaitable[None]]


def live(tmp_path: Path, scene: Scene, **changes: Any) -> tuple[Blueprint, HandFeed]:
    """Run an engine, a hand-held gateway and a scene; the engine has warmed up."""
    blueprint = resolve(Config.model_validate(feed_tree(tmp_path, **changes)))
    feed = HandFeed(blueprint.config.link)

    async def main() -> None:
        async with feed, Engine(blueprint) as engine, asyncio.timeout(60):
            await assert_unharmed(engine, feed)
            await scene(engine, feed)

    uvloop.run(main())
    return blueprint, feed


def counted(engine: Engine, prefix: str = "") -> dict[str, int]:
    counts = engine.ingest.decoder.count_by_name()
    return {name: count for name, count in counts.items() if name.startswith(prefix)}


def sealed(head: bytes, body: bytes) -> bytes:
    """Put a header's first 60 bytes and records together with the CRC that is theirs."""
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body


def altered(frame: bytes, at: int, layout: str, value: int) -> bytes:
    """Change a header field of a frame, its CRC with it."""
    head = bytearray(frame[:60])
    struct.pack_into(layout, head, at, value)
    return sealed(bytes(head), frame[64:])


def torn(frame: bytes) -> list[bytes]:
    cuts = [0, 1, 7, 8, 59, 60, 63, 64, 65, 143, 144, len(frame) // 2, len(frame) - 8]
    return [*(frame[:cut] for cut in cuts), frame[:-1], frame + bytes(8), frame[8:]]


def flipped(frame: bytes, rng: random.Random, count: int) -> list[bytes]:
    made = []
    for bit in rng.sample(range(len(frame) * 8), count):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        made.append(bytes(damaged))
    return made


def foreign(frame: bytes) -> list[bytes]:
    """Frames of another version, schema or shape, with the right CRC."""
    fields = [
        (4, "<H", 0), (4, "<H", 2), (4, "<H", 65_535), (6, "<H", 0), (6, "<H", 7),
        (6, "<H", 65_535), (24, "<I", 0), (24, "<I", 2**32 - 1), (52, "<H", 81), (56, "<I", 1),
        (8, "<Q", 2**63), (16, "<Q", 2**64 - 1), (0, "<I", 0),
    ]  # fmt: skip
    return [altered(frame, *field) for field in fields]


def test_damaged_frames_between_good_ones_change_no_signal(tmp_path: Path) -> None:
    rng = random.Random(5)
    bad = repeated = 0

    async def scene(engine: Engine, feed: HandFeed) -> None:
        nonlocal bad, repeated
        for _ in range(8):
            ticks = feed.take()
            frame = feed.frame(ticks)
            damaged = [*torn(frame), *flipped(frame, rng, 60), *foreign(frame)]
            rng.shuffle(damaged)
            await feed.send(*damaged, frame, rng.choice(damaged), frame)
            feed.note(ticks)
            bad, repeated = bad + len(damaged) + 1, repeated + 1
            await feed.send_good(2 * FRAME_TICKS)
        last = feed.next_seq - 1
        await wait_until(lambda: counted(engine).get("ticks") == last)
        faults = counted(engine, "frame_")
        assert sum(faults.values()) == bad
        assert {"frame_bad_length", "frame_bad_magic", "frame_bad_version", "frame_bad_schema",
                "frame_bad_field", "frame_bad_crc"} == set(faults)  # fmt: skip
        assert counted(engine)["duplicate_frames"] == repeated
        assert "gaps" not in counted(engine)
        assert engine.board.status()["input"]["frame_bad_crc"] == faults["frame_bad_crc"]
        await assert_unharmed(engine, feed)

    blueprint, feed = live(tmp_path, scene)
    assert journaled_ids(tmp_path / "journal.db") == feed.expected_ids(blueprint)
    (recording,) = (tmp_path / "recordings").iterdir()
    assert verify(recording).bad_frames == 0


def test_a_frame_damaged_on_its_way_is_a_gap_of_its_size_and_replays_as_one(tmp_path: Path) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        ticks = feed.take()
        damaged = bytearray(feed.frame(ticks))
        damaged[200] ^= 4
        await feed.send(bytes(damaged))
        feed.next_seq += len(ticks)
        await takes(engine, FRAME_TICKS + 1, lambda: feed.send_good(FRAME_TICKS))
        assert (counted(engine)["gaps"], counted(engine)["lost_records"]) == (1, FRAME_TICKS)
        assert counted(engine)["frame_bad_crc"] == 1
        await assert_unharmed(engine, feed)

    blueprint, _ = live(tmp_path, scene)
    (recording,) = (tmp_path / "recordings").iterdir()
    replayed: list[str] = []
    result = play([recording], blueprint, Options(keep=lambda signal: replayed.append(signal.id)))
    assert (result.gaps, result.missing, result.bad_input) == (1, FRAME_TICKS, {})
    assert replayed == journaled_ids(tmp_path / "journal.db")


BAD_TICKS: list[tuple[TickKind, dict[str, Any], str]] = [
    (TickKind.TRADE, {"price": np.nan}, "nan"),
    (TickKind.TRADE, {"price": np.inf}, "nan"),
    (TickKind.TRADE, {"size": np.nan}, "nan"),
    (TickKind.TRADE, {"price": -1.0}, "negative"),
    (TickKind.TRADE, {"size": -1.0}, "negative"),
    (TickKind.TRADE, {"price": 0.0}, "zero_price"),
    (TickKind.TRADE, {"side": 5}, "unknown_side"),
    (TickKind.TRADE, {"instrument": 2}, "unknown_instrument"),
    (TickKind.TRADE, {"instrument": ALL_INSTRUMENTS}, "unknown_instrument"),
    (TickKind.TRADE, {"kind": 4}, "unknown_kind"),
    (TickKind.TRADE, {"kind": 255}, "unknown_kind"),
    (TickKind.TRADE, {"ts_event": 0}, "no_time"),
    (TickKind.TRADE, {"ts_event": 2**62}, "time_ahead"),
    (TickKind.QUOTE, {"bid": np.nan, "ask": np.nan}, "no_side"),
    (TickKind.QUOTE, {"ask": np.inf}, "nan"),
    (TickKind.QUOTE, {"bid": -5.0}, "negative"),
    (TickKind.QUOTE, {"bid_size": np.nan}, "nan"),
    (TickKind.QUOTE, {"ask": 0.0}, "zero_price"),
    (TickKind.QUOTE, {"instrument": 1_000_000}, "unknown_instrument"),
    (TickKind.HEARTBEAT, {"instrument": 0}, "unknown_instrument"),
]


def spoiled(ticks: Ticks, round_: int) -> tuple[Ticks, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Put every bad tick into the odd places of a frame; return which are left good."""
    good = np.ones(len(ticks), np.bool_)
    for index, (kind, fields, _) in enumerate(BAD_TICKS):
        row = 2 * index + round_ % 2
        ticks["kind"][row] = kind
        ticks["instrument"][row] = ALL_INSTRUMENTS if kind == TickKind.HEARTBEAT else 0
        for name, value in fields.items():
            ticks[name][row] = value
        good[row] = False
    return ticks, good


def test_bad_ticks_are_refused_by_reason_and_their_neighbours_are_not(tmp_path: Path) -> None:
    rounds = 6

    async def scene(engine: Engine, feed: HandFeed) -> None:
        for round_ in range(rounds):
            ticks, good = spoiled(feed.take(), round_)
            left = int(good.sum())
            await takes(engine, left, partial(feed.send_ticks, ticks, good))
        expected: dict[str, int] = {}
        for _, _, reason in BAD_TICKS:
            expected[f"refused_{reason}"] = expected.get(f"refused_{reason}", 0) + rounds
        assert counted(engine, "refused_") == expected
        assert "gaps" not in counted(engine)
        await assert_unharmed(engine, feed)

    blueprint, feed = live(tmp_path, scene)
    assert journaled_ids(tmp_path / "journal.db") == feed.expected_ids(blueprint)


def test_no_signal_comes_of_a_crossed_book_until_it_is_uncrossed(tmp_path: Path) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        crossing = feed.take(4)
        crossing["kind"], crossing["instrument"] = TickKind.QUOTE, [0, 1, 0, 1]
        crossing["bid"], crossing["ask"] = 101.0, 99.0
        await takes(engine, 4, lambda: feed.send_ticks(crossing))
        assert (engine.ingest.pipeline.kernel.state["m"]["flags"][:2] & TickFlag.CROSSED).all()
        signals = engine.ingest.pipeline.signals
        trades = feed.take(400)
        trades["kind"], trades["instrument"] = TickKind.TRADE, np.arange(400) % 2
        for at in range(0, 400, FRAME_TICKS):
            await takes(
                engine, FRAME_TICKS, partial(feed.send_ticks, trades[at : at + FRAME_TICKS])
            )
        assert engine.ingest.pipeline.signals == signals
        assert engine.ingest.pipeline.gate.refusals[Reason.DATA_CROSSED] > 20
        await assert_unharmed(engine, feed)

    live(tmp_path, scene)


def test_messages_of_any_length_from_a_stranger_cost_no_tick(tmp_path: Path) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        assert engine.link.receiver.endpoint
        with zmq.Context() as context, context.socket(zmq.PUSH) as stranger:
            stranger.linger = 0
            stranger.connect(engine.link.receiver.endpoint)
            for size in (3, 64, MAX_FRAME_BYTES):
                await asyncio.to_thread(stranger.send, random.Random(size).randbytes(size))
            await wait_until(lambda: sum(counted(engine, "frame_").values()) == 3)
            await asyncio.to_thread(stranger.send, bytes(MAX_FRAME_BYTES + 1))
            await asyncio.to_thread(stranger.send, bytes(20_000_000))
            dropped = engine.link.receiver
            await wait_until(lambda: dropped.disconnections > 0)
            await assert_unharmed(engine, feed)
        assert sum(counted(engine, "frame_").values()) == 3
        assert "gaps" not in counted(engine)

    live(tmp_path, scene)


def test_definitions_beyond_the_capacity_stay_unknown(tmp_path: Path) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        await feed.send(feed.definitions(market_instruments(6)[2:]))
        ticks = feed.take()
        ticks["kind"], ticks["instrument"] = TickKind.TRADE, np.arange(FRAME_TICKS) % 6
        known = ticks["instrument"] < 3
        await takes(engine, int(known.sum()), lambda: feed.send_ticks(ticks, known))
        assert counted(engine)["refused_unknown_instrument"] == np.sum(~known)
        await assert_unharmed(engine, feed)

    live(tmp_path, scene, engine={"max_instruments": 3})


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (instrument_row("OTHER.X", id=1), "another symbol"),
        (instrument_row("FAR.X", id=9), "no definition of instrument id 2"),
        (instrument_row("NEW.X", id=2**32 - 1), "ids go to"),
    ],
)
def test_definitions_that_contradict_halt_the_engine_and_say_why(
    tmp_path: Path, row: np.ndarray[Any, Any], told: str
) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        await feed.send(feed.definitions(row))
        pipeline = engine.ingest.pipeline
        await wait_until(lambda: pipeline.gate.state is RiskState.HALTED)
        signals = pipeline.signals
        await takes(engine, 200, lambda: feed.send_good(200))
        assert (pipeline.signals, engine.ingest.faults) == (signals, 0)
        assert Reason.RISK_HALTED in pipeline.gate.refusals
        assert any(told in problem for problem in engine.board.problems())

    live(tmp_path, scene)
    (recording,) = (tmp_path / "recordings").iterdir()
    assert verify(recording).ok


@pytest.mark.parametrize("field", ["symbol", "calendar"])
def test_definitions_that_are_no_text_halt_the_engine(tmp_path: Path, field: str) -> None:
    row = instrument_row("NEW.X", id=2)
    row[field] = b"\xff\xfe\x80"

    async def scene(engine: Engine, feed: HandFeed) -> None:
        await feed.send(feed.definitions(row))
        await wait_until(lambda: engine.ingest.pipeline.gate.state is RiskState.HALTED)
        await takes(engine, 200, lambda: feed.send_good(200))
        assert engine.ingest.faults == 0

    live(tmp_path, scene)


def test_raw_and_depth_frames_are_skipped(tmp_path: Path) -> None:
    async def scene(engine: Engine, feed: HandFeed) -> None:
        await feed.send(feed.frame(b'{"any": "thing"}', Schema.RAW))
        await assert_unharmed(engine, feed)
        assert counted(engine)["raw_frames"] == 1

    live(tmp_path, scene)
