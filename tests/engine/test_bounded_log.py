"""Log lines never make anybody wait.

A handler's thread may write for longer than its ``close`` waits, so the descriptors live until
it has ended: a number that is closed too early belongs to somebody else by then.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator

import pytest

from engine.bounded_log import BoundedHandler


class Pipe:
    """A small pipe and the handlers that write to it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        self._handlers: list[BoundedHandler] = []
        self._hears = True

    def handler(self, **bounds: int) -> BoundedHandler:
        self._handlers.append(BoundedHandler(self.writer, **bounds))
        return self._handlers[-1]

    def deafen(self) -> None:
        if self._hears:
            os.close(self.reader)
            self._hears = False

    def close(self) -> None:
        self.deafen()
        for handler in self._handlers:
            handler.close()
            handler._writer.join()
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def record(text: object, *args: object) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, __file__, 1, text, args, None)


def test_lines_come_out_in_order_and_the_last_ones_at_the_end(pipe: Pipe) -> None:
    handler = pipe.handler()
    for number in range(50):
        handler.emit(record("line %d", number))
    handler.close()
    assert os.read(pipe.reader, 65_536).decode().split("\n") == [
        *(f"line {n}" for n in range(50)),
        "",
    ]
    assert (handler.dropped, handler.failures) == (0, 0)


def test_a_reader_that_hangs_costs_lines_and_no_time_and_is_told_of_them(pipe: Pipe) -> None:
    handler = pipe.handler(most=100)
    began = time.monotonic()
    for _ in range(20_000):
        handler.emit(record("x" * 100))
    assert time.monotonic() - began < 5
    assert handler.dropped > 19_000
    told = b""
    while b"lines of the log were dropped" not in told:
        told += os.read(pipe.reader, 4096)
        handler.emit(record("more"))
    os.set_blocking(pipe.reader, False)
    handler.close()


def test_a_reader_that_has_gone_costs_a_count(pipe: Pipe) -> None:
    pipe.deafen()
    handler = pipe.handler()
    handler.emit(record("line"))
    handler.close()
    assert handler.failures == 1


def test_a_line_that_cannot_be_formatted_is_told_as_such(pipe: Pipe) -> None:
    handler = pipe.handler()
    handler.emit(record("%d", "text"))
    handler.close()
    assert b"a log line cannot be formatted" in os.read(pipe.reader, 4096)
