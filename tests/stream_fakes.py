"""Signals and a client's end, made by hand, for tests of journal, stream and client."""

from collections.abc import Iterable

import orjson

from engine.client_state import ClientState, Gap
from engine.core.signals import Refusal, Side, Signal
from engine.stream_config import StreamConfig
from engine.stream_messages import Subscribe, encode
from engine.stream_protocol import StreamCore
from engine.stream_ring import SignalEntry, SignalRing, make_entry

INSTRUMENTS = ("AIG.NYSE", "IF2103.CFFEX", "BTCUSDT.BINANCE")
STRATEGIES = ("macd_cross", "donchian")
SIDES: tuple[Side, Side] = ("BUY", "SELL")


def make_signal(epoch: int, seq: int, **fields: object) -> Signal:
    """Return a signal whose instrument, strategy, side and confidence vary with ``seq``."""
    values: dict[str, object] = {
        "id": f"{epoch:016x}{seq:016x}",
        "epoch": epoch,
        "seq": seq,
        "instrument": INSTRUMENTS[seq % 3],
        "side": SIDES[seq // 3 % 2],
        "strength": 0.75,
        "confidence": (seq % 10) / 10,
        "price": 100.0 + seq / 100,
        "edge_bps": None if seq % 4 == 0 else 4.5,
        "strategy": STRATEGIES[seq % 2],
        "version": "1",
        "tick_epoch": 7,
        "tick_seq": 10 * seq,
        "ts_event": 1_000 * seq,
        "ts_recv": 1_000 * seq + 100,
        "ts_emit": 1_000 * seq + 200,
        "valid_until": 1_000 * seq + 10**9,
        "age_ns": 200,
        "gates": ("data", "liquidity", "risk", "cost"),
    }
    return Signal(**{**values, **fields})  # type: ignore[arg-type] # fields of a signal by name


def make_refusal(seq: int, reason: str = "COST_EDGE") -> Refusal:
    return Refusal(
        f"{seq:032x}", INSTRUMENTS[seq % 3], STRATEGIES[0], "BUY", "cost", reason, 7, seq, seq, seq
    )


def entries(epoch: int, seqs: Iterable[int]) -> list[SignalEntry]:
    return [make_entry(make_signal(epoch, seq)) for seq in seqs]


class FakeLink:
    """Keeps what is sent; ``paused`` is set by the test, or by more than ``room`` messages."""

    def __init__(self, room: int | None = None) -> None:
        self.paused = False
        self.sent: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self._room = room

    def push(self, message: bytes) -> None:
        self.push_many([message])

    def push_many(self, messages: list[bytes]) -> None:
        self.sent.extend(messages)
        if self._room is not None and len(self.sent) > self._room:
            self.paused = True

    def shut(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def take(self) -> list[bytes]:
        taken, self.sent = self.sent, []
        return taken

    def messages(self) -> list[dict[str, object]]:
        return [orjson.loads(message) for message in self.take()]


class FakeStore:
    """A journal of entries in memory, from ``oldest`` on, committed up to ``committed``."""

    def __init__(self) -> None:
        self.rows: list[SignalEntry] = []
        self.committed = 0

    def page(self, epoch: int, from_seq: int, limit: int) -> list[SignalEntry]:
        found = [
            row for row in self.rows if row.epoch == epoch and from_seq <= row.seq <= self.committed
        ]
        return found[:limit]

    def past(self, epoch: int, from_seq: int, before_epoch: int, limit: int) -> list[SignalEntry]:
        place = (epoch, from_seq)
        found = [r for r in self.rows if place <= (r.epoch, r.seq) and r.epoch < before_epoch]
        return sorted(found, key=lambda row: (row.epoch, row.seq))[:limit]

    def prune(self, before: int) -> None:
        self.rows = [row for row in self.rows if row.seq >= before]


class Bench:
    """A stream core with no socket, its store, and the time, all in the test's hands."""

    epoch = 5

    def __init__(self, head: int = 0, **settings: object) -> None:
        self.config = StreamConfig.model_validate(settings)
        config = self.config
        self.ring = SignalRing(self.epoch, head, config.ring_signals, config.snapshot_keys)
        self.woken = 0
        self.pager_woken = 0
        self.core = StreamCore(config, self.ring, self._wake, self._wake_pager)
        self.store = FakeStore()
        self.now_ns = 10**9

    def _wake(self) -> None:
        self.woken += 1

    def _wake_pager(self) -> None:
        self.pager_woken += 1

    def publish(self, count: int = 1) -> None:
        for _ in range(count):
            entry = make_entry(make_signal(self.epoch, self.ring.head + 1))
            self.store.rows.append(entry)
            self.core.delivery.publish(entry)
        self.store.committed = self.ring.head

    def serve_page(self) -> bool:
        request = self.core.delivery.next_page()
        if request is None:
            return False
        place, rows = (request.epoch, request.from_seq), self.config.page_rows
        if request.is_past:
            page = self.store.past(*place, self.ring.epoch, rows)
        else:
            page = self.store.page(*place, rows)
        self.core.delivery.take_page(request, page)
        return True

    def settle(self) -> None:
        """Work until nobody is left behind for any reason but want of room."""
        while self.core.delivery.work(self.config.turn_signals) or self.serve_page():
            pass


class BenchClient:
    """A client on a ``Bench``: a real ``ClientState`` behind a ``FakeLink``."""

    def __init__(
        self,
        bench: Bench,
        wish: Subscribe,
        state: ClientState | None = None,
        room: int | None = None,
    ) -> None:
        self.bench = bench
        self.state = state or ClientState(wish)
        self.link = FakeLink(room)
        self.session = bench.core.connect(self.link, bench.now_ns)
        self.signals: list[int] = []
        self.gaps: list[Gap] = []
        self.send(encode(self.state.subscribe()))

    def send(self, data: bytes) -> None:
        self.bench.core.receive(self.session, data, self.bench.now_ns, 0)

    def read(self) -> None:
        """Take in all that was sent; the link has room again."""
        for data in self.link.take():
            for item in self.state.receive(data):
                if isinstance(item, Signal):
                    self.signals.append(item.seq)
                elif isinstance(item, Gap):
                    self.gaps.append(item)
        self.link.paused = False
        self.bench.core.delivery.resume(self.session)
