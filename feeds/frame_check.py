"""Checks whole frames, compiled: header fields, length and CRC-32.

A cached kernel may call functions of its own file only, or an edit to the other file would go
unnoticed; for the same reason the wire's constants are repeated here, and a test holds them to
``engine.core.records``.
"""

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit


class FrameFault(IntEnum):
    """What is wrong with a message that should be a frame; the first that applies."""

    NONE = 0
    BAD_LENGTH = 1
    """Shorter than a header, or not as long as its header says."""
    BAD_MAGIC = 2
    BAD_VERSION = 3
    BAD_SCHEMA = 4
    BAD_FIELD = 5
    """A header field out of range."""
    BAD_CRC = 6


_RECORD_BYTES: Final = np.array([0, 112, 80, 160, 192, 352, 1], np.int64)
_MAX_RECORDS: Final = np.array([0, 365, 256, 256, 213, 116, 1 << 20], np.int64)
_MAGIC: Final = 0x3151_4548
_VERSION: Final = 1
_LOW: Final = 0xFFFF_FFFF
_ONE_TICK_BYTES: Final = 144
_MAX_NUMBER: Final = 1 << 62


def _crc_tables(rows: int) -> npt.NDArray[np.uint32]:
    """Make the table of row k: the CRC of one byte followed by k zero bytes."""
    tables = np.zeros((rows, 256), np.uint32)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB8_8320 if crc & 1 else 0)
        tables[0, byte] = crc
    for row in range(1, rows):
        tables[row] = (tables[row - 1] >> 8) ^ tables[0][tables[row - 1] & 0xFF]
    return tables


_T: Final = _crc_tables(32)
_OVER_TICK: Final = _crc_tables(80)[76:]
_S8: Final = np.uint64(8)
_S16: Final = np.uint64(16)
_S24: Final = np.uint64(24)
_S32: Final = np.uint64(32)
_S40: Final = np.uint64(40)
_S48: Final = np.uint64(48)
_S56: Final = np.uint64(56)


@njit(error_model="numpy", nogil=True, forceinline=True)
def _step4_nb(a, tables, row):  # type: ignore[no-untyped-def] # compiled
    """CRC of the four low bytes of ``a``, followed by ``row`` zero bytes."""
    return np.uint64(
        tables[row + 3, np.uint8(a)] ^ tables[row + 2, np.uint8(a >> _S8)]
        ^ tables[row + 1, np.uint8(a >> _S16)] ^ tables[row, np.uint8(a >> _S24)]
    )  # fmt: skip


@njit(error_model="numpy", nogil=True, forceinline=True)
def _step8_nb(a, row):  # type: ignore[no-untyped-def] # compiled
    """CRC of the eight bytes of ``a``, followed by ``row`` zero bytes."""
    return np.uint64(
        _T[row + 7, np.uint8(a)] ^ _T[row + 6, np.uint8(a >> _S8)]
        ^ _T[row + 5, np.uint8(a >> _S16)] ^ _T[row + 4, np.uint8(a >> _S24)]
        ^ _T[row + 3, np.uint8(a >> _S32)] ^ _T[row + 2, np.uint8(a >> _S40)]
        ^ _T[row + 1, np.uint8(a >> _S48)] ^ _T[row, np.uint8(a >> _S56)]
    )  # fmt: skip


@njit(error_model="numpy", nogil=True, forceinline=True)
def _step16_nb(words, i, c):  # type: ignore[no-untyped-def] # compiled
    """Advance a raw CRC over two words (slicing-by-16)."""
    return _step8_nb(words[i] ^ c, 8) ^ _step8_nb(words[i + 1], 0)


@njit(error_model="numpy", nogil=True, forceinline=True)
def crc_words_nb(words, start, stop, crc):  # type: ignore[no-untyped-def] # compiled
    """Advance a raw (inverted) CRC over whole u8 words.

    Long stretches go as four braided chains (Kadatch and Jenkins, 2010), which do not wait for
    each other; short ones by slicing-by-16 (Kounavis and Berry, 2005).
    """
    c = np.uint64(crc)
    i = start
    if stop - start >= 16:
        c1 = np.uint64(0)
        c2 = np.uint64(0)
        c3 = np.uint64(0)
        while i + 8 <= stop:
            c = _step8_nb(words[i] ^ c, 24)
            c1 = _step8_nb(words[i + 1] ^ c1, 24)
            c2 = _step8_nb(words[i + 2] ^ c2, 24)
            c3 = _step8_nb(words[i + 3] ^ c3, 24)
            i += 4
        c = _step8_nb(words[i] ^ c, 0)
        c = _step8_nb(words[i + 1] ^ c1 ^ c, 0)
        c = _step8_nb(words[i + 2] ^ c2 ^ c, 0)
        c = _step8_nb(words[i + 3] ^ c3 ^ c, 0)
        i += 4
    while i + 2 <= stop:
        c = _step16_nb(words, i, c)
        i += 2
    return _step8_nb(words[i] ^ c, 0) if i < stop else c


@njit(error_model="numpy", nogil=True, forceinline=True)
def _crc_one_tick_nb(words, base):  # type: ignore[no-untyped-def] # compiled
    """Raw CRC of a frame of one tick: header and record side by side, then put together.

    A CRC is linear: that of the header moved on over the record's 80 bytes, plus that of the
    record begun at zero, is that of both.
    """
    head = np.uint64(_LOW)
    body = np.uint64(0)
    for i in range(0, 6, 2):
        head = _step16_nb(words, base + i, head)
        body = _step16_nb(words, base + 8 + i, body)
    head = _step8_nb(words[base + 6] ^ head, 0)
    body = _step16_nb(words, base + 14, body)
    head = _step4_nb((words[base + 7] & np.uint64(_LOW)) ^ head, _T, 0)
    body = _step16_nb(words, base + 16, body)
    return _step4_nb(head, _OVER_TICK, 0) ^ body


@njit(error_model="numpy", cache=True, nogil=True)
def crc32_nb(buf, start, stop, crc):  # type: ignore[no-untyped-def] # compiled
    """Return zlib's CRC-32 of ``buf[start:stop]``, going on from ``crc`` (0 to begin).

    Args:
        buf: u1, shape (N,), its first byte at an address that is a multiple of 8.
        start: First byte.
        stop: One past the last byte.
        crc: CRC of what came before.
    """
    c = np.uint64(crc) ^ np.uint64(0xFFFF_FFFF)
    i = start
    while i < stop and i % 8 != 0:
        c = np.uint64(_T[0, np.uint8(c) ^ buf[i]]) ^ (c >> _S8)
        i += 1
    count = (stop - i) // 8
    words = buf[i : i + count * 8].view(np.uint64)
    c = np.uint64(crc_words_nb(words, 0, count, c))
    for k in range(i + count * 8, stop):
        c = np.uint64(_T[0, np.uint8(c) ^ buf[k]]) ^ (c >> _S8)
    return np.uint32(c ^ np.uint64(0xFFFF_FFFF))


@njit(error_model="numpy", nogil=True, forceinline=True)
def _crc_of_nb(words, base, length):  # type: ignore[no-untyped-def] # compiled
    """CRC that the header of the frame at word ``base`` should state."""
    if length == _ONE_TICK_BYTES:
        c = np.uint64(_crc_one_tick_nb(words, base))
    else:
        c = np.uint64(crc_words_nb(words, base, base + 7, np.uint64(_LOW)))
        c = np.uint64(_step4_nb((words[base + 7] & np.uint64(_LOW)) ^ c, _T, 0))
        c = np.uint64(crc_words_nb(words, base + 8, base + length // 8, c))
    return c ^ np.uint64(_LOW)


@njit(error_model="numpy", nogil=True, forceinline=True)
def _crc_ok_nb(words, base, length):  # type: ignore[no-untyped-def] # compiled
    """Whether the CRC of the frame at word ``base`` is the one its header states."""
    return np.uint64(_crc_of_nb(words, base, length)) == words[base + 7] >> _S32


@njit(error_model="numpy", nogil=True, forceinline=True)
def header_fault_nb(words, base, length):  # type: ignore[no-untyped-def] # compiled
    """Return the FrameFault: what is wrong with a header, 0 if nothing is.

    Args:
        words: i8, shape (N,): the buffer.
        base: Word where the frame begins.
        length: Bytes of the message, at least HEADER_BYTES.
    """
    first = words[base]
    if first & _LOW != _MAGIC:
        return 2
    if first >> 32 & 0xFFFF != _VERSION:
        return 3
    schema = first >> 48 & 0xFFFF
    if schema == 0 or schema >= len(_RECORD_BYTES):
        return 4
    count = words[base + 3] & _LOW
    size = words[base + 6] >> 32
    numbers = words[base + 1] | words[base + 2]
    if size != _RECORD_BYTES[schema] or numbers < 0 or numbers >= _MAX_NUMBER:
        return 5
    if count == 0 or count > _MAX_RECORDS[schema] or words[base + 7] & _LOW != 0:
        return 5
    return 0 if length == 64 + (count * size + 7) // 8 * 8 else 1


@njit(error_model="numpy", nogil=True, forceinline=True)
def frame_fault_nb(words, unsigned, offset, length):  # type: ignore[no-untyped-def] # compiled
    """Return the FrameFault: what is wrong with a message, 0 if it is a good frame.

    Args:
        words: i8, shape (N,): the buffer.
        unsigned: The same as u8.
        offset: First byte of the message.
        length: Bytes of the message.
    """
    if length < 64 or offset < 0 or offset % 8 != 0 or offset + length > len(words) * 8:
        return 1
    fault = header_fault_nb(words, offset // 8, length)
    if fault == 0 and not _crc_ok_nb(unsigned, offset // 8, length):
        fault = 6
    return fault


@njit(error_model="numpy", cache=True, nogil=True)
def frames_ok_nb(good, wire, offsets, lengths):  # type: ignore[no-untyped-def] # compiled
    """Check whole frames, CRC included.

    Args:
        good: u1, shape (N,), set to 1 where the frame is good, else 0.
        wire: u1, shape (bytes,).
        offsets: i8, shape (N,), multiples of 8.
        lengths: i8, shape (N,), bytes.
    """
    words = wire[: len(wire) // 8 * 8].view(np.int64)
    unsigned = words.view(np.uint64)
    for i in range(len(offsets)):
        good[i] = frame_fault_nb(words, unsigned, offsets[i], lengths[i]) == 0


@njit(error_model="numpy", nogil=True, forceinline=True)
def _stated_length_nb(words, at):  # type: ignore[no-untyped-def] # compiled
    """Return the length a plausible header at byte ``at`` states, 0 if there is none that fits."""
    base = at // 8
    if base + 8 > len(words) or words[base] & _LOW != _MAGIC:
        return 0
    length = 64 + ((words[base + 3] & _LOW) * (words[base + 6] >> 32) + 7) // 8 * 8
    if header_fault_nb(words, base, length) != 0 or at + length > len(words) * 8:
        return 0
    return length


@njit(error_model="numpy", nogil=True, forceinline=True)
def _last_received_nb(words, base, schema, count):  # type: ignore[no-untyped-def] # compiled
    """Receive time of a frame's last record; of the frame itself where records have none."""
    if schema == 2:
        return words[base + 8 + (count - 1) * 10 + 1]
    if schema == 3:
        return words[base + 8 + (count - 1) * 20 + 2]
    return words[base + 4]


@njit(error_model="numpy", cache=True, nogil=True)
def index_nb(rows, words, at):  # type: ignore[no-untyped-def] # compiled
    """List the frames that follow each other from byte ``at`` on; reads headers, not CRCs.

    Args:
        rows: i8, shape (N, 8), written: offset, length, schema, first number, records, epoch,
            gateway, receive time of the last record.
        words: i8, shape (bytes / 8,): the file.
        at: First byte, a multiple of 8.

    Returns:
        Frames listed, and the byte where the listing ended: at the end, at something that is no
        whole frame, or where ``rows`` was full.
    """
    count = 0
    while count < len(rows):
        length = _stated_length_nb(words, at)
        if length == 0:
            break
        base = at // 8
        row = rows[count]
        row[0] = at
        row[1] = length
        row[2] = words[base] >> 48 & 0xFFFF
        row[3] = words[base + 2]
        row[4] = words[base + 3] & _LOW
        row[5] = words[base + 1]
        row[6] = words[base + 6] & _LOW
        row[7] = _last_received_nb(words, base, row[2], row[4])
        count += 1
        at += length
    return count, at


@njit(error_model="numpy", cache=True, nogil=True)
def find_frame_nb(words, at):  # type: ignore[no-untyped-def] # compiled
    """Return the first byte, from ``at`` on in steps of 8, of a good whole frame; -1 if none.

    Args:
        words: i8, shape (bytes / 8,).
        at: First byte to look at, a multiple of 8.
    """
    unsigned = words.view(np.uint64)
    while at + 64 <= len(words) * 8:
        length = _stated_length_nb(words, at)
        if length != 0 and _crc_ok_nb(unsigned, at // 8, length):
            return at
        at += 8
    return -1


@njit(error_model="numpy", cache=True, nogil=True)
def flag_frames_nb(out, words, flag):  # type: ignore[no-untyped-def] # compiled
    """Copy the good ones of frames that follow each other, with a flag set and the CRC made anew.

    Args:
        out: u8, shape (N,), at least as long as ``words``; written.
        words: i8, shape (N,), frames one after the other.
        flag: FrameFlag.

    Returns:
        Words written.
    """
    unsigned = words.view(np.uint64)
    at = 0
    put = 0
    while True:
        length = _stated_length_nb(words, at)
        if length == 0:
            return put
        base = at // 8
        at += length
        if not _crc_ok_nb(unsigned, base, length):
            continue
        for k in range(length // 8):
            out[put + k] = unsigned[base + k]
        out[put + 3] |= np.uint64(flag) << _S32
        out[put + 7] &= np.uint64(_LOW)
        out[put + 7] |= np.uint64(_crc_of_nb(out, put, length)) << _S32
        put += length // 8
