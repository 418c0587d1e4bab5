"""Frames one at a time: round trips, and every way in which bytes are not a frame."""

import struct
import zlib

import numpy as np
import pytest
from frame_cases import frame_of, make_bars, make_instruments, make_ticks, tick_frame
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import FrameError
from engine.core.records import (
    DEPTH10,
    HEADER_BYTES,
    MAX_FRAME_RECORDS,
    MAX_RAW_BYTES,
    RECORD_DTYPES,
    Schema,
)
from feeds.codec import (
    MAX_FRAME_INSTRUMENTS,
    decode_frame,
    decode_instruments,
    encode_frame,
    encode_instruments,
    frame_length,
    iter_frames,
    max_records,
    merge_instruments,
)


def sealed(frame: bytes) -> bytes:
    """Give a frame the CRC of what it now holds."""
    crc = zlib.crc32(frame[:60] + frame[64:])
    return frame[:60] + struct.pack("<I", crc) + frame[64:]


@given(count=st.integers(1, MAX_FRAME_RECORDS), seq=st.integers(0, 2**62 - 1))
def test_a_decoded_frame_is_what_was_encoded(count: int, seq: int) -> None:
    ticks = make_ticks(count)
    encoded = encode_frame(
        Schema.TICK, ticks, gateway=3, epoch=9, first_seq=seq, ts_send=5, ts_intended=4, flags=1
    )
    frame = decode_frame(encoded)
    assert frame.records.tobytes() == ticks.tobytes()
    assert frame[:7] == (Schema.TICK, 9, seq, 1, 5, 4, 3)
    assert frame.length == len(encoded) == frame_length(encoded)


@pytest.mark.parametrize("schema", list(Schema))
def test_every_schema_goes_through_and_is_a_multiple_of_eight(schema: Schema) -> None:
    records = np.zeros(3, RECORD_DTYPES[schema])
    encoded = frame_of(schema, records, 1)
    frame = decode_frame(encoded)
    assert frame.schema is schema
    assert frame.records.tobytes() == records.tobytes()
    assert len(encoded) % 8 == 0


def test_a_decoded_frame_cannot_be_written_to() -> None:
    frame = decode_frame(bytearray(tick_frame(make_ticks(1), 1)))
    with pytest.raises(ValueError, match="read-only"):
        frame.records["price"] = 0.0


@pytest.mark.parametrize("schema", list(Schema))
def test_more_records_than_a_frame_may_hold_are_refused(schema: Schema) -> None:
    for count in (0, max_records(schema) + 1):
        with pytest.raises(FrameError, match="holds 1 to"):
            frame_of(schema, np.zeros(count, RECORD_DTYPES[schema]), 1)


def test_depth_frames_are_no_longer_than_any_other() -> None:
    longest = frame_of(Schema.DEPTH10, np.zeros(max_records(Schema.DEPTH10), DEPTH10), 1)
    assert len(longest) <= len(tick_frame(make_ticks(256), 1)) * 2
    assert len(frame_of(Schema.BAR, make_bars(256), 1)) >= len(longest)
    assert max_records(Schema.RAW) == MAX_RAW_BYTES


@given(cut=st.integers(0, HEADER_BYTES + 160 - 1))
def test_a_truncated_frame_is_an_error_with_its_offset(cut: int) -> None:
    whole = tick_frame(make_ticks(2), 1)
    with pytest.raises(FrameError, match="truncated") as caught:
        decode_frame(whole + whole[:cut], len(whole))
    assert caught.value.offset == len(whole)


@given(bit=st.integers(0, (HEADER_BYTES + 80) * 8 - 1))
def test_a_flipped_bit_is_an_error(bit: int) -> None:
    frame = bytearray(tick_frame(make_ticks(1), 1))
    frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameError):
        decode_frame(frame)


@pytest.mark.parametrize(
    ("at", "layout", "value", "message"),
    [
        (0, "<I", 0x31514549, "magic"),
        (4, "<H", 2, "version 2 is unknown"),
        (6, "<H", 99, "schema 99 is unknown"),
        (8, "<Q", 2**62, "out of range"),
        (16, "<Q", 2**62, "out of range"),
        (24, "<I", 0, "0 records"),
        (24, "<I", 257, "257 records"),
        (52, "<H", 81, "records of 81 bytes"),
        (54, "<H", 1, "out of range"),
        (56, "<I", 1, "out of range"),
    ],
)
def test_a_wrong_header_field_is_named(at: int, layout: str, value: int, message: str) -> None:
    frame = bytearray(tick_frame(make_ticks(1), 1))
    struct.pack_into(layout, frame, at, value)
    with pytest.raises(FrameError, match=message):
        decode_frame(sealed(bytes(frame)))


@given(garbage=st.binary(max_size=300))
def test_garbage_is_an_error_and_nothing_else(garbage: bytes) -> None:
    with pytest.raises(FrameError):
        decode_frame(garbage)


def test_frames_one_after_the_other_are_all_found() -> None:
    frames = [tick_frame(make_ticks(n), n) for n in (1, 2, 3)]
    raw = frame_of(Schema.RAW, b"abc", 4)
    found = list(iter_frames(b"".join(frames) + raw))
    assert [len(frame.records) for frame in found] == [1, 2, 3, 3]
    assert found[-1].records.tobytes() == b"abc"


def test_a_long_table_takes_several_frames_and_comes_back_whole() -> None:
    table = make_instruments(MAX_FRAME_INSTRUMENTS * 2 + 1)
    frames = encode_instruments(table, gateway=1, epoch=1, next_seq=1, ts_send=1)
    assert len(frames) == 3
    assert decode_instruments(b"".join(frames)).tobytes() == table.tobytes()


def test_definitions_are_replaced_and_added_by_id() -> None:
    known = make_instruments(2)
    rows = make_instruments(3)[1:]
    rows["pre_close"] = 5.0
    table = merge_instruments(known, rows)
    assert table["id"].tolist() == [0, 1, 2]
    assert np.isnan(table["pre_close"][0])
    assert table["pre_close"][1:].tolist() == [5.0, 5.0]
    assert len(known) == 2


def test_definitions_with_holes_or_changed_symbols_are_refused() -> None:
    known = make_instruments(1)
    with pytest.raises(FrameError, match="no definition of instrument id 1"):
        merge_instruments(known, make_instruments(3)[2:])
    with pytest.raises(FrameError, match="another symbol"):
        merge_instruments(known, make_instruments(1, prefix="OTHER"))
    far = make_instruments(1)
    far["id"] = 65_536
    with pytest.raises(FrameError, match="ids go to 65535"):
        merge_instruments(known, far)
    with pytest.raises(FrameError, match="TICK frame among"):
        decode_instruments(tick_frame(make_ticks(1), 1))
