"""Log lines never make anybody wait."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator

import pytest

from engine.bounded_log import BoundedHandler

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def record(text: object, *args: object) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, __file__, 1, text, args, None)


def test_lines_come_out_in_order_and_the_last_ones_at_the_end(pipe: Pipe) -> None:
    reader, writer = pipe
    handler = BoundedHandler(writer)
    for number in range(50):
        handler.emit(record("line %d", number))
    handler.close()
    assert os.read(reader, 65_536).decode().split("\n") == [*(f"line {n}" for n in range(50)), ""]
    assert (handler.dropped, handler.failures) == (0, 0)


def test_a_reader_that_hangs_costs_lines_and_no_time_and_is_told_of_them(pipe: Pipe) -> None:
    reader, writer = pipe
    handler = BoundedHandler(writer, most=100)
    began = time.monotonic()
    for _ in range(20_000):
        handler.emit(record("x" * 100))
    assert time.monotonic() - began < 5
    assert handler.dropped > 19_000
    told = b""
    while b"lines of the log were dropped" not in told:
        told += os.read(reader, 4096)
        handler.emit(record("more"))
    os.set_blocking(reader, False)
    handler.close()


def test_a_reader_that_has_gone_costs_a_count(pipe: Pipe) -> None:
    reader, writer = pipe
    os.close(reader)
    handler = BoundedHandler(writer)
    handler.emit(record("line"))
    handler.close()
    assert handler.failures == 1


def test_a_line_that_cannot_be_formatted_is_told_as_such(pipe: Pipe) -> None:
    reader, writer = pipe
    handler = BoundedHandler(writer)
    handler.emit(record("%d", "text"))
    handler.close()
    assert b"a log line cannot be formatted" in os.read(reader, 4096)
