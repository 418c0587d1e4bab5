"""Who stops by decision is not missed; who means to be back is; who is silent is known by name."""

from feeds.control_desk import ControlDesk, StreamFacts
from feeds.control_messages import (
    PROTOCOL,
    Bye,
    Hello,
    Leave,
    Ping,
    Restart,
    encode,
    parse_reply,
)

MS = 1_000_000


def desk(max_peers: int = 4) -> ControlDesk:
    return ControlDesk(lambda: StreamFacts(1, 7, 1, MS, b""), dict, max_peers)


def hear(one: ControlDesk, peer: bytes, message: object, mono_ns: int = 0) -> bytes:
    return one.answer(peer, [encode(message)], 0, mono_ns)[0]  # type: ignore[arg-type] # a request


def test_silence_is_counted_by_name_and_the_latest_connection_counts() -> None:
    one = desk()
    hear(one, b"a", Hello(PROTOCOL, "left"), 0)
    hear(one, b"b", Hello(PROTOCOL, "right"), 10 * MS)
    hear(one, b"c", Hello(PROTOCOL, "left"), 20 * MS)
    assert one.silences(30 * MS) == {"left": 10 * MS, "right": 20 * MS}
    hear(one, b"b", Ping(0), 30 * MS)
    assert one.silences(30 * MS)["right"] == 0


def test_one_that_stops_is_forgotten_with_all_its_connections_and_told_once() -> None:
    one = desk()
    hear(one, b"a", Hello(PROTOCOL, "engine"))
    hear(one, b"b", Hello(PROTOCOL, "engine"))
    assert parse_reply(hear(one, b"b", Leave(returns=False))) == Bye(7)
    assert one.silences(MS) == {}
    assert one.all_parted
    assert one.take_parted() == ["engine"]
    assert one.take_parted() == []
    hear(one, b"c", Hello(PROTOCOL, "engine"))
    assert not one.all_parted, "it is back"


def test_one_that_means_to_be_back_goes_on_being_missed() -> None:
    one = desk()
    hear(one, b"a", Hello(PROTOCOL, "engine"))
    hear(one, b"a", Leave(returns=True))
    assert one.silences(5 * MS) == {"engine": 5 * MS}
    assert not one.all_parted


def test_the_parting_of_a_stranger_changes_nothing() -> None:
    one = desk()
    hear(one, b"a", Hello(PROTOCOL, "engine"))
    hear(one, b"z", Leave(returns=False))
    assert not one.all_parted
    assert one.take_parted() == []


def test_what_is_remembered_of_peers_is_bounded() -> None:
    one = desk(max_peers=4)
    for number in range(100):
        peer = str(number).encode()
        hear(one, peer, Hello(PROTOCOL, f"engine {number}"), number)
        if number % 2:
            hear(one, peer, Leave(returns=False), number)
    assert len(one.silences(1000)) <= 4
    assert len(one._names) <= 4
    assert len(one._parted) <= 4


def test_a_request_to_begin_anew_is_a_message_of_its_own() -> None:
    assert parse_reply(desk().restart("silent")) == Restart("silent")
