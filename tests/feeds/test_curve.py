"""CURVE on real sockets: who is let in, who is not, and who no longer is."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
import zmq
from key_stores import Stores, knocker, make_stores
from live_cases import free_endpoints, wait_until
from pydantic import ValidationError

from engine.core.errors import ConfigError, LinkError
from feeds.config import GatewayConfig, LinkConfig
from feeds.control_client import ControlClient
from feeds.control_desk import ControlDesk, StreamFacts
from feeds.control_server import ControlServer
from feeds.curve import CurveClient, Gatekeeper
from feeds.cutoff import LOOK_NS, Cutoff
from feeds.keystore import KeyStore
from feeds.link import TickReceiver, TickSender

KEY = "k" * 40


class Listener:
    """A receiver that lets in whom the engine's store does, and what it got."""

    def __init__(self, stores: Stores) -> None:
        self.receiver = TickReceiver(
            "tcp://127.0.0.1:*", slots=64, gatekeeper=Gatekeeper(stores.engine.directory)
        )
        self.got: list[bytes] = []
        self.receiver.attach(asyncio.get_running_loop(), self._take)

    def _take(self, wire: Any, offsets: Any, lengths: Any, count: int, woken_ns: int) -> None:
        for at, length in zip(offsets[:count].tolist(), lengths[:count].tolist(), strict=True):
            self.got.append(wire[at : at + length].tobytes())

    def sender(self, stores: Stores, store: KeyStore | None) -> TickSender:
        key = stores.engine.own().public
        curve = None if store is None else CurveClient(store.directory, key)
        return TickSender(self.receiver.endpoint, curve=curve)


def with_listener(
    tmp_path: Path, test: Callable[[Stores, Listener], Awaitable[None]], seconds: float = 30
) -> None:
    async def run() -> None:
        stores = make_stores(tmp_path)
        listener = Listener(stores)
        try:
            async with asyncio.timeout(seconds):
                await test(stores, listener)
        finally:
            listener.receiver.close()

    uvloop.run(run())


@contextmanager
def sending(*senders: TickSender) -> Iterator[None]:
    try:
        yield
    finally:
        for sender in senders:
            sender.close(linger_ms=0)


async def keep_sending(sender: TickSender, text: str, count: int, pause_s: float = 0.001) -> None:
    """Send numbered messages, each once, waiting where the sender cannot take it."""
    for number in range(count):
        while not sender.send(f"{text}{number}".encode()):  # noqa: ASYNC110 - it tells by refusing
            await asyncio.sleep(pause_s)
        await asyncio.sleep(pause_s)


def test_only_the_key_that_is_let_in_is_heard(tmp_path: Path) -> None:
    async def check(stores: Stores, listener: Listener) -> None:
        good = listener.sender(stores, stores.gateway)
        unknown = listener.sender(stores, stores.stranger)
        none = listener.sender(stores, None)
        with sending(good, unknown, none):
            await wait_until(lambda: good.send(b"good"))
            await wait_until(lambda: listener.receiver.counters["refused_unknown"] > 0)
            await wait_until(lambda: listener.receiver.failed_handshakes >= 3)
            assert not unknown.send(b"unknown")
            assert not none.send(b"none")
            assert set(listener.got) == {b"good"}
            assert listener.receiver.counters["accepted"] == 1

    with_listener(tmp_path, check)


def test_a_server_with_another_key_is_sent_nothing(tmp_path: Path) -> None:
    async def check(stores: Stores, listener: Listener) -> None:
        other = stores.stranger.own().public
        curve = CurveClient(stores.gateway.directory, other)
        sender = TickSender(listener.receiver.endpoint, curve=curve)
        with sending(sender):
            await wait_until(lambda: listener.receiver.failed_handshakes > 0)
            assert not sender.send(b"x")
            assert listener.got == []

    with_listener(tmp_path, check)


def test_a_key_that_is_authorized_later_is_let_in_without_a_restart(tmp_path: Path) -> None:
    async def check(stores: Stores, listener: Listener) -> None:
        sender = listener.sender(stores, stores.stranger)
        with sending(sender):
            await wait_until(lambda: listener.receiver.counters["refused_unknown"] >= 2)
            stores.engine.authorize("late", stores.stranger.own().public)
            await wait_until(lambda: sender.send(b"late"))
            await wait_until(lambda: listener.got == [b"late"])

    with_listener(tmp_path, check)


def names_of(listener: Listener) -> dict[str, str]:
    keeper = listener.receiver._gatekeeper
    assert keeper is not None
    return keeper.names


def test_a_revoked_peer_is_cut_off_and_others_lose_nothing(tmp_path: Path) -> None:
    async def check(stores: Stores, listener: Listener) -> None:
        stores.engine.authorize("other", stores.stranger.own().public)
        await wait_until(lambda: len(names_of(listener)) == 2)
        good = listener.sender(stores, stores.gateway)
        bad = listener.sender(stores, stores.stranger)
        with sending(good, bad):
            await wait_until(lambda: bad.send(b"before"))
            await wait_until(lambda: b"before" in listener.got)
            works = asyncio.create_task(keep_sending(good, "good", 1500))
            spams = asyncio.create_task(keep_sending(bad, "bad", 10_000))
            await wait_until(lambda: b"bad10" in listener.got)
            stores.engine.revoke("other")
            await wait_until(lambda: listener.receiver.counters["cut_off"] >= 1)
            await wait_until(lambda: listener.receiver.counters["refused_revoked"] > 0)
            heard = sum(one.startswith(b"bad") for one in listener.got)
            await works
            await wait_until(lambda: b"good1499" in listener.got)
            assert sum(one.startswith(b"bad") for one in listener.got) == heard
            spams.cancel()
            numbers = [one for one in listener.got if one.startswith(b"good")]
            assert numbers == [b"good%d" % number for number in range(1500)]
            assert listener.receiver.connections >= 2

    with_listener(tmp_path, check)


def test_a_revoked_peer_that_is_silent_is_cut_off_too(tmp_path: Path) -> None:
    async def check(stores: Stores, listener: Listener) -> None:
        bad = listener.sender(stores, stores.gateway)
        with sending(bad):
            await wait_until(lambda: bad.send(b"before"))
            await wait_until(lambda: listener.got == [b"before"])
            await wait_until(lambda: listener.receiver.peers == 1)
            stores.engine.revoke("gateway")
            await wait_until(lambda: listener.receiver.counters["cut_off"] == 1)
            await wait_until(lambda: not bad.send(b"after"))
            await wait_until(lambda: listener.receiver.counters["refused_revoked"] > 0)
            assert b"after" not in listener.got

    with_listener(tmp_path, check)


def test_while_the_store_cannot_be_read_nobody_new_is_let_in(tmp_path: Path) -> None:
    async def check(stores: Stores, listener: Listener) -> None:
        old = listener.sender(stores, stores.gateway)
        with sending(old):
            await wait_until(lambda: old.send(b"0"))
            curve = CurveClient(stores.gateway.directory, stores.engine.own().public)
            stores.engine.directory.chmod(0o755)
            await wait_until(lambda: not names_of(listener))
            new = TickSender(listener.receiver.endpoint, curve=curve)
            with sending(new):
                await wait_until(lambda: listener.receiver.counters["refused_unknown"] > 0)
                assert not new.send(b"new")
                assert old.send(b"1")
                stores.engine.directory.chmod(0o700)
                await wait_until(lambda: new.send(b"2"))
                await wait_until(lambda: listener.got == [b"0", b"1", b"2"])

    with_listener(tmp_path, check)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_gatekeeper_that_dies_lets_nobody_in_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_keeper: Gatekeeper, _parts: list[bytes]) -> tuple[str, str]:
        raise MemoryError

    async def check(stores: Stores, listener: Listener) -> None:
        old = listener.sender(stores, stores.gateway)
        with sending(old):
            await wait_until(lambda: old.send(b"0"))
            assert listener.receiver.problem == ""
            monkeypatch.setattr(Gatekeeper, "_judge", fail)
            new = listener.sender(stores, stores.gateway)
            with sending(new):
                await wait_until(lambda: "died" in listener.receiver.problem)
                before = listener.receiver.failed_handshakes
                await wait_until(lambda: listener.receiver.failed_handshakes > before)
                assert not new.send(b"new")
                assert old.send(b"1")
                await wait_until(lambda: listener.got == [b"0", b"1"])

    with_listener(tmp_path, check)


def facts() -> StreamFacts:
    return StreamFacts(1, 5, 1, 10**8, b"")


def test_the_control_channel_lets_in_only_who_may_and_cuts_off_who_may_no_longer(
    tmp_path: Path,
) -> None:
    stores = make_stores(tmp_path)

    async def run() -> None:
        (endpoint,) = free_endpoints(1)
        desk = ControlDesk(facts, dict, 8)
        link = LinkConfig.model_validate({"control": endpoint, **stores.link})
        open_link = LinkConfig.model_validate({"control": endpoint})
        stores.stranger.authorize("gateway", stores.gateway.own().public)
        unknown = LinkConfig.model_validate(
            {"control": endpoint, **stores.link, "keys": stores.stranger.directory}
        )
        async with (
            asyncio.timeout(30),
            ControlServer(endpoint, desk, stores.gateway.directory) as server,
            ControlClient(link) as good,
            ControlClient(open_link) as nobody,
            ControlClient(unknown) as stranger,
        ):
            assert (await good.hello()).epoch == 5
            await wait_until(lambda: server.counters["refused_unknown"] > 0)
            await wait_until(lambda: server.counters["failed_handshakes"] >= 2)
            assert nobody.welcome is None
            assert stranger.welcome is None
            stores.gateway.revoke("engine")
            await wait_until(lambda: server.counters["refused_revoked"] > 0)
            await wait_until(lambda: not good.peer_alive)

    uvloop.run(run())


def test_a_good_engine_is_back_at_once_when_another_was_revoked(tmp_path: Path) -> None:
    stores = make_stores(tmp_path)
    stores.gateway.authorize("other", stores.stranger.own().public)

    async def run() -> None:
        (endpoint,) = free_endpoints(1)
        desk = ControlDesk(facts, dict, 8)
        link = LinkConfig.model_validate({"control": endpoint, **stores.link})
        async with (
            asyncio.timeout(30),
            ControlServer(endpoint, desk, stores.gateway.directory) as server,
            ControlClient(link) as good,
        ):
            await good.hello()
            await wait_until(lambda: server.counters["connections"] == 1)
            stores.gateway.revoke("other")
            await wait_until(lambda: server.counters["accepted"] == 2)
            pongs = good.counters["received_pong"]
            await wait_until(lambda: good.counters["received_pong"] > pongs + 2)
            assert good.welcome is not None

    uvloop.run(run())


def test_no_secret_key_is_logged_or_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def check(stores: Stores, listener: Listener) -> None:
        unknown = listener.sender(stores, stores.stranger)
        with sending(unknown):
            await wait_until(lambda: listener.receiver.counters["refused_unknown"] > 0)
        await wait_until(lambda: "refused a peer" in caplog.text)
        for store in stores:
            assert store.own().secret not in caplog.text

    with_listener(tmp_path, check)


def test_a_context_has_one_gatekeeper(tmp_path: Path) -> None:
    stores = make_stores(tmp_path)
    context: zmq.Context[Any] = zmq.Context()
    one, two = (Gatekeeper(stores.engine.directory) for _ in range(2))
    socket = knocker(context, zmq.PULL, "inproc://x", None)
    with one, two:
        one.guard(socket, context)
        with pytest.raises(LinkError, match="ZAP handler"):
            two.guard(socket, context)
    context.destroy(linger=0)


def test_a_revoked_server_key_is_refused_at_the_start(tmp_path: Path) -> None:
    stores = make_stores(tmp_path)
    stores.gateway.revoke("engine")
    with pytest.raises(ConfigError, match="it is revoked"):
        CurveClient(stores.gateway.directory, stores.engine.own().public)


@pytest.mark.parametrize("place", ["*", "0.0.0.0", "10.1.2.3", "edge-7"])
def test_what_leaves_the_machine_without_keys_is_refused(place: str) -> None:
    for key in ("data", "control"):
        with pytest.raises(ValidationError, match=f"{key} = .*can be reached from other machines"):
            LinkConfig.model_validate({key: f"tcp://{place}:5701"})
    for tree in ({"control": f"tcp://{place}:5701"}, {"outputs": [f"tcp://{place}:5701"]}):
        with pytest.raises(ValidationError, match="can be reached from other machines"):
            GatewayConfig.model_validate(tree)


def test_with_keys_any_address_may_be_bound(tmp_path: Path) -> None:
    LinkConfig.model_validate(
        {"data": "tcp://*:5701", "control": "tcp://gw:5702", "keys": tmp_path, "server_key": KEY}
    )
    gateway = GatewayConfig.model_validate(
        {
            "control": "tcp://0.0.0.0:5702", "outputs": ["tcp://a:1", "tcp://b:1"],
            "keys": tmp_path, "server_keys": [KEY, "l" * 40],
        }
    )  # fmt: skip
    assert [gateway.server_key(at) for at in range(2)] == [KEY, "l" * 40]


@pytest.mark.parametrize(
    "tree", [{"keys": "x"}, {"server_key": KEY}, {"keys": "x", "server_key": "short"}]
)
def test_half_a_set_of_keys_is_refused(tree: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        LinkConfig.model_validate(tree)


def test_two_keys_for_three_outputs_are_refused(tmp_path: Path) -> None:
    outputs = ["tcp://a:1", "tcp://b:1", "tcp://c:1"]
    with pytest.raises(ValidationError, match="one for all"):
        GatewayConfig.model_validate(
            {"outputs": outputs, "keys": tmp_path, "server_keys": [KEY, KEY]}
        )


def test_a_cutoff_ends_the_guilty_at_once_and_the_silent_later() -> None:
    cutoff = Cutoff(frozenset({"bad"}), frozenset({1, 2, 3}), 0)
    assert cutoff.is_let_in("good", 1)
    assert not cutoff.is_let_in("bad", 2)
    assert cutoff.take_due(10) == {2}
    assert cutoff.take_due(20) == set()
    assert not cutoff.is_over(LOOK_NS - 1)
    assert cutoff.take_due(LOOK_NS) == {3}


def test_messages_longer_than_a_slot_never_reach_a_receiver_that_inspects(tmp_path: Path) -> None:
    async def check(stores: Stores, listener: Listener) -> None:
        stores.engine.authorize("other", stores.stranger.own().public)
        await wait_until(lambda: len(names_of(listener)) == 2)
        good = listener.sender(stores, stores.gateway)
        with sending(good):
            payload = np.arange(30_000, dtype=np.uint8).tobytes()
            await wait_until(lambda: good.send(payload))
            stores.engine.revoke("other")
            await wait_until(lambda: listener.receiver._cutoff is not None)
            assert good.send(payload)
            assert good.send(b"")
            await wait_until(lambda: len(listener.got) == 3)
            assert listener.got == [payload, payload, b""]

    with_listener(tmp_path, check)
