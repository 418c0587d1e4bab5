"""Frame checks, compiled, against zlib and against their Python selves."""

import zlib

import numpy as np
import pytest
from frame_cases import frame_of, lay_out, make_ticks, tick_frame
from hypothesis import given
from hypothesis import strategies as st

from engine.core import records
from engine.core.records import RECORD_DTYPES, Schema
from feeds import frame_check, tick_check
from feeds.codec import MAX_SEQ, max_records
from feeds.frame_check import FrameFault, crc32_nb, frame_fault_nb, frames_ok_nb


@given(data=st.binary(max_size=700), start=st.integers(0, 20), crc=st.integers(0, 2**32 - 1))
def test_crc_is_zlibs(data: bytes, start: int, crc: int) -> None:
    buffer = np.frombuffer(bytes(start) + data, np.uint8)
    assert crc32_nb(buffer, start, len(buffer), crc) == zlib.crc32(data, crc)


@given(data=st.binary(max_size=300), crc=st.integers(0, 2**32 - 1))
def test_compiled_crc_equals_its_python_self(data: bytes, crc: int) -> None:
    buffer = np.frombuffer(data, np.uint8)
    assert crc32_nb(buffer, 0, len(data), crc) == crc32_nb.py_func(buffer, 0, len(data), crc)


@pytest.mark.parametrize("count", [1, 2, 3, 17, 256])
def test_frames_of_any_length_pass(count: int) -> None:
    wire, offsets, lengths = lay_out([tick_frame(make_ticks(count), 1)] * 3)
    good = np.zeros(3, np.uint8)
    frames_ok_nb(good, wire, offsets, lengths)
    assert good.tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [1, 2])
def test_every_flipped_bit_is_refused(count: int) -> None:
    frame = tick_frame(make_ticks(count), 1)
    wire, offsets, lengths = lay_out([frame])
    good = np.zeros(1, np.uint8)
    for bit in range(len(frame) * 8):
        wire[bit // 8] ^= 1 << bit % 8
        frames_ok_nb(good, wire, offsets, lengths)
        assert not good[0], f"bit {bit}"
        wire[bit // 8] ^= 1 << bit % 8
    frames_ok_nb(good, wire, offsets, lengths)
    assert good[0]


@given(place=st.integers(0, 64 + 3 * 80 - 1), value=st.integers(0, 255))
def test_compiled_check_equals_its_python_self(place: int, value: int) -> None:
    wire, _, lengths = lay_out([tick_frame(make_ticks(3), 1)])
    wire[place] = value
    words = wire.view(np.int64)
    with np.errstate(over="ignore"):
        expected = frame_fault_nb.py_func(words, words.view(np.uint64), 0, lengths[0])
    assert frame_fault_nb(words, words.view(np.uint64), 0, lengths[0]) == expected


def test_unaligned_short_and_overlong_messages_are_refused() -> None:
    wire, _, _ = lay_out([tick_frame(make_ticks(1), 1)])
    words = wire.view(np.int64)
    for offset, length in ((4, 144), (0, 63), (0, 0), (-8, 144), (0, 152), (0, 1 << 40)):
        fault = frame_fault_nb(words, words.view(np.uint64), offset, length)
        assert fault == FrameFault.BAD_LENGTH


def test_constants_are_those_of_the_records() -> None:
    assert frame_check._MAGIC == records.MAGIC
    assert frame_check._VERSION == records.VERSION
    assert frame_check._MAX_NUMBER == MAX_SEQ
    assert len(frame_of(Schema.TICK, make_ticks(1), 1)) == frame_check._ONE_TICK_BYTES
    for schema, dtype in RECORD_DTYPES.items():
        assert frame_check._RECORD_BYTES[schema] == dtype.itemsize
        assert frame_check._MAX_RECORDS[schema] == max_records(schema)
    assert tick_check.ALL == records.ALL_INSTRUMENTS
    for kind in ("HEARTBEAT", "TRADE", "QUOTE", "SNAPSHOT"):
        assert getattr(tick_check, kind) == records.TickKind[kind]
    for flag in ("CROSSED", "LOCKED", "ONE_SIDED", "TIME_BACK", "NO_SIZE"):
        assert getattr(tick_check, flag) == records.TickFlag[flag]
