"""Frames to bytes and back, one at a time: for tools, writers and the control channel.

A frame is a header of 64 bytes and ``count`` records (``engine.core.records``). Every frame is a
multiple of 8 bytes: the payload of a RAW frame is padded with zeros, and the CRC covers the
padding. Bursts are decoded by ``feeds.burst``.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import FrameError
from engine.core.records import (
    HEADER_BYTES,
    INSTRUMENT,
    MAGIC,
    MAX_FRAME_BYTES,
    MAX_FRAME_RECORDS,
    MAX_INSTRUMENTS,
    MAX_RAW_BYTES,
    RECORD_DTYPES,
    SEQUENCED,
    VERSION,
    Instruments,
    Schema,
)
from feeds.frame_check import crc32_nb

__all__ = [
    "MAX_FRAME_INSTRUMENTS",
    "Frame",
    "crc32_nb",
    "decode_frame",
    "decode_instruments",
    "encode_frame",
    "encode_instruments",
    "frame_length",
    "iter_frames",
    "max_records",
    "merge_instruments",
]

Buffer = bytes | bytearray | memoryview

_HEADER: Final = struct.Struct("<IHHQQIIqqIHHI")
_CRC: Final = struct.Struct("<I")
_CRC_AT: Final = HEADER_BYTES - 4
_ASCII: Final = 127
MAX_SEQ: Final = 1 << 62
"""Epochs and sequence numbers stay below this."""
MAX_FRAME_INSTRUMENTS: Final = (MAX_FRAME_BYTES - HEADER_BYTES) // INSTRUMENT.itemsize
"""Most definitions in one INSTRUMENTS frame; longer tables take several frames."""


class Frame(NamedTuple):
    """One decoded frame; ``records`` is a read-only view into the buffer it came from."""

    schema: Schema
    epoch: int
    first_seq: int
    flags: int
    ts_send: int
    ts_intended: int
    gateway: int
    records: npt.NDArray[Any]
    length: int
    """Bytes, header and padding included."""


def max_records(schema: Schema) -> int:
    """Return the most records one frame of this schema may hold."""
    if schema is Schema.RAW:
        return MAX_RAW_BYTES
    fitting = (MAX_FRAME_BYTES - HEADER_BYTES) // RECORD_DTYPES[schema].itemsize
    return min(fitting, MAX_FRAME_RECORDS) if schema in SEQUENCED else fitting


def encode_frame(
    schema: Schema,
    records: npt.NDArray[Any] | bytes,
    *,
    gateway: int,
    epoch: int,
    first_seq: int,
    ts_send: int,
    ts_intended: int | None = None,
    flags: int = 0,
) -> bytes:
    """Make one frame.

    Args:
        schema: What the records are.
        records: An array of the schema's dtype, shape (N,), or bytes for RAW.
        gateway: The gateway's id, 32 bits.
        epoch: The stream epoch.
        first_seq: Sequence number of the first record; of the next sequenced record for a schema
            that consumes none.
        ts_send: Wall clock when it leaves, ns.
        ts_intended: When it should have left, ns; ``ts_send`` by default.
        flags: FrameFlag.

    Raises:
        FrameError: no records, or more than one frame may hold.
    """
    body = records if isinstance(records, bytes) else records.tobytes()
    size = RECORD_DTYPES[schema].itemsize
    count = len(body) // size
    if not 0 < count <= max_records(schema) or len(body) % size:
        raise FrameError(
            f"a {schema.name} frame holds 1 to {max_records(schema)} records of {size} bytes, "
            f"found {len(body)} bytes"
        )
    body += bytes(-len(body) % 8)
    intended = ts_send if ts_intended is None else ts_intended
    head = bytearray(HEADER_BYTES)
    _HEADER.pack_into(
        head, 0, MAGIC, VERSION, schema, epoch, first_seq, count, flags, ts_send, intended,
        gateway, size, 0, 0,
    )  # fmt: skip
    crc = zlib.crc32(body, zlib.crc32(memoryview(head)[:_CRC_AT]))
    _CRC.pack_into(head, _CRC_AT, crc)
    return bytes(head) + body


def frame_length(buffer: Buffer, offset: int = 0) -> int:
    """Return the length in bytes that the header at ``offset`` states; checks all but the CRC.

    Raises:
        FrameError: no whole header, or one that is not of this version.
    """
    return _read_header(buffer, offset)[-1]


def decode_frame(buffer: Buffer, offset: int = 0) -> Frame:
    """Read the frame at ``offset``; its records are a view, not a copy.

    Raises:
        FrameError: truncated, damaged, or of an unknown schema or version.
    """
    fields, schema, length = _read_header(buffer, offset)
    (_, _, _, epoch, first_seq, count, flags, ts_send, ts_intended, gateway, *_) = fields
    view = memoryview(buffer).cast("B")[offset : offset + length]
    if len(view) < length:
        raise FrameError(f"truncated: {len(view)} bytes of a frame of {length}", offset)
    crc = zlib.crc32(view[HEADER_BYTES:], zlib.crc32(view[:_CRC_AT]))
    (stated,) = _CRC.unpack_from(view, _CRC_AT)
    if crc != stated:
        raise FrameError(f"CRC is {crc:08x}, header says {stated:08x}", offset)
    records = np.frombuffer(view, RECORD_DTYPES[schema], count, HEADER_BYTES)
    records.flags.writeable = False
    return Frame(schema, epoch, first_seq, flags, ts_send, ts_intended, gateway, records, length)


def _read_header(buffer: Buffer, offset: int) -> tuple[tuple[int, ...], Schema, int]:
    if len(buffer) - offset < HEADER_BYTES:
        raise FrameError(
            f"truncated: {len(buffer) - offset} bytes, a header has {HEADER_BYTES}", offset
        )
    fields = _HEADER.unpack_from(buffer, offset)
    magic, version, number, epoch, first_seq, count, *_, size, reserved, padding = fields
    if magic != MAGIC:
        raise FrameError(f"magic is {magic:#010x}, not {MAGIC:#010x}", offset)
    if version != VERSION:
        raise FrameError(f"version {version} is unknown, this program reads {VERSION}", offset)
    try:
        schema = Schema(number)
    except ValueError:
        raise FrameError(f"schema {number} is unknown", offset) from None
    if size != RECORD_DTYPES[schema].itemsize:
        raise FrameError(
            f"{schema.name} records of {size} bytes, not {RECORD_DTYPES[schema].itemsize}", offset
        )
    if not 0 < count <= max_records(schema):
        raise FrameError(f"{count} records, a {schema.name} frame has 1 to "
                         f"{max_records(schema)}", offset)  # fmt: skip
    if max(epoch, first_seq) >= MAX_SEQ or reserved or padding:
        raise FrameError("header fields out of range", offset)
    return fields, schema, HEADER_BYTES + (count * size + 7) // 8 * 8


def iter_frames(buffer: Buffer) -> Iterator[Frame]:
    """Yield the frames that lie one after the other in a buffer.

    Raises:
        FrameError: at the first that is truncated or damaged.
    """
    offset = 0
    while offset < len(buffer):
        frame = decode_frame(buffer, offset)
        yield frame
        offset += frame.length


def encode_instruments(
    instruments: Instruments, *, gateway: int, epoch: int, next_seq: int, ts_send: int
) -> list[bytes]:
    """Make the INSTRUMENTS frames, one or more, that define a table.

    Args:
        instruments: INSTRUMENT, shape (I,), I >= 1.
        gateway: The gateway's id.
        epoch: The stream epoch.
        next_seq: Sequence number of the next sequenced record.
        ts_send: Wall clock, ns.
    """
    return [
        encode_frame(
            Schema.INSTRUMENTS,
            instruments[at : at + MAX_FRAME_INSTRUMENTS],
            gateway=gateway,
            epoch=epoch,
            first_seq=next_seq,
            ts_send=ts_send,
        )
        for at in range(0, len(instruments), MAX_FRAME_INSTRUMENTS)
    ]


def decode_instruments(buffer: Buffer) -> Instruments:
    """Read a table from its INSTRUMENTS frames, lying one after the other.

    Raises:
        FrameError: a frame is damaged or of another schema, or ids are not dense from 0.
    """
    table = np.zeros(0, INSTRUMENT)
    for frame in iter_frames(buffer):
        if frame.schema is not Schema.INSTRUMENTS:
            raise FrameError(f"a {frame.schema.name} frame among definitions")
        table = merge_instruments(table, frame.records)
    return table


def merge_instruments(known: Instruments, rows: Instruments) -> Instruments:
    """Return the table with definitions added or replaced by id; the arguments stay as they are.

    Args:
        known: INSTRUMENT, shape (I,), ordered by id from 0.
        rows: INSTRUMENT, shape (N,), in any order.

    Raises:
        FrameError: an id leaves a hole or is beyond MAX_INSTRUMENTS, a known id would change its
            symbol, or a symbol or calendar is not ASCII.
    """
    for name in ("symbol", "calendar"):
        if np.ascontiguousarray(rows[name]).view(np.uint8).max(initial=0) > _ASCII:
            raise FrameError(f"a definition whose {name} is not ASCII text")
    size = max(len(known), int(rows["id"].max(initial=0)) + 1) if len(rows) else len(known)
    if size > MAX_INSTRUMENTS:
        raise FrameError(f"instrument id {size - 1}, ids go to {MAX_INSTRUMENTS - 1}")
    table = np.zeros(size, INSTRUMENT)
    table[: len(known)] = known
    table[rows["id"]] = rows
    if not np.array_equal(table["symbol"][: len(known)], known["symbol"]):
        raise FrameError("a definition gives a known instrument id another symbol")
    missing = np.flatnonzero(table["symbol"] == b"")
    if len(missing):
        raise FrameError(f"no definition of instrument id {int(missing[0])}, ids are dense from 0")
    return table
