"""The burst decoder against a twin that knows neither numba nor numpy, and case by case."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from frame_cases import (
    START_NS,
    decode_all,
    frame_of,
    lay_out,
    make_bars,
    make_instruments,
    make_ticks,
    tick_frame,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.frame_twin import FrameTwin

from engine.core.records import DEPTH5, Schema, TickFlag, TickKind
from feeds import burst_kernel
from feeds.burst import HELD, BurstDecoder, Counter, Gap, Segment


def flat(found: list[tuple[Segment, bytes, list[tuple[int, ...]]]]) -> list[tuple[int, bytes]]:
    """Cut segments into records, as the twin lists them."""
    records: list[tuple[int, bytes]] = []
    for segment, body, origins in found:
        schema = int(segment.schema)
        if schema == Schema.INSTRUMENTS:
            records.append((1, b""))
        size = len(body) // max(1, len(origins))
        records += [(schema, body[i * size : (i + 1) * size]) for i in range(len(origins))]
    return records


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Make messages in which almost anything that can go wrong does."""
    messages: list[bytes] = []
    seqs = {1: 1, 2: 5}
    epochs = {1: 7, 2: 7}
    for _ in range(draw(st.integers(1, 14))):
        gateway = draw(st.sampled_from([1, 1, 1, 2]))
        seqs[gateway] = max(1, seqs[gateway] + draw(st.sampled_from([0, 0, 0, 0, 2, -1, -3, 40])))
        epochs[gateway] += draw(st.sampled_from([0] * 8 + [1, -1]))
        schema = draw(st.sampled_from([2, 2, 2, 2, 3, 4, 6, 1]))
        count = draw(st.integers(1, 6))
        frame = frame_of(
            Schema(schema),
            odd_records(draw, schema, count),
            seqs[gateway],
            gateway=gateway,
            epoch=epochs[gateway],
            flags=draw(st.sampled_from([0, 0, 1])),
        )
        if schema in (2, 3, 4):
            seqs[gateway] += count
        messages.append(damaged(draw, frame))
    return messages


def odd_records(draw: st.DrawFn, schema: int, count: int) -> npt.NDArray[np.void] | bytes:
    if schema == Schema.RAW:
        return b"x" * count
    if schema == Schema.INSTRUMENTS:
        return make_instruments(count)
    if schema == Schema.DEPTH5:
        depth = np.zeros(count, DEPTH5)
        depth["ts_event"] = depth["ts_recv"] = START_NS
        return depth
    records = make_bars(count) if schema == Schema.BAR else make_ticks(count, first=draw(PLACES))
    for name, value in draw(st.lists(FAULTS, max_size=2)):
        if name in (records.dtype.names or ()):
            records[name][draw(st.integers(0, count - 1))] = value
    return records


PLACES = st.integers(0, 100)
FAULTS = st.sampled_from([
    ("price", math.nan), ("bid", 200.0), ("bid", math.nan), ("ask", math.inf), ("size", -1.0),
    ("ts_event", 0), ("ts_recv", -5), ("instrument", 9), ("kind", 77), ("bid", 101.0),
    ("high", 1.0), ("low", 0.0), ("close", math.nan), ("ts_event", 2**62),
])  # fmt: skip


def damaged(draw: st.DrawFn, frame: bytes) -> bytes:
    """Now and then flip a bit, cut the end off, or send something else altogether."""
    choice = draw(st.integers(0, 12))
    if choice == 0:
        bit = draw(st.integers(0, len(frame) * 8 - 1))
        broken = bytearray(frame)
        broken[bit // 8] ^= 1 << bit % 8
        return bytes(broken)
    if choice == 1:
        return frame[: draw(st.integers(0, len(frame) - 1))]
    return draw(st.binary(max_size=200)) if choice == 2 else frame


@settings(max_examples=300)
@given(streams())
def test_decoder_agrees_with_the_twin(messages: list[bytes]) -> None:
    decoder = BurstDecoder(2)
    found = decode_all(decoder, messages)
    twin = FrameTwin(2)
    for message in messages:
        twin.take(message)
    assert flat(found) == [(schema, body) for schema, body, _ in twin.delivered]
    origins = [origin for _, _, each in found for origin in each]
    assert origins == [origin for _, _, origin in twin.delivered if origin]
    assert decoder.count_by_name() == {name: n for name, n in twin.counts.items() if n}


@settings(max_examples=100)
@given(streams(), st.integers(0, 14))
def test_where_a_burst_ends_changes_nothing(messages: list[bytes], cut: int) -> None:
    whole, parts = BurstDecoder(2), BurstDecoder(2)
    expected = flat(decode_all(whole, messages))
    found = flat(decode_all(parts, messages[:cut])) + flat(decode_all(parts, messages[cut:]))
    assert found == expected
    assert parts.counters.tolist() == whole.counters.tolist()
    assert parts.take_gaps() == whole.take_gaps()


@settings(max_examples=15)
@given(streams())
def test_compiled_decoder_equals_its_python_self(messages: list[bytes]) -> None:
    compiled, plain = BurstDecoder(2), BurstDecoder(2)
    wire, offsets, lengths = lay_out(messages)
    words = wire.view(np.int64)
    at = 0
    while at < len(messages):
        arguments = (words, offsets, lengths, at, len(messages), 2)
        packed = burst_kernel.decode_nb(compiled._state, *arguments)
        assert burst_kernel._decode_burst_nb.py_func(plain._state, *arguments) == packed
        assert plain._state.tobytes() == compiled._state.tobytes()
        at += packed >> 32


def test_a_gap_is_counted_exactly_and_stands_before_the_next_record() -> None:
    decoder = BurstDecoder(2)
    [(segment, _, origins)] = decode_all(
        decoder, [tick_frame(make_ticks(2), 10), tick_frame(make_ticks(1, first=6), 17)]
    )
    assert (segment.schema, segment.count) == (Schema.TICK, 4)
    gap = decoder.ticks[2]
    assert (gap["kind"], gap["size"], gap["instrument"]) == (TickKind.GAP, 5, 0xFFFFFFFF)
    assert gap["ts_recv"] == decoder.ticks[3]["ts_recv"]
    assert [origin[1] for origin in origins] == [10, 11, 12, 17]
    assert decoder.take_gaps() == [Gap(1, 7, 12, 5)]
    assert decoder.take_gaps() == []
    assert decoder.counters[Counter.LOST_RECORDS] == 5


def test_a_repeated_frame_is_dropped_and_an_overlap_keeps_what_is_new() -> None:
    decoder = BurstDecoder(2)
    ticks = make_ticks(6)
    decode_all(decoder, [tick_frame(ticks[:4], 1)] * 3)
    [(segment, body, _)] = decode_all(decoder, [tick_frame(ticks, 1)])
    assert (segment.count, body) == (2, ticks[4:].tobytes())
    counts = decoder.count_by_name()
    assert (counts["duplicate_frames"], counts["duplicate_records"]) == (2, 12)
    assert "gaps" not in counts


def test_a_new_epoch_is_a_gap_of_what_is_known_lost_and_the_old_one_is_stale() -> None:
    decoder = BurstDecoder(2)
    frames = [
        tick_frame(make_ticks(2), 1),
        tick_frame(make_ticks(1), 1, epoch=6),
        tick_frame(make_ticks(1), 3),
        tick_frame(make_ticks(1), 5, epoch=8),
    ]
    [(_, _, origins)] = decode_all(decoder, frames)
    assert [(origin[0], origin[1]) for origin in origins] == [
        (7, 1), (7, 2), (6, 1), (6, 1), (8, 1), (8, 5),
    ]  # fmt: skip
    assert decoder.ticks["size"][[2, 4]].tolist() == [0.0, 4.0]
    counts = decoder.count_by_name()
    assert (counts["epoch_changes"], counts["stale_epoch_frames"]) == (2, 1)
    assert decoder.expected() == {1: (8, 6)}


def test_a_gap_before_bars_is_a_segment_of_its_own() -> None:
    decoder = BurstDecoder(2)
    bars = [frame_of(Schema.BAR, make_bars(2), seq) for seq in (1, 9)]
    found = decode_all(decoder, bars)
    assert [(s.schema, s.count, s.consumed) for s, _, _ in found] == [
        (Schema.BAR, 2, 1), (Schema.TICK, 1, 0), (Schema.BAR, 2, 1),
    ]  # fmt: skip


def test_definitions_are_handed_over_after_the_ticks_before_them() -> None:
    decoder = BurstDecoder(2)
    ticks = tick_frame(make_ticks(3), 1)
    table = frame_of(Schema.INSTRUMENTS, make_instruments(3), 4)
    found = decode_all(decoder, [ticks, table, table, tick_frame(make_ticks(1), 4)])
    assert [(s.schema, s.count, s.consumed) for s, _, _ in found] == [
        (Schema.TICK, 3, 1), (Schema.INSTRUMENTS, 1, 1), (Schema.INSTRUMENTS, 1, 1),
        (Schema.TICK, 1, 1),
    ]  # fmt: skip


def test_instruments_defined_later_are_known_from_then_on() -> None:
    decoder = BurstDecoder(0)
    frames = [tick_frame(make_ticks(1), seq) for seq in (1, 2)]
    decode_all(decoder, frames[:1])
    decoder.known_instruments = 1
    [(segment, _, _)] = decode_all(decoder, frames[1:])
    assert segment.count == 1
    assert decoder.count_by_name()["refused_unknown_instrument"] == 1


def test_a_segment_ends_before_its_room_does() -> None:
    decoder = BurstDecoder(2, capacity=257)
    frames = [tick_frame(make_ticks(100), 1 + 100 * i) for i in range(5)]
    found = decode_all(decoder, frames)
    assert [(s.count, s.consumed) for s, _, _ in found] == [(200, 2), (200, 2), (100, 1)]


def test_more_gateways_than_expected_are_refused_and_counted() -> None:
    decoder = BurstDecoder(2, max_gateways=2)
    decode_all(decoder, [tick_frame(make_ticks(1), 1, gateway=g) for g in (0, 5, 9)])
    assert decoder.count_by_name()["refused_stream_frames"] == 1
    assert decoder.expected() == {0: (7, 2), 5: (7, 2)}


def test_gaps_beyond_the_list_are_counted_and_still_delivered() -> None:
    decoder = BurstDecoder(2)
    found = decode_all(decoder, [tick_frame(make_ticks(1), 1 + 2 * i) for i in range(101)])
    assert sum(s.count for s, _, _ in found) == 201
    assert len(decoder.take_gaps()) == 64
    assert decoder.count_by_name()["gaps_not_listed"] == 36


def test_a_stream_goes_on_where_it_is_told_to() -> None:
    decoder = BurstDecoder(2)
    decoder.expect(1, 7, 5)
    [(segment, _, origins)] = decode_all(decoder, [tick_frame(make_ticks(8), 1)])
    assert (segment.count, origins[0][1]) == (4, 5)
    small = BurstDecoder(2, max_gateways=1)
    small.expect(1, 7, 5)
    with pytest.raises(ValueError, match="no room for gateway 2"):
        small.expect(2, 7, 1)


def test_books_are_flagged_whatever_the_gateway_said() -> None:
    ticks = make_ticks(2, first=1)
    ticks["bid"] = 102.0
    decoder = BurstDecoder(2)
    decode_all(decoder, [tick_frame(ticks, 1, flags=1)])
    assert decoder.ticks["flags"][:2].tolist() == [TickFlag.CROSSED | TickFlag.RESENT] * 2


def test_a_wire_of_bytes_or_a_writable_array_is_the_same_signature() -> None:
    decoder = BurstDecoder(2)
    wire, offsets, lengths = lay_out([tick_frame(make_ticks(1), 1)])
    decoder.decode(wire, offsets, lengths, 0, 1)
    signatures = len(burst_kernel.decode_nb.signatures)  # type: ignore[attr-defined] # numba's
    decoder.decode(np.frombuffer(wire.tobytes(), np.uint8), offsets, lengths, 0, 1)
    assert len(burst_kernel.decode_nb.signatures) == signatures  # type: ignore[attr-defined] # numba's


def test_too_small_a_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="must be above 256"):
        BurstDecoder(1, capacity=256)


def test_another_source_stamp_compiles_the_decoder_anew() -> None:
    one, other = burst_kernel.make_decoder(1), burst_kernel.make_decoder(2)
    cells = [d.py_func.__closure__[0].cell_contents for d in (one, other)]  # type: ignore[attr-defined] # numba's
    assert cells == [1, 2]
    assert burst_kernel.source_stamp() >= 0


def test_a_stream_told_to_hold_stops_before_a_gap_and_nothing_changes() -> None:
    decoder = BurstDecoder(2)
    decoder.hold(1, at_gaps=True)
    assert decoder.expected() == {}
    other = tick_frame(make_ticks(1), 9, gateway=2)
    messages = [tick_frame(make_ticks(2), 1), other, tick_frame(make_ticks(1), 5)]
    wire, offsets, lengths = lay_out(messages)
    assert decoder.decode(wire, offsets, lengths, 0, 3) == Segment(Schema.TICK, 3, 2)
    for _ in range(2):
        assert decoder.decode(wire, offsets, lengths, 2, 3) == Segment(HELD, 0, 0)
    assert decoder.expected() == {1: (7, 3), 2: (7, 10)}
    assert "gaps" not in decoder.count_by_name()
    decoder.hold(1, at_gaps=False)
    assert decoder.decode(wire, offsets, lengths, 2, 3) == Segment(Schema.TICK, 2, 1)
    assert decoder.take_gaps() == [Gap(1, 7, 3, 2)]


def test_a_new_epoch_is_held_too_and_what_was_skipped_before_it_is_consumed() -> None:
    decoder = BurstDecoder(2)
    decoder.expect(1, 7, 5)
    decoder.hold(1, at_gaps=True)
    old, new = tick_frame(make_ticks(2), 1), tick_frame(make_ticks(1), 1, epoch=8)
    wire, offsets, lengths = lay_out([old, new])
    assert decoder.decode(wire, offsets, lengths, 0, 2) == Segment(HELD, 0, 1)
    assert decoder.expected() == {1: (7, 5)}


@given(st.lists(st.integers(1, 12), max_size=30))
def test_holding_and_opening_by_hand_gives_what_opening_at_once_gives(firsts: list[int]) -> None:
    messages = [tick_frame(make_ticks(2), first) for first in firsts]
    wire, offsets, lengths = lay_out(messages)
    plain, holding = BurstDecoder(2), BurstDecoder(2)
    holding.hold(1, at_gaps=True)
    at = 0
    while at < len(messages):
        segment = holding.decode(wire, offsets, lengths, at, len(messages))
        at += segment.consumed
        if segment.schema == HELD:
            holding.hold(1, at_gaps=False)
            at += holding.decode(wire, offsets, lengths, at, at + 1).consumed
            holding.hold(1, at_gaps=True)
    decode_all(plain, messages)
    assert plain.counters.tolist() == holding.counters.tolist()
    assert plain.take_gaps() == holding.take_gaps()
    assert plain.expected() == holding.expected()
