from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feeds.importers.number_rows import CODE, HEX, RowParser, RowStatus, parse_lines_nb

STATUSES = {int(status) for status in RowStatus}


def parse_one(text: str, spec: int) -> int | None:
    rows = RowParser(spec).parse(text.encode() + b"\n")
    assert len(rows.status) == 1
    return int(rows.values[0, 0]) if rows.status[0] == RowStatus.GOOD else None


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=5, min_value=-(10**9), max_value=10**9
    )
)
def test_a_decimal_becomes_the_exact_scaled_integer(value: Decimal) -> None:
    assert parse_one(f"{value:f}", 8) == int(value * 10**8)


@given(st.integers(0, 16**15 - 1))
def test_a_mask_is_read_as_hexadecimal_in_either_case(value: int) -> None:
    assert parse_one(f"{value:x}", HEX) == value
    assert parse_one(f"{value:X}", HEX) == value


def test_zeros_after_the_kept_places_are_no_fault_but_other_digits_are() -> None:
    assert parse_one("1.2500", 2) == 125
    assert parse_one("1.251", 2) is None


def test_what_is_no_plain_number_is_refused() -> None:
    for text in (".", "-", "-.", "1e5", "+1", " 1", "1 ", "0x1", "nan", "1.2.3", "9" * 19, "--1"):
        assert parse_one(text, 4) is None, text


def test_numbers_may_begin_or_end_with_the_point() -> None:
    assert parse_one(".5", 1) == 5
    assert parse_one("5.", 1) == 50
    assert parse_one("-0.5", 1) == -5


def test_an_empty_mask_is_zero_and_an_empty_decimal_is_none() -> None:
    rows = RowParser(0, HEX).parse(b"7,\n,1\n")
    assert rows.status.tolist() == [RowStatus.GOOD, RowStatus.NOT_A_NUMBER]
    assert rows.values[0].tolist() == [7, 0]


def test_each_line_has_a_status_whatever_the_ones_before() -> None:
    rows = RowParser(0, CODE).parse(b"1,a\n\n2\r\n3,b,c\nx,y\r\n4,\xff\xfe\r\n5,z")
    assert [RowStatus(status).name for status in rows.status] == [
        "GOOD",
        "BLANK",
        "FIELD_COUNT",
        "FIELD_COUNT",
        "NOT_A_NUMBER",
        "GOOD",
        "GOOD",
    ]


@given(st.binary(max_size=400))
def test_garbage_never_raises_and_every_line_is_counted(text: bytes) -> None:
    rows = RowParser(6, 0, HEX, CODE).parse(text)
    lines = text.split(b"\n")
    assert len(rows.status) == len(lines) - (lines[-1] == b"")
    assert set(rows.status.tolist()) <= STATUSES


@given(st.text("0123456789.,-\nabcf", max_size=120))
def test_compiled_and_interpreted_parsers_agree(text: str) -> None:
    data = text.encode()
    rows = RowParser(3, HEX).parse(data)
    values, status = np.zeros_like(rows.values), np.zeros_like(rows.status)
    specs = np.array([3, HEX], np.int64)
    interpreted = getattr(parse_lines_nb, "py_func", parse_lines_nb)
    interpreted(np.frombuffer(data, np.uint8), specs, values, status)
    good = rows.status == RowStatus.GOOD
    np.testing.assert_array_equal(status, rows.status)
    np.testing.assert_array_equal(values[good], rows.values[good])
