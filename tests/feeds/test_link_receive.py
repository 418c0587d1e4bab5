"""Both ways of taking messages out of a socket do the same, and neither loses one."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from feeds.link_receive import (
    NativeReceive,
    PortableReceive,
    Receive,
    find_library,
    make_receive,
)

SLOT = 64
SLOTS = 4

Make = Callable[[zmq.Socket[bytes], np.ndarray, np.ndarray], Receive]


def native(socket: zmq.Socket[bytes], buffer: np.ndarray, lengths: np.ndarray) -> Receive:
    library = find_library()
    if library is None:
        pytest.skip("this process has no libzmq that compiled code can call")
    return NativeReceive(socket, buffer, lengths, library)


BOTH = pytest.mark.parametrize("make", [native, PortableReceive], ids=["native", "portable"])


class Pair:
    """A PUSH and a PULL in one process, and what receives from it."""

    def __init__(self, make: Make) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.pull = self.context.socket(zmq.PULL)
        self.push = self.context.socket(zmq.PUSH)
        self.pull.bind("inproc://pair")
        self.push.connect("inproc://pair")
        self.buffer = np.zeros(SLOT * SLOTS, np.uint8)
        self.lengths = np.full(SLOTS, -1, np.int64)
        self.receive = make(self.pull, self.buffer, self.lengths)

    def messages(self, count: int) -> list[bytes]:
        """Return the first messages of the buffer."""
        slots = self.buffer.reshape(SLOTS, SLOT)
        return [bytes(slots[at, : self.lengths[at]]) for at in range(count)]

    def close(self) -> None:
        self.push.close(linger=0)
        self.pull.close(linger=0)
        self.context.term()


@pytest.fixture
def pair(make: Make) -> Iterator[Pair]:
    made = Pair(make)
    yield made
    made.close()


@BOTH
def test_an_empty_socket_gives_nothing(pair: Pair) -> None:
    assert pair.receive() == 0
    assert pair.lengths.tolist() == [-1] * SLOTS


@BOTH
@given(sent=st.lists(st.binary(max_size=SLOT), max_size=3 * SLOTS))
def test_every_message_comes_whole_once_and_in_order(make: Make, sent: list[bytes]) -> None:
    pair = Pair(make)
    try:
        for message in sent:
            pair.push.send(message)
        got: list[bytes] = []
        while count := pair.receive():
            assert count == min(SLOTS, len(sent) - len(got))
            got += pair.messages(count)
        assert got == sent
    finally:
        pair.close()


@BOTH
def test_parts_of_a_message_are_messages(pair: Pair) -> None:
    pair.push.send_multipart([b"ab", b"", b"cde"])
    assert pair.messages(pair.receive()) == [b"ab", b"", b"cde"]


@BOTH
def test_a_closed_socket_is_an_error_and_no_crash(pair: Pair) -> None:
    pair.pull.close(linger=0)
    with pytest.raises(zmq.ZMQError):
        pair.receive()


def test_an_error_of_the_library_is_told_with_its_number() -> None:
    """A PUSH cannot receive: libzmq says ENOTSUP, which is neither empty nor interrupted."""
    pair = Pair(native)
    try:
        receive = native(pair.push, pair.buffer, pair.lengths)
        with pytest.raises(zmq.ZMQError) as caught:
            receive()
        assert caught.value.errno == zmq.ENOTSUP
    finally:
        pair.close()


def test_this_machine_takes_the_native_way() -> None:
    assert find_library() is not None
    pair = Pair(make_receive)
    try:
        assert isinstance(pair.receive, NativeReceive)
    finally:
        pair.close()


def test_without_the_library_the_portable_way_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.link_receive.find_library", lambda: None)
    pair = Pair(make_receive)
    try:
        assert isinstance(pair.receive, PortableReceive)
        pair.push.send(b"x")
        assert pair.messages(pair.receive()) == [b"x"]
    finally:
        pair.close()
