import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fakes import INSTRUMENTS, Bench, BenchClient, FakeLink, entries, make_signal

from engine.client_state import ClientState, Gap
from engine.core.errors import StreamError
from engine.core.signals import Signal
from engine.stream_messages import (
    DataGap,
    GapReason,
    Heartbeat,
    SignalMessage,
    Subscribe,
    decode_server,
    encode,
)
from engine.stream_ring import SignalRing, make_entry
from engine.stream_session import StallMeter, TokenBucket
from engine.stream_subscription import SignalFilter

EVERYTHING = Subscribe()


def subscribe(bench: Bench, link: FakeLink, **fields: object) -> list[dict[str, object]]:
    session = bench.core.connect(link, bench.now_ns)
    message = orjson.dumps({"type": "subscribe", **fields})
    bench.core.receive(session, message, bench.now_ns, 0)
    bench.settle()
    return link.messages()


def test_a_client_is_welcomed_with_epoch_head_and_heartbeat_interval() -> None:
    bench = Bench(head=41)
    link = FakeLink()
    bench.core.connect(link, 0)
    assert link.messages() == [
        {
            "type": "welcome",
            "protocol": 1,
            "epoch": 5,
            "head_seq": 41,
            "heartbeat_interval_ms": 2000,
        }
    ]


def test_a_live_subscription_is_sent_each_signal_with_its_predecessor() -> None:
    bench = Bench(head=10)
    link = FakeLink()
    first = subscribe(bench, link)
    assert first[1] == {
        "type": "subscribed",
        "sub": "main",
        "epoch": 5,
        "head_seq": 10,
        "next_seq": 11,
    }
    bench.publish(3)
    messages = [decode_server(data) for data in link.take()]
    assert messages == [
        SignalMessage("main", prev, make_signal(5, seq))
        for prev, seq in ((0, 11), (11, 12), (12, 13))
    ]


@pytest.mark.parametrize(
    ("wish", "passes"),
    [
        ({"instruments": [INSTRUMENTS[0]]}, lambda s: s.instrument == INSTRUMENTS[0]),
        ({"instruments": []}, lambda s: False),
        ({"strategies": ["donchian"]}, lambda s: s.strategy == "donchian"),
        ({"sides": ["SELL"]}, lambda s: s.side == "SELL"),
        ({"min_confidence": 0.5}, lambda s: s.confidence >= 0.5),
        (
            {"sides": ["BUY"], "strategies": ["macd_cross"], "min_confidence": 0.2},
            lambda s: s.side == "BUY" and s.strategy == "macd_cross" and s.confidence >= 0.2,
        ),
    ],
)
def test_a_filter_passes_what_meets_every_condition(wish: dict, passes: object) -> None:  # type: ignore[type-arg] # parameters of a test
    bench = Bench()
    client = BenchClient(bench, msgspec.convert({"type": "subscribe", **wish}, Subscribe))
    bench.publish(60)
    client.read()
    assert callable(passes)
    assert client.signals == [s for s in range(1, 61) if passes(make_signal(5, s))]
    assert client.state.stats.chain_breaks == 0


def test_no_condition_at_all_is_no_filter() -> None:
    assert SignalFilter.of(EVERYTHING) is None


def test_two_subscriptions_of_one_client_have_chains_of_their_own() -> None:
    bench = Bench()
    link = FakeLink()
    session = bench.core.connect(link, 0)
    for name in ("AIG.NYSE", "BTCUSDT.BINANCE"):
        data = orjson.dumps({"type": "subscribe", "id": name, "instruments": [name]})
        bench.core.receive(session, data, 0, 0)
    link.take()
    bench.publish(9)
    sent = [(m["sub"], m["prev"], m["signal"]["seq"]) for m in link.messages()]  # type: ignore[index] # JSON
    assert sent == [
        ("BTCUSDT.BINANCE", 0, 2), ("AIG.NYSE", 0, 3), ("BTCUSDT.BINANCE", 2, 5),
        ("AIG.NYSE", 3, 6), ("BTCUSDT.BINANCE", 5, 8), ("AIG.NYSE", 6, 9),
    ]  # fmt: skip


def test_an_ended_subscription_is_sent_nothing_more() -> None:
    bench = Bench()
    client = BenchClient(bench, EVERYTHING)
    bench.publish()
    client.read()
    client.send(b'{"type":"unsubscribe"}')
    assert client.link.messages() == [{"type": "unsubscribed", "sub": "main"}]
    bench.publish()
    assert client.link.take() == []


def test_resume_reads_the_ring_and_goes_live_without_a_seam() -> None:
    bench = Bench(ring_signals=64, max_lag=64, slice_signals=8)
    bench.publish(50)
    client = BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=10))
    bench.core.delivery.work(8)
    bench.publish(5)
    bench.settle()
    bench.publish(5)
    client.read()
    assert client.signals == list(range(11, 61))
    assert bench.core.counters["pages"] == 0


def test_resume_crosses_from_the_journal_into_the_ring() -> None:
    bench = Bench(ring_signals=16, max_lag=16, page_rows=7, slice_signals=4)
    bench.publish(100)
    client = BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=0))
    for _ in range(3):
        bench.serve_page()
        bench.publish(2)
    bench.settle()
    bench.publish(3)
    client.read()
    assert client.signals == list(range(1, 110))
    assert client.gaps == []


def test_a_client_waiting_its_turn_while_the_ring_moves_on_is_served_from_the_journal() -> None:
    bench = Bench(ring_signals=16, max_lag=16)
    bench.publish(16)
    client = BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=0))
    bench.publish(1)
    bench.settle()
    client.read()
    assert client.signals == list(range(1, 18))
    assert bench.core.counters["pages"] == 1


def test_the_ring_refuses_to_give_what_it_no_longer_has() -> None:
    ring = SignalRing(5, 0, 4, 8)
    for entry in entries(5, range(1, 10)):
        ring.append(entry)
    with pytest.raises(StreamError, match="signal 5 left the ring"):
        list(ring.between(5, 8))


def test_what_the_journal_pruned_is_a_gap_with_a_snapshot() -> None:
    bench = Bench(ring_signals=16, max_lag=16)
    bench.publish(100)
    bench.store.prune(before=40)
    client = BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=9))
    bench.settle()
    client.read()
    [gap] = client.gaps
    assert (gap.epoch, gap.from_seq, gap.to_seq, gap.reason) == (5, 10, 39, "pruned")
    assert client.signals == list(range(40, 101))


def test_a_snapshot_holds_the_latest_of_each_pair_up_to_the_end_of_the_gap() -> None:
    bench = Bench(ring_signals=16, max_lag=16)
    bench.publish(10)
    bench.store.prune(before=1_000)
    for seq in range(11, 30):
        entry = make_entry(make_signal(5, seq, instrument="OTHER.X"))
        bench.core.delivery.publish(entry)
    client = BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=0))
    bench.settle()
    client.read()
    [gap] = client.gaps
    assert (gap.from_seq, gap.to_seq) == (1, 13)
    assert {signal.seq for signal in gap.snapshot} == {5, 6, 7, 8, 9, 10}
    assert client.signals == list(range(14, 30))


def test_a_long_snapshot_comes_in_pages() -> None:
    bench = Bench(ring_signals=8, max_lag=8)
    for seq in range(1, 201):
        bench.core.delivery.publish(make_entry(make_signal(5, seq, instrument=f"I{seq}.X")))
    link = FakeLink()
    messages = subscribe(bench, link, from_seq=1)
    pages = [m for m in messages if m["type"] == "snapshot"]
    assert [len(m["signals"]) for m in pages] == [64, 64, 64]  # type: ignore[arg-type] # JSON
    assert [m["more"] for m in pages] == [True, True, False]
    assert [m["type"] for m in messages[2:3]] == ["gap"]


def test_another_epoch_is_a_gap_and_then_all_of_the_new_one() -> None:
    bench = Bench()
    bench.ring.preload(entries(4, range(1, 8)))
    bench.publish(3)
    state = ClientState(EVERYTHING, position=6, epoch=4)
    client = BenchClient(bench, EVERYTHING, state)
    bench.settle()
    client.read()
    [gap] = client.gaps
    assert (gap.epoch, gap.from_seq, gap.to_seq, gap.reason) == (4, 7, None, "epoch_changed")
    assert client.signals == [1, 2, 3]
    assert (state.epoch, state.position) == (5, 3)


def test_the_rest_of_earlier_epochs_comes_before_the_new_one() -> None:
    bench = Bench(page_rows=4)
    bench.store.rows = [*entries(2, range(1, 10)), *entries(3, range(3, 8)), *entries(4, [1])]
    bench.publish(2)
    state = ClientState(EVERYTHING, position=6, epoch=2)
    client = BenchClient(bench, EVERYTHING, state, room=3)
    places = []
    for _ in range(40):
        bench.settle()
        bench.core.heartbeat(0)
        client.read()
        places.append((state.epoch, state.position))
    assert client.signals == [7, 8, 9, *range(3, 8), 1, 1, 2]
    told = [(gap.epoch, gap.from_seq, gap.to_seq, gap.reason) for gap in client.gaps]
    assert told == [
        (2, 10, None, "epoch_changed"), (3, 1, 2, "pruned"),
        (3, 8, None, "epoch_changed"), (4, 2, None, "epoch_changed"),
    ]  # fmt: skip
    assert places == sorted(places), "what is dealt with only grows, whenever it breaks off"
    assert places[-1] == (5, 2)
    assert state.stats.chain_breaks == 0
    bench.publish(1)
    client.read()
    assert client.signals[-1] == 3, "it is live"


def test_a_client_that_leaves_among_earlier_epochs_goes_on_there() -> None:
    bench = Bench(page_rows=2)
    bench.store.rows = [*entries(2, range(1, 6)), *entries(3, range(1, 9))]
    bench.publish(3)
    state, seen = ClientState(EVERYTHING, position=2, epoch=2), []
    for _ in range(30):
        client = BenchClient(bench, EVERYTHING, state, room=3)
        for _ in range(2):
            bench.core.delivery.work(100)
            bench.serve_page()
        client.read()
        seen += client.signals
        bench.core.disconnect(client.session)
        if seen[-1:] == [3] and state.epoch == 5:
            break
    assert seen == [3, 4, 5, *range(1, 9), 1, 2, 3]


def test_a_filter_holds_in_earlier_epochs_too() -> None:
    bench = Bench()
    names = ["B.X", "B.X", "A.X", "B.X"]
    bench.store.rows = [
        make_entry(make_signal(3, seq, instrument=name)) for seq, name in enumerate(names, 1)
    ]
    wish = msgspec.structs.replace(EVERYTHING, instruments=["A.X"])
    client = BenchClient(bench, wish, ClientState(wish, position=0, epoch=3))
    bench.settle()
    client.read()
    assert client.signals == [3]
    assert [gap.reason for gap in client.gaps] == ["epoch_changed"]


def test_a_place_in_the_future_is_a_gap_and_then_live() -> None:
    bench = Bench(head=10)
    client = BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=99, epoch=5))
    bench.publish(1)
    client.read()
    [gap] = client.gaps
    assert (gap.from_seq, gap.to_seq, gap.reason) == (11, 99, "ahead")
    assert client.signals == [11]


def test_a_client_without_room_is_left_behind_and_catches_up_when_it_has() -> None:
    bench = Bench()
    client = BenchClient(bench, EVERYTHING)
    client.link.paused = True
    bench.publish(100)
    assert client.link.take()[2:] == []
    client.read()
    bench.settle()
    bench.publish(1)
    client.read()
    assert client.signals == list(range(1, 102))
    assert bench.core.counters["fell_behind"] == 1


def test_a_disconnecting_client_too_far_behind_is_closed_with_4008() -> None:
    bench = Bench(max_lag=50)
    client = BenchClient(bench, EVERYTHING)
    client.link.paused = True
    bench.publish(50)
    bench.core.check_lag()
    assert client.link.closed is None
    bench.publish(1)
    bench.core.check_lag()
    assert client.link.closed is not None
    assert client.link.closed[0] == 4008
    assert bench.core.counters["evicted_slow"] == 1
    assert bench.core.sessions == set()


def test_catching_up_from_far_behind_is_not_being_slow() -> None:
    bench = Bench(max_lag=10)
    bench.publish(500)
    client = BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=0))
    bench.publish(10)
    bench.core.check_lag()
    assert client.link.closed is None
    bench.publish(1)
    bench.core.check_lag()
    assert client.link.closed is not None


def test_a_conflating_client_too_far_behind_gets_a_gap_and_the_newest_of_each_pair() -> None:
    bench = Bench(max_lag=50)
    client = BenchClient(bench, Subscribe(on_slow="conflate"))
    bench.publish(10)
    client.read()
    client.link.paused = True
    bench.publish(100)
    client.read()
    bench.settle()
    bench.publish(1)
    client.read()
    [gap] = client.gaps
    assert (gap.from_seq, gap.to_seq, gap.reason) == (11, 110, "conflated")
    assert client.signals == [*range(1, 11), 105, 106, 107, 108, 109, 110, 111]
    assert client.state.stats.chain_breaks == 0


def test_a_conflating_client_further_behind_than_the_ring_gets_the_newest_too() -> None:
    bench = Bench(ring_signals=32, max_lag=32)
    client = BenchClient(bench, Subscribe(on_slow="conflate"))
    client.link.paused = True
    bench.core.delivery.publish(make_entry(make_signal(5, 1, instrument="RARE.X")))
    for seq in range(2, 102):
        bench.core.delivery.publish(make_entry(make_signal(5, seq)))
    client.read()
    bench.settle()
    client.read()
    assert [(g.from_seq, g.to_seq, g.reason) for g in client.gaps] == [(1, 101, "conflated")]
    assert client.signals == [1, 96, 97, 98, 99, 100, 101]
    assert bench.core.counters["pages"] == 0


def test_conflation_that_leaves_nothing_out_says_nothing() -> None:
    bench = Bench(max_lag=5)
    wish = Subscribe(on_slow="conflate", instruments=["AIG.NYSE"], strategies=["donchian"])
    client = BenchClient(bench, wish)
    client.link.paused = True
    bench.publish(8)
    client.read()
    bench.settle()
    client.read()
    assert client.signals == [3]
    assert client.gaps == []


def test_a_heartbeat_says_how_far_a_client_was_served() -> None:
    bench = Bench()
    wish = Subscribe(instruments=["NONE.X"])
    idle = BenchClient(bench, wish)
    busy = BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=0))
    bench.publish(5)
    bench.core.heartbeat(123)
    idle.read()
    busy.read()
    assert idle.state.position == 5
    assert busy.state.position == 5
    late = BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=2))
    bench.core.heartbeat(124)
    assert late.link.messages()[-1] == {
        "type": "heartbeat",
        "epoch": 5,
        "head_seq": 5,
        "sent_seq": 2,
        "ts": 124,
    }


@pytest.mark.parametrize("sent_seq", [0, 5])
def test_a_heartbeat_before_a_resuming_client_is_subscribed_moves_no_place(sent_seq: int) -> None:
    bench = Bench()
    bench.publish(5)
    state, link = ClientState(EVERYTHING, position=2, epoch=5), FakeLink()
    session = bench.core.connect(link, bench.now_ns)
    wish = encode(state.subscribe())
    bench.core.heartbeat(7)
    *_, told = link.messages()
    assert told["sent_seq"] == 0
    state.receive(encode(Heartbeat(5, 5, sent_seq, 7)))
    bench.core.receive(session, wish, bench.now_ns, 0)
    bench.settle()
    items = [item for message in link.take() for item in state.receive(message)]
    assert [item.seq for item in items if isinstance(item, Signal)] == [3, 4, 5]
    assert state.stats.duplicates == state.stats.chain_breaks == 0


def test_status_goes_to_those_who_asked_and_have_room() -> None:
    bench = Bench()
    listening, full, other = FakeLink(), FakeLink(), FakeLink()
    subscribe(bench, listening, topics=["status"])
    subscribe(bench, full, topics=["status", "signals"])
    subscribe(bench, other)
    full.paused = True
    bench.core.publish_status({"ticks_per_s": 20_000}, 9)
    assert listening.messages() == [{"type": "status", "ts": 9, "status": {"ticks_per_s": 20_000}}]
    assert full.take() == other.take() == []


def test_missing_market_data_is_told_to_those_who_asked_for_it() -> None:
    bench = Bench()
    listening, full, other = FakeLink(), FakeLink(), FakeLink()
    subscribe(bench, listening, topics=["data"])
    subscribe(bench, full, topics=["data", "signals"])
    subscribe(bench, other)
    full.paused = True
    gap = DataGap(9, 1, 1, 5, 7, 2, "gone")
    bench.core.publish_data_gap(gap)
    (told,) = listening.messages()
    assert (told["type"], told["nth"], told["missing"]) == ("data_gap", 1, 2)
    assert full.take() == other.take() == []
    assert bench.core.counters["data_gaps_unsent"] == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "bad_message"),
        (b"{", "bad_message"),
        (b"\xff\xfe", "bad_message"),
        (b"[]", "bad_message"),
        (b'{"type":"signal"}', "bad_message"),
        (b'{"type":"subscribe","from_seq":-1}', "bad_message"),
        (b'{"type":"subscribe","min_confidence":"much"}', "bad_message"),
        (b'{"type":"subscribe","instrument":["AIG.NYSE"]}', "bad_message"),
        (b'{"type":"subscribe","topics":[]}', "bad_message"),
        (b'{"type":"unsubscribe","id":"never"}', "no_subscription"),
        (b"[" * 10_000, "bad_message"),
        (b'{"type":"subscribe","instruments":' + b"[" * 10_000, "bad_message"),
    ],
)
def test_what_is_not_of_the_protocol_is_answered_with_an_error(data: bytes, code: str) -> None:
    bench = Bench()
    link = FakeLink()
    session = bench.core.connect(link, 0)
    link.take()
    bench.core.receive(session, data, 0, 0)
    [answer] = link.messages()
    assert (answer["type"], answer["code"]) == ("error", code)
    assert bench.core.counters["bad_messages"] == 1
    assert link.closed is None


def test_a_client_that_keeps_sending_garbage_is_closed() -> None:
    bench = Bench(max_errors=3)
    link = FakeLink()
    session = bench.core.connect(link, 0)
    for _ in range(10):
        bench.core.receive(session, b"garbage", 0, 0)
    assert link.closed == (1008, "too many bad messages")
    assert bench.core.counters["bad_messages"] == 3


def test_a_flood_is_told_so_once_and_closed() -> None:
    bench = Bench(messages_per_s=10, message_burst=5)
    link = FakeLink()
    session = bench.core.connect(link, 0)
    for _ in range(100):
        bench.core.receive(session, b'{"type":"ping"}', 0, 0)
    answers = [m["type"] for m in link.messages()]
    assert answers == ["welcome", *["pong"] * 5, "error"]
    assert link.closed == (1008, "too many messages a second")


def test_subscriptions_have_a_bound_and_names_of_their_own() -> None:
    bench = Bench(max_subscriptions=2)
    link = FakeLink()
    session = bench.core.connect(link, 0)
    for name in ("a", "a", "b", "c"):
        data = orjson.dumps({"type": "subscribe", "id": name})
        bench.core.receive(session, data, 0, 0)
    answers = [m.get("code", m["type"]) for m in link.messages()]
    assert answers == [
        "welcome", "subscribed", "subscription_exists", "subscribed", "too_many_subscriptions",
    ]  # fmt: skip


def test_work_is_shared_in_slices_and_bounded_a_turn() -> None:
    bench = Bench(slice_signals=10)
    bench.publish(100)
    clients = [
        BenchClient(bench, EVERYTHING, ClientState(EVERYTHING, position=0)) for _ in range(4)
    ]
    for client in clients:
        client.read()
    assert bench.core.delivery.work(20)
    for client in clients:
        client.read()
    assert [len(client.signals) for client in clients] == [10, 10, 0, 0]
    assert bench.core.delivery.work(20)
    for client in clients:
        client.read()
    assert [len(client.signals) for client in clients] == [10, 10, 10, 10]


def test_a_signal_out_of_sequence_is_refused() -> None:
    ring = SignalRing(5, 0, 8, 8)
    with pytest.raises(StreamError, match="5/1 is next"):
        ring.append(make_entry(make_signal(5, 2)))
    with pytest.raises(StreamError, match="5/1 is next"):
        ring.append(make_entry(make_signal(4, 1)))


def test_the_ring_is_filled_with_what_is_contiguous_to_its_head() -> None:
    ring = SignalRing(5, 20, 8, 100)
    ring.preload([*entries(4, [1, 2]), *entries(5, [10, 11]), *entries(5, range(15, 21))])
    assert ring.oldest == 15
    assert [e.seq for e in ring.between(15, 21)] == list(range(15, 21))
    ring = SignalRing(5, 20, 4, 100)
    ring.preload(entries(5, range(1, 21)))
    assert ring.oldest == 17


def test_the_snapshot_is_bounded() -> None:
    ring = SignalRing(5, 0, 8, 3)
    for seq in range(1, 10):
        ring.append(make_entry(make_signal(5, seq, instrument=f"I{seq}.X")))
    assert [e.seq for e in ring.latest(before=100)] == [7, 8, 9]
    assert ring.keys_dropped == 6


def test_a_token_bucket_refills_with_time() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=2, now_ns=0)
    assert [bucket.take(0), bucket.take(0), bucket.take(0)] == [True, True, False]
    assert bucket.take(100_000_000)
    assert not bucket.take(100_000_001)


def test_a_client_that_takes_nothing_is_told_from_a_slow_one() -> None:
    meter = StallMeter(now_ns=0)
    assert meter.stalled_ns(1_000, 0, 10) == 0
    assert meter.stalled_ns(2_000, 900, 20) == 0
    assert meter.stalled_ns(3_000, 1_800, 30) == 0
    assert meter.stalled_ns(3_000, 1_800, 40) == 10
    assert meter.stalled_ns(9_000, 7_800, 50) == 20
    assert meter.stalled_ns(9_000, 0, 60) == 0


class Story:
    """Random events on a core and a client that may lose its connection; every loss is told."""

    def __init__(self, wish: Subscribe, settings: dict[str, int]) -> None:
        self.bench = Bench(**settings)
        self.wish = wish
        self.client = BenchClient(self.bench, wish, room=6)
        self.signals: list[int] = []
        self.gaps: list[Gap] = []
        self.read()

    def reconnect(self) -> None:
        self.bench.core.disconnect(self.client.session)
        state = self.client.state
        self.client = BenchClient(self.bench, self.wish, state, room=6)

    def read(self) -> None:
        self.client.read()
        self.signals += self.client.signals
        self.gaps += self.client.gaps
        self.client.signals, self.client.gaps = [], []
        if self.client.link.closed is not None:
            self.reconnect()

    def act(self, event: tuple[str, int]) -> None:
        match event:
            case ("publish", count):
                self.bench.publish(count)
            case ("work", budget):
                self.bench.core.delivery.work(budget)
            case ("page", _):
                self.bench.serve_page()
            case ("read", _):
                self.read()
            case ("lag", _):
                self.bench.core.check_lag()
            case ("heartbeat", _):
                self.bench.core.heartbeat(0)
            case ("prune", share):
                self.bench.store.prune(self.bench.ring.head * share // 30)
            case ("reconnect", _):
                self.reconnect()

    def finish(self) -> None:
        for _ in range(2_000):
            self.bench.settle()
            self.read()
            position = self.client.state.position
            self.bench.core.heartbeat(0)
            if position == self.bench.ring.head:
                break


EVENTS = st.tuples(
    st.sampled_from(
        ["publish", "publish", "work", "page", "read", "lag", "heartbeat", "prune", "reconnect"]
    ),
    st.integers(1, 30),
)
WISHES = st.builds(
    Subscribe,
    instruments=st.none() | st.just(["AIG.NYSE"]),
    min_confidence=st.none() | st.just(0.4),
    on_slow=st.sampled_from(["disconnect", "conflate"]),
)


@settings(max_examples=400)
@given(WISHES, st.lists(EVENTS, max_size=80))
def test_whatever_happens_a_client_gets_every_signal_once_or_a_gap(
    wish: Subscribe, events: list[tuple[str, int]]
) -> None:
    story = Story(
        wish,
        {"ring_signals": 16, "max_lag": 12, "slice_signals": 3, "page_rows": 5, "turn_signals": 6},
    )
    for event in events:
        story.act(event)
    story.finish()
    accepting = SignalFilter.of(wish)
    head = story.bench.ring.head
    due = [
        seq
        for seq in range(1, head + 1)
        if accepting is None or accepting.accepts(make_entry(make_signal(5, seq)))
    ]
    assert story.signals == sorted(set(story.signals))
    assert set(story.signals) <= set(due)
    assert story.client.state.stats.chain_breaks == 0
    assert story.client.state.stats.duplicates == 0
    told = {
        seq for gap in story.gaps for seq in range(gap.from_seq, (gap.to_seq or gap.from_seq) + 1)
    }
    assert set(due) <= set(story.signals) | told
    assert {gap.reason for gap in story.gaps} <= {GapReason.CONFLATED, GapReason.PRUNED}


@given(st.lists(st.binary(max_size=60) | st.from_regex(rb'\{"type":"\w+".*\}'), max_size=20))
def test_no_bytes_a_client_sends_are_more_than_an_error(frames: list[bytes]) -> None:
    bench = Bench(message_burst=1_000, max_errors=1_000)
    link = FakeLink()
    session = bench.core.connect(link, 0)
    for data in frames:
        bench.core.receive(session, data, 0, 0)
    bench.publish()
    for message in link.take():
        decode_server(message)
    assert link.closed is None
