"""Ticks, frames and logs for tests of the wire and the log."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.core.records import (
    ALL_INSTRUMENTS,
    Bars,
    Instruments,
    Schema,
    TickKind,
    Ticks,
    empty_bars,
    empty_ticks,
    instrument_row,
)
from feeds.burst import BurstDecoder, Segment
from feeds.codec import encode_frame
from feeds.log_writer import LogWriter

START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000


def make_instruments(count: int = 2, prefix: str = "SYM") -> Instruments:
    """Make a table of instruments with dense ids."""
    return np.concatenate([instrument_row(f"{prefix}{i}.X", id=i) for i in range(count)])


def make_ticks(count: int, *, first: int = 0, instruments: int = 2) -> Ticks:
    """Make good ticks, a millisecond apart: trades, quotes, snapshots and heartbeats in turn."""
    ticks = empty_ticks(count)
    place = np.arange(first, first + count)
    ticks["ts_event"] = ticks["ts_recv"] = START_NS + place * STEP_NS
    ticks["kind"] = np.array([1, 2, 3, 0])[place % 4]
    ticks["instrument"] = np.where(ticks["kind"] == 0, ALL_INSTRUMENTS, place % instruments)
    priced = np.isin(ticks["kind"], [TickKind.TRADE, TickKind.SNAPSHOT])
    booked = np.isin(ticks["kind"], [TickKind.QUOTE, TickKind.SNAPSHOT])
    ticks["price"][priced] = 100.0 + place[priced] % 7
    ticks["size"][priced] = 1.0 + place[priced] % 3
    ticks["turnover"] = np.where(priced, ticks["price"] * ticks["size"], 0.0)
    ticks["side"][priced] = place[priced] % 3 - 1
    ticks["bid"][booked] = 99.0
    ticks["ask"][booked] = 101.0
    ticks["bid_size"][booked] = ticks["ask_size"][booked] = 5.0
    return ticks


def make_bars(count: int) -> Bars:
    """Make good bars of instrument 0."""
    bars = empty_bars(count)
    bars["ts_event"] = bars["ts_recv"] = START_NS + np.arange(count) * STEP_NS
    bars["open"] = bars["close"] = 10.0
    bars["high"], bars["low"] = 11.0, 9.0
    return bars


def tick_frame(ticks: Ticks, first_seq: int, **fields: int) -> bytes:
    """Encode a TICK frame of gateway 1, epoch 7, unless told otherwise."""
    return frame_of(Schema.TICK, ticks, first_seq, **fields)


def frame_of(
    schema: Schema, records: npt.NDArray[Any] | bytes, first_seq: int, **fields: int
) -> bytes:
    """Encode a frame of gateway 1, epoch 7, unless told otherwise."""
    return encode_frame(
        schema, records, **{"gateway": 1, "epoch": 7, "ts_send": START_NS} | fields,
        first_seq=first_seq,
    )  # fmt: skip


def lay_out(
    messages: list[bytes],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Lay messages in one buffer, each at a multiple of 8; return buffer, offsets, lengths."""
    lengths = np.array([len(message) for message in messages], np.int64)
    places = np.concatenate([[0], np.cumsum((lengths + 7) // 8 * 8)]).astype(np.int64)
    wire = np.zeros(int(places[-1]) + 64, np.uint8)
    for at, message in zip(places.tolist(), messages, strict=False):
        wire[at : at + len(message)] = np.frombuffer(message, np.uint8)
    return wire, places[:-1], lengths


def decode_all(
    decoder: BurstDecoder, messages: list[bytes]
) -> list[tuple[Segment, bytes, list[tuple[int, ...]]]]:
    """Decode messages to the end: each segment, its records' bytes and their origins."""
    wire, offsets, lengths = lay_out(messages)
    found = []
    at = 0
    while at < len(messages):
        segment = decoder.decode(wire, offsets, lengths, at, len(messages))
        at += segment.consumed
        records = decoder.bars if segment.schema == Schema.BAR else decoder.ticks
        count = 0 if segment.schema == Schema.INSTRUMENTS else segment.count
        found.append((segment, records[:count].tobytes(), decoder.origins[:count].tolist()))
    return found


def write_log(
    path: Path, ticks: Ticks, *, instruments: Instruments | None = None, **how: Any
) -> Path:
    """Write a log of ticks, epoch 7."""
    table = make_instruments() if instruments is None else instruments
    with LogWriter(path, table, **{"epoch": 7} | how) as writer:
        writer.write_ticks(ticks)
    return path
