"""Decodes a burst, compiled: frame checks, sequence, cleaning rules and the copy in one call.

Its functions call those of ``feeds.burst_layout``, ``feeds.frame_check`` and ``feeds.tick_check``,
which numba's cache does not see; so the entry point closes over a checksum of those sources, which
numba does put into its cache key: an edit to any of them compiles it anew.
"""

import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import config, njit, types

import feeds.burst_layout
import feeds.frame_check
import feeds.tick_check
from engine.core import records
from engine.core.records import BAR, TICK
from feeds.burst_layout import (
    BAR_WORDS,
    EPOCH,
    FRAME_FAULTS_AT,
    GAPS_LISTED,
    GATEWAY,
    HOLD,
    NEXT,
    ORIGIN,
    PREVIOUS,
    STREAM_COLUMNS,
    TICK_FAULTS_AT,
    TICK_WORDS,
    places_nb,
)
from feeds.frame_check import frame_fault_nb
from feeds.tick_check import bar_fault_nb, book_flags_nb, fault_nb

_FRAMES: Final = 0
_BYTES: Final = 1
_TICKS: Final = 2
_BARS: Final = 3
_DEFINITIONS: Final = 4
_RAW: Final = 5
_DEPTH: Final = 6
_DUPLICATE_FRAMES: Final = 7
_DUPLICATES: Final = 8
_GAPS: Final = 9
_LOST: Final = 10
_EPOCHS: Final = 11
_STALE: Final = 12
_REFUSED: Final = 13
_UNLISTED: Final = 14

_LOW: Final = 0xFFFF_FFFF
_ALL: Final = records.ALL_INSTRUMENTS
_AHEAD_NS: Final = feeds.tick_check.AHEAD_NS
_GAP_KIND: Final = 4
_RESEND: Final = 1
_RESENT: Final = 1024
_INSTRUMENTS_SCHEMA: Final = 1
_TICK_SCHEMA: Final = 2
_BAR_SCHEMA: Final = 3
_RAW_SCHEMA: Final = 6
_SKIP: Final = 1
_STOP: Final = 2
_HAND_OVER: Final = 3
HELD_SCHEMA: Final = 4
"""What the entry point returns for a schema where it stopped before a gap."""


@njit(error_model="numpy", nogil=True, forceinline=True)
def _stream_row_nb(streams, gateway):  # type: ignore[no-untyped-def] # compiled
    """Find a gateway's row, or take a free one; -1 if there is none."""
    for row in range(len(streams)):
        if streams[row, GATEWAY] == gateway + 1:
            return row
        if streams[row, GATEWAY] == 0:
            streams[row, GATEWAY] = gateway + 1
            streams[row, EPOCH] = -1
            streams[row, PREVIOUS] = -1
            return row
    return -1


@njit(error_model="numpy", nogil=True, forceinline=True)
def _put_origin_nb(origin, words, base, seq):  # type: ignore[no-untyped-def] # compiled
    origin["epoch"] = words[base + 1]
    origin["seq"] = seq
    origin["ts_intended"] = words[base + 5]
    origin["ts_send"] = words[base + 4]
    origin["gateway"] = words[base + 6] & _LOW


@njit(error_model="numpy", nogil=True, forceinline=True)
def _put_gap_nb(tick, words, base, lost):  # type: ignore[no-untyped-def] # compiled
    """Make the GAP tick before a frame, at the time of the frame's first record."""
    at = base + 9 if words[base] >> 48 & 0xFFFF == _BAR_SCHEMA else base + 8
    ts_event = words[at]
    ts_recv = words[at + 1]
    if ts_event <= 0 or ts_recv <= 0 or ts_event - ts_recv > _AHEAD_NS:
        ts_event = words[base + 4]
        ts_recv = words[base + 4]
    tick["ts_event"] = ts_event
    tick["ts_recv"] = ts_recv
    tick["price"] = np.nan
    tick["size"] = lost
    tick["turnover"] = 0.0
    tick["bid"] = np.nan
    tick["ask"] = np.nan
    tick["bid_size"] = 0.0
    tick["ask_size"] = 0.0
    tick["instrument"] = _ALL
    tick["kind"] = _GAP_KIND
    tick["side"] = 0
    tick["flags"] = 0


@njit(error_model="numpy", nogil=True, forceinline=True)
def _note_gap_nb(counters, gaps, words, base, first, lost):  # type: ignore[no-untyped-def] # compiled
    """Count a gap and list it while there is room; ``gaps[0, 0]`` is how many are listed."""
    counters[_GAPS] += 1
    counters[_LOST] += lost
    listed = gaps[0, 0]
    if listed + 1 >= len(gaps):
        counters[_UNLISTED] += 1
        return
    gaps[0, 0] = listed + 1
    gaps[listed + 1, 0] = words[base + 6] & _LOW
    gaps[listed + 1, 1] = words[base + 1]
    gaps[listed + 1, 2] = first
    gaps[listed + 1, 3] = lost


@njit(error_model="numpy", nogil=True, forceinline=True)
def _copy_ticks_nb(counters, origins, ticks, tick_words, count, words, base, skip, known):  # type: ignore[no-untyped-def] # compiled
    """Copy a frame's good ticks from record ``skip`` on; return the new count."""
    records = words[base + 3] & _LOW
    first = words[base + 2]
    resent = _RESENT if words[base + 3] >> 32 & _RESEND else 0
    for j in range(skip, records):
        for k in range(TICK_WORDS):
            tick_words[count * TICK_WORDS + k] = words[base + 8 + j * TICK_WORDS + k]
        fault = fault_nb(ticks[count], known)
        if fault != 0:
            counters[TICK_FAULTS_AT + fault] += 1
            continue
        counters[_TICKS] += 1
        ticks[count]["flags"] |= book_flags_nb(ticks[count]) | resent
        _put_origin_nb(origins[count], words, base, first + j)
        count += 1
    return count


@njit(error_model="numpy", nogil=True, forceinline=True)
def _copy_bars_nb(counters, origins, bars, bar_words, count, words, base, skip, known):  # type: ignore[no-untyped-def] # compiled
    """Copy a frame's good bars from record ``skip`` on; return the new count."""
    records = words[base + 3] & _LOW
    first = words[base + 2]
    for j in range(skip, records):
        for k in range(BAR_WORDS):
            bar_words[count * BAR_WORDS + k] = words[base + 8 + j * BAR_WORDS + k]
        fault = bar_fault_nb(bars[count], known)
        if fault != 0:
            counters[TICK_FAULTS_AT + fault] += 1
            continue
        counters[_BARS] += 1
        _put_origin_nb(origins[count], words, base, first + j)
        count += 1
    return count


@njit(error_model="numpy", nogil=True, forceinline=True)
def _sequence_nb(counters, streams, words, base):  # type: ignore[no-untyped-def] # compiled
    """Place a frame in its stream.

    Returns:
        The stream's row and the number it expects next; -1 and 0 if the frame is to be dropped.
        On an epoch change the expected number is 1 and the row's epoch is not the frame's yet.
    """
    row = _stream_row_nb(streams, words[base + 6] & _LOW)
    if row < 0:
        counters[_REFUSED] += 1
        return -1, 0
    epoch = words[base + 1]
    if streams[row, EPOCH] == epoch:
        return row, streams[row, NEXT]
    if streams[row, EPOCH] < 0:
        streams[row, EPOCH] = epoch
        streams[row, NEXT] = words[base + 2]
        return row, words[base + 2]
    if streams[row, PREVIOUS] == epoch:
        counters[_STALE] += 1
        return -1, 0
    return row, 1


@njit(error_model="numpy", nogil=True, forceinline=True)
def _open_gap_nb(counters, streams, gaps, origin, tick, words, base, row, expected):  # type: ignore[no-untyped-def] # compiled
    """Deliver a GAP tick, and let the stream expect the frame that came after the gap."""
    first = words[base + 2]
    epoch = words[base + 1]
    if streams[row, EPOCH] != epoch:
        streams[row, PREVIOUS] = streams[row, EPOCH]
        streams[row, EPOCH] = epoch
        counters[_EPOCHS] += 1
    streams[row, NEXT] = first
    _note_gap_nb(counters, gaps, words, base, expected, first - expected)
    _put_gap_nb(tick, words, base, first - expected)
    _put_origin_nb(origin, words, base, expected)


@njit(error_model="numpy", nogil=True, forceinline=True)
def _unsequenced_nb(counters, schema, count):  # type: ignore[no-untyped-def] # compiled
    """Say what to do with a frame without numbers; 0 if it has numbers."""
    if schema == _RAW_SCHEMA:
        counters[_RAW] += 1
        return _SKIP
    if schema != _INSTRUMENTS_SCHEMA:
        return 0
    if count > 0:
        return _STOP
    counters[_DEFINITIONS] += 1
    return _HAND_OVER


@njit(error_model="numpy", nogil=True, forceinline=True)
def _deliver_nb(  # type: ignore[no-untyped-def] # compiled
    counters,
    streams,
    gaps,
    origins,
    ticks,
    tick_words,
    bars,
    bar_words,
    words,
    base,
    kind,
    count,
    known,
):
    """Take in one sequenced frame; return the segment's schema, its count, and 1 if it is done.

    It is not done if the segment must end before it; its gap, if any, is done all the same, but
    for a stream that holds at gaps: there the segment ends, and the next one is HELD_SCHEMA.
    """
    schema = words[base] >> 48 & 0xFFFF
    size = words[base + 3] & _LOW
    first = words[base + 2]
    row, expected = _sequence_nb(counters, streams, words, base)
    if row < 0:
        return kind, count, 1
    if expected < first or streams[row, EPOCH] != words[base + 1]:
        if streams[row, HOLD] != 0:
            return kind if count > 0 else HELD_SCHEMA, count, 0
        if kind == _BAR_SCHEMA or count == len(ticks):
            return kind, count, 0
        _open_gap_nb(
            counters, streams, gaps, origins[count], ticks[count], words, base, row, expected
        )
        kind = _TICK_SCHEMA
        count += 1
        expected = first
    if expected >= first + size:
        counters[_DUPLICATE_FRAMES] += 1
        counters[_DUPLICATES] += size
        return kind, count, 1
    if schema > _BAR_SCHEMA:
        counters[_DEPTH] += first + size - expected
    elif count > 0 and (kind != schema or count + size > len(ticks)):
        return kind, count, 0
    counters[_DUPLICATES] += expected - first
    streams[row, NEXT] = first + size
    skip = expected - first
    if schema == _TICK_SCHEMA:
        kind = schema
        count = _copy_ticks_nb(
            counters, origins, ticks, tick_words, count, words, base, skip, known
        )
    elif schema == _BAR_SCHEMA:
        kind = schema
        count = _copy_bars_nb(counters, origins, bars, bar_words, count, words, base, skip, known)
    return kind, count, 1


@njit(error_model="numpy", nogil=True, forceinline=True)
def _decode_burst_nb(state, words, offsets, lengths, start, stop, known):  # type: ignore[no-untyped-def] # compiled
    unsigned = words.view(np.uint64)
    at, at_gaps, at_streams, at_origins, at_ticks, at_bars, end = places_nb(state[0], state[1])
    counters = state[at:at_gaps]
    gaps = state[at_gaps:at_streams].reshape((GAPS_LISTED + 1, 4))
    streams = state[at_streams:at_origins].reshape((state[1], STREAM_COLUMNS))
    origins = state[at_origins:at_ticks].view(ORIGIN)
    tick_words = state[at_ticks:at_bars]
    ticks = tick_words.view(TICK)
    bar_words = state[at_bars:end]
    bars = bar_words.view(BAR)
    count = 0
    kind = 0
    i = start
    while i < stop:
        fault = frame_fault_nb(words, unsigned, offsets[i], lengths[i])
        if fault != 0:
            counters[FRAME_FAULTS_AT + fault] += 1
            i += 1
            continue
        base = offsets[i] // 8
        todo = _unsequenced_nb(counters, words[base] >> 48 & 0xFFFF, count)
        done = todo != _STOP
        if todo == 0:
            kind, count, done = _deliver_nb(
                counters, streams, gaps, origins, ticks, tick_words, bars, bar_words, words, base,
                kind, count, known,
            )  # fmt: skip
        if not done:
            break
        counters[_FRAMES] += 1
        counters[_BYTES] += lengths[i]
        i += 1
        if todo == _HAND_OVER:
            kind = _INSTRUMENTS_SCHEMA
            count = 1
            break
    if count == 0 and kind != HELD_SCHEMA:
        kind = 0
    return kind | count << 8 | (i - start) << 32


def source_stamp() -> int:
    """Return a checksum of the sources that the decoder compiles and numba does not watch."""
    stamp = 0
    for module in (records, feeds.burst_layout, feeds.frame_check, feeds.tick_check):
        stamp = zlib.crc32(Path(str(module.__file__)).read_bytes(), stamp)
    return stamp


def make_decoder(stamp: int) -> Callable[..., Any]:
    """Make the compiled entry point, cached under its own source and ``stamp``."""

    @njit(error_model="numpy", cache=True, nogil=True)
    def decode_nb(state, words, offsets, lengths, start, stop, known):  # type: ignore[no-untyped-def] # compiled
        """Decode messages until the schema changes or there is no more room.

        Args:
            state: i8, shape (N,), laid out as ``places_nb`` says. Counters: see Counter. Gaps:
                row 0 holds how many are listed; then gateway, epoch, first missing number, how
                many. Streams: STREAM_COLUMNS. Origins stand beside ticks or bars.
            words: i8, shape (N,), read-only: where the messages lie.
            offsets: i8, shape (N,), first byte of each message, a multiple of 8.
            lengths: i8, shape (N,), bytes of each message.
            start: First message.
            stop: One past the last message.
            known: Instruments defined.

        Returns:
            schema | records << 8 | messages consumed << 32. Schema INSTRUMENTS: one frame, the
            last consumed. Zero messages consumed with a record: a GAP tick stands before bars.
            HELD_SCHEMA: the next message comes after a gap, and its stream holds there.
        """
        if stamp < 0:
            return 0
        return _decode_burst_nb(state, words, offsets, lengths, start, stop, known)

    return decode_nb


decode_nb: Final = make_decoder(source_stamp())


@cache
def decode_entry() -> Callable[..., int]:
    """Return the decoder's machine code past numba's dispatch, which checks no type again.

    Its arguments are those of ``decode_nb``; every array is contiguous.
    """
    if getattr(config, "DISABLE_JIT", 0):
        return decode_nb
    i8 = types.int64
    array, words = types.Array(i8, 1, "C"), types.Array(i8, 1, "C", readonly=True)
    kernel: Any = decode_nb
    kernel.compile((array, words, array, array, i8, i8, i8))
    entry: Callable[..., int] = next(iter(kernel.overloads.values())).entry_point
    return entry
