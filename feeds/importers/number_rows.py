"""Compiled parser of headerless CSV whose fields are numbers, hexadecimal masks or short codes.

Decimal fields come out as integers scaled by a fixed power of ten, so that times stay exact to the
nanosecond and a price is the correctly rounded quotient of two integers. No row can stop it: each
has a status, and its number tells its place.
"""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

HEX: Final = 32
"""Field specification: an unsigned hexadecimal mask of at most 15 digits; empty is 0."""
CODE: Final = 33
"""Field specification: text, not read. Numbers 0 to 15 mean a decimal with so many places kept."""
_BAD: Final = -(2**63)
_TOO_LONG: Final = 10**17
_NEWLINE: Final = 10
_COMMA: Final = 44


class RowStatus(IntEnum):
    """What a line was."""

    GOOD = 0
    BLANK = 1
    FIELD_COUNT = 2
    """More or fewer fields than the kind of file has."""
    NOT_A_NUMBER = 3
    """A field that is not a number, or has more digits than can be kept exactly."""


class ParsedRows(NamedTuple):
    """The lines of a block.

    Args:
        values: Scaled integers, shape (N, F), int64; undefined where the status is not GOOD.
        status: RowStatus of each line, shape (N,), uint8.
    """

    values: npt.NDArray[np.int64]
    status: npt.NDArray[np.uint8]


@njit(error_model="numpy", cache=True, nogil=True)
def _digits_nb(text, start, stop):  # type: ignore[no-untyped-def] # compiled
    """Return a run of decimal digits as a number (0 if empty), _BAD if it is not that."""
    value = np.int64(0)
    for i in range(start, stop):
        byte = np.int64(text[i])
        if byte < 48 or byte > 57 or value >= _TOO_LONG:
            return _BAD
        value = value * 10 + (byte - 48)
    return value


@njit(error_model="numpy", cache=True, nogil=True)
def _decimal_nb(text, start, stop, places):  # type: ignore[no-untyped-def] # compiled
    """Return ``text[start:stop]`` times 10**places, _BAD if it is not that exactly."""
    negative = start < stop and text[start] == 45
    if negative:
        start += 1
    point = start
    while point < stop and text[point] != 46:
        point += 1
    if stop - start == (1 if point < stop else 0):
        return _BAD
    after = min(point + 1, stop)
    while stop > after + places and text[stop - 1] == 48:
        stop -= 1
    whole = _digits_nb(text, start, point)
    part = _digits_nb(text, after, stop)
    if whole == _BAD or part == _BAD or stop - after > places:
        return _BAD
    scale = 10**places
    if whole >= _TOO_LONG * 10 // scale:
        return _BAD
    value = whole * scale + part * 10 ** (places - (stop - after))
    return -value if negative else value


@njit(error_model="numpy", cache=True, nogil=True)
def _hex_nb(text, start, stop):  # type: ignore[no-untyped-def] # compiled
    """Return a hexadecimal mask, 0 if empty, _BAD if it is none."""
    if stop - start > 15:
        return _BAD
    value = np.int64(0)
    for i in range(start, stop):
        byte = np.int64(text[i])
        letter = byte | 32
        if 48 <= byte <= 57:
            value = value * 16 + (byte - 48)
        elif 97 <= letter <= 102:
            value = value * 16 + (letter - 87)
        else:
            return _BAD
    return value


@njit(error_model="numpy", cache=True, nogil=True)
def _field_nb(text, start, stop, spec):  # type: ignore[no-untyped-def] # compiled
    if spec == CODE:
        return 0
    return _hex_nb(text, start, stop) if spec == HEX else _decimal_nb(text, start, stop, spec)


@njit(error_model="numpy", cache=True, nogil=True)
def _line_nb(text, start, stop, specs, out):  # type: ignore[no-untyped-def] # compiled
    """Parse one line, without its newline, into a row; return its RowStatus."""
    if stop > start and text[stop - 1] == 13:
        stop -= 1
    if stop == start:
        return 1
    field = 0
    begin = start
    status = 0
    for i in range(start, stop + 1):
        if i < stop and text[i] != _COMMA:
            continue
        if field == len(specs):
            return 2
        out[field] = _field_nb(text, begin, i, specs[field])
        if out[field] == _BAD:
            status = 3
        field += 1
        begin = i + 1
    return status if field == len(specs) else 2


@njit(error_model="numpy", cache=True, nogil=True)
def parse_lines_nb(text, specs, values, status):  # type: ignore[no-untyped-def] # compiled
    """Parse all lines of a text.

    Args:
        text: u1, shape (N,).
        specs: Field specifications, i8, shape (F,).
        values: Scaled integers, i8, shape (R, F), written.
        status: RowStatus, u1, shape (R,), written; R is the number of lines.
    """
    row = 0
    begin = 0
    for i in range(len(text)):
        if text[i] == _NEWLINE:
            status[row] = _line_nb(text, begin, i, specs, values[row])
            row += 1
            begin = i + 1
    if begin < len(text):
        status[row] = _line_nb(text, begin, len(text), specs, values[row])


class RowParser:
    """Parses blocks of lines of one fixed layout.

    Args:
        specs: One a field: 0 to 15 places of a decimal, HEX, or CODE.
    """

    __slots__ = ("_specs",)

    def __init__(self, *specs: int) -> None:
        self._specs = np.array(specs, np.int64)

    def parse(self, text: bytes) -> ParsedRows:
        """Parse the lines of a text, N of them; the last may lack its newline."""
        count = text.count(b"\n") + (not text.endswith(b"\n") if text else 0)
        values = np.zeros((count, len(self._specs)), np.int64)
        status = np.zeros(count, np.uint8)
        parse_lines_nb(np.frombuffer(text, np.uint8), self._specs, values, status)
        return ParsedRows(values, status)
