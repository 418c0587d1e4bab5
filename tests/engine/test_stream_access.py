"""TLS, tokens, origins and the door, with real clients over real sockets."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
from certificates import Certificates, make_certificates
from live_cases import wait_until
from pydantic import ValidationError
from stream_fakes import make_signal
from stream_rig import closed_with, run
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from engine.access import Access
from engine.client import Backoff, SignalClient
from engine.core.errors import ConfigError, StreamError
from engine.core.signals import Signal
from engine.operating import operate, read_status, set_state
from engine.stream import Health, SignalStream
from engine.stream_auth import Scope
from engine.stream_config import StreamConfig
from engine.stream_messages import CloseCode, GateState, Operate, SetState
from engine.tls import ServerTls, client_context
from engine.token_store import TokenStore

READ = (Scope.READ,)
BOTH = (Scope.READ, Scope.OPERATE)
DAY_NS = 86_400 * 10**9


class House:
    """A stream that asks for tokens over TLS, its files, and what operators did."""

    def __init__(self, root: Path) -> None:
        self.certificates: Certificates = make_certificates(root)
        self.store = TokenStore(root / "tokens.json")
        self.reader = self.store.issue("reader", READ, time.time_ns(), None)
        self.operator = self.store.issue("operator", BOTH, time.time_ns(), None)
        self.commands: list[tuple[str, str]] = []
        self.forbidden: list[tuple[str, str]] = []
        self.stream: SignalStream

    @asynccontextmanager
    async def open(self, **settings: Any) -> AsyncIterator["House"]:
        tree = {
            "port": 0, "tokens": self.store.path, "tls": self.certificates.tls,
            "check_interval": "20ms", **settings,
        }  # fmt: skip
        self.stream = SignalStream(
            StreamConfig.model_validate(tree),
            epoch=9,
            health=lambda: Health(True, {"healthy": True, "ticks": 7}),
            set_state=self._set_state,
            operate=self._operate,
            on_forbidden=lambda who, what: self.forbidden.append((who, what)),
        )
        async with self.stream:
            yield self

    def _set_state(self, state: GateState, who: str) -> tuple[GateState, Awaitable[str]]:
        self.commands.append((who, state))
        return "active", self._kept()

    @staticmethod
    async def _kept() -> str:
        return ""

    async def _operate(self, message: Operate, who: str) -> dict[str, Any]:
        self.commands.append((who, message.command))
        return {"done": True}

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.stream.port}"

    @property
    def counters(self) -> dict[str, int]:
        return self.stream.counters

    def access(self, token: str | None) -> Access:
        return Access(token, self.certificates.ca)

    def client(self, token: str | None, **options: Any) -> SignalClient:
        backoff = Backoff(first_s=0.01, last_s=0.05)
        return SignalClient(
            self.url, access=self.access(token), backoff=backoff, first_attempts=2, **options
        )

    def connect(self, token: str | None, **options: Any) -> connect:
        found = {**self.access(token).options(self.url), "close_timeout": 1, **options}
        return connect(self.url, **found)


def with_house(tmp_path: Path, work: Callable[[House], Awaitable[None]], **settings: Any) -> House:
    house = House(tmp_path)

    async def inside() -> None:
        async with house.open(**settings):
            await work(house)

    run(inside)
    return house


async def refused_with(attempt: connect) -> int:
    with pytest.raises(InvalidStatus) as caught:
        await attempt
    return caught.value.response.status_code


async def message(connection: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = orjson.loads(await connection.recv())
        if found["type"] == kind:
            return found


def test_a_client_with_a_token_gets_its_signals_over_tls(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        async with house.client(house.reader, from_seq=1) as client:
            for seq in range(1, 51):
                house.stream.publish(make_signal(9, seq))
            got = [await client.next_item() for _ in range(50)]
            assert [one.seq for one in got if isinstance(one, Signal)] == list(range(1, 51))

    with_house(tmp_path, work)


def test_bad_missing_revoked_and_expired_tokens_are_refused_and_counted(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        now_ns = time.time_ns()
        old = house.store.issue("old", READ, now_ns - 2 * DAY_NS, now_ns - DAY_NS)
        gone = house.store.issue("gone", READ, now_ns, None)
        house.store.revoke("gone", now_ns)
        await asyncio.sleep(0.1)
        for token in (None, "heqis_wrong", house.reader[:-1], gone, old):
            assert await refused_with(house.connect(token)) == 401
        assert house.counters["token_missing"] == 1
        assert house.counters["token_unknown"] == 2
        assert house.counters["token_revoked"] == 1
        assert house.counters["token_expired"] == 1
        assert house.counters["connections"] == 0
        with pytest.raises(StreamError, match="HTTP 401: a token is needed"):
            await house.client("heqis_wrong").next_item()

    with_house(tmp_path, work)


def test_a_browser_brings_its_token_as_a_subprotocol(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        offered = ["heqis", f"heqis.token.{house.reader}"]
        async with house.connect(None, subprotocols=offered) as connection:
            assert connection.subprotocol == "heqis"
            assert (await message(connection, "welcome"))["epoch"] == 9

    with_house(tmp_path, work)


def test_a_page_of_another_origin_is_refused_whatever_its_token(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        wrong = house.connect(house.reader, origin="https://evil.example")
        assert await refused_with(wrong) == 403
        await wait_until(lambda: house.counters["refused_origins"] == 1)
        async with house.connect(house.reader, origin="https://desk.example") as connection:
            await message(connection, "welcome")

    with_house(tmp_path, work, allowed_origins=["https://desk.example"])


def test_a_token_that_expires_ends_the_connection_and_says_so(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        now_ns = time.time_ns()
        short = house.store.issue("short", READ, now_ns, now_ns + 10**9)
        await wait_until(lambda: house.stream._door.problems == [])
        await asyncio.sleep(0.1)
        async with house.connect(short) as connection, house.connect(house.reader) as other:
            told = await message(connection, "error")
            assert told["code"] == "token_expired"
            assert time.time_ns() >= now_ns + 10**9
            assert await closed_with(connection) == CloseCode.ACCESS_ENDED
            await other.send('{"type":"ping"}')
            await message(other, "pong")
        assert house.counters["expelled"] == 1
        assert await refused_with(house.connect(short)) == 401

    with_house(tmp_path, work)


def test_a_revoked_token_ends_its_connections_within_a_second_and_no_other(
    tmp_path: Path,
) -> None:
    async def work(house: House) -> None:
        async with house.connect(house.reader) as victim, house.connect(house.operator) as other:
            await message(victim, "welcome")
            began_s = time.monotonic()
            house.store.revoke("reader", time.time_ns())
            assert (await message(victim, "error"))["code"] == "token_revoked"
            assert await closed_with(victim) == CloseCode.ACCESS_ENDED
            assert time.monotonic() - began_s < 1.0
            await other.send('{"type":"ping"}')
            await message(other, "pong")

    with_house(tmp_path, work)


def test_only_the_operate_scope_commands_and_the_name_goes_with_it(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        for command in (
            set_state(house.url, SetState("halted"), house.access(house.reader)),
            operate(house.url, Operate("reload"), house.access(house.reader)),
        ):
            with pytest.raises(StreamError, match="has not the scope 'operate'"):
                await command
        assert house.commands == []
        assert house.forbidden == [("reader", "set_state halted"), ("reader", "reload")]
        await set_state(house.url, SetState("halted"), house.access(house.operator))
        await operate(house.url, Operate("reload"), house.access(house.operator))
        assert house.commands == [("operator", "halted"), ("operator", "reload")]
        assert house.counters["refused_commands"] == 2

    with_house(tmp_path, work)


def test_the_operate_scope_alone_does_not_read(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        hand = house.store.issue("hand", (Scope.OPERATE,), time.time_ns(), None)
        await asyncio.sleep(0.1)
        await set_state(house.url, SetState("halted"), house.access(hand))
        with pytest.raises(StreamError, match="has not the scope 'read'"):
            await read_status(house.url, house.access(hand))

    with_house(tmp_path, work)


def test_a_flood_of_forbidden_commands_is_told_of_a_few_times(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        for _ in range(12):
            async with house.connect(house.reader) as connection:
                for _ in range(5):
                    await connection.send('{"type":"set_state","state":"halted"}')
                assert await closed_with(connection) == CloseCode.POLICY
        assert house.counters["refused_commands"] == 60
        assert 20 <= len(house.forbidden) <= 25
        assert house.commands == []

    with_house(tmp_path, work)


async def get_health(house: House, *headers: str) -> tuple[int, dict[str, Any]]:
    context = client_context(house.certificates.ca)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.stream.port, ssl=context)
    lines = ["GET /health HTTP/1.1", "Host: x", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), orjson.loads(body)


def test_a_stranger_is_told_whether_all_is_well_and_nothing_else(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        assert await get_health(house) == (200, {"healthy": True})
        bearer = f"Authorization: Bearer {house.reader}"
        assert await get_health(house, bearer) == (200, {"healthy": True, "ticks": 7})
        wrong = "Authorization: Bearer heqis_x"
        assert await get_health(house, wrong) == (200, {"healthy": True})

    with_house(tmp_path, work)


def test_a_server_that_is_not_trusted_is_not_sent_the_token(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other")

    async def work(house: House) -> None:
        client = SignalClient(house.url, access=Access(house.reader, other.ca))
        with pytest.raises(StreamError, match="not trusted"):
            await client.next_item()
        assert house.counters["token_missing"] == 0
        await wait_until(lambda: house.counters["handshakes_failed"] == 1)

    with_house(tmp_path, work)


def test_a_token_does_not_travel_in_the_clear() -> None:
    with pytest.raises(StreamError, match="wss:// only"):
        Access("heqis_x").options("ws://edge-7:8765")
    assert "additional_headers" in Access("heqis_x").options("ws://127.0.0.1:8765")


def test_this_machine_is_not_asked_for_through_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def work(house: House) -> None:
        await set_state(house.url, SetState("halted"), house.access(house.operator))

    with_house(tmp_path, work)


def test_old_tls_and_no_tls_are_refused_and_counted(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(house.certificates.ca)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSVersion"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSVersion"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)):
            await asyncio.open_connection("127.0.0.1", house.stream.port, ssl=old)
        reader, writer = await asyncio.open_connection("127.0.0.1", house.stream.port)
        writer.write(b"GET /health HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        await wait_until(lambda: house.counters["handshakes_failed"] == 2)

    with_house(tmp_path, work)


def test_a_renewed_certificate_serves_the_next_client_and_a_bad_one_does_not(
    tmp_path: Path,
) -> None:
    async def work(house: House) -> None:
        old = house.certificates.certificate.read_bytes()
        async with house.connect(house.reader) as stays:
            house.certificates.certificate.write_bytes(old[:200])
            await wait_until(lambda: house.stream.problems != [])
            async with house.connect(house.reader):
                pass
            house.certificates = make_certificates(tmp_path)
            await wait_until(lambda: house.stream.problems == [])
            async with house.connect(house.reader):
                pass
            await stays.send('{"type":"ping"}')
            await message(stays, "pong")

    with_house(tmp_path, work)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    files.key.chmod(0o644)
    config = StreamConfig.model_validate({"tls": files.tls})
    assert config.tls is not None
    with pytest.raises(ConfigError, match="others may use it"):
        ServerTls(config.tls)


def test_a_key_of_another_certificate_and_an_encrypted_one_are_refused(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    for pem in (trustme.CA().issue_cert("x").private_key_pem.bytes(), ENCRYPTED):
        files.key.write_bytes(pem)
        config = StreamConfig.model_validate({"tls": files.tls})
        assert config.tls is not None
        with pytest.raises(ConfigError):
            ServerTls(config.tls)


ENCRYPTED = b"""-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBBeRdDhB6v8hYkXoWJw
-----END ENCRYPTED PRIVATE KEY-----
"""


def test_one_address_knocks_so_often_and_others_are_let_in(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(30):
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind(("127.0.0.9", 0))
            await loop.sock_connect(sock, ("127.0.0.1", house.stream.port))
            sock.close()
        await wait_until(lambda: house.counters["handshakes_limited"] >= 15)
        async with house.connect(house.reader) as connection:
            await message(connection, "welcome")

    with_house(tmp_path, work, handshakes_per_s=1, handshake_burst=10)


def test_idle_strangers_make_room_oldest_first(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", house.stream.port) for _ in range(12)]
        await wait_until(lambda: house.counters["handshakes_displaced"] >= 8)
        async with house.connect(house.reader) as connection:
            await message(connection, "welcome")
        for _, writer in idle:
            writer.close()

    with_house(tmp_path, work, max_handshaking=4)


def test_no_token_is_ever_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    house = House(tmp_path)

    async def work() -> None:
        async with house.open(allowed_origins=[]):
            house.stream.publish(make_signal(9, 1))
            async with house.client(house.reader, from_seq=1) as client:
                await client.next_item()
            await refused_with(house.connect("heqis_of_a_stranger"))
            await refused_with(house.connect(house.reader, origin="https://evil.example"))
            await set_state(house.url, SetState("halted"), house.access(house.operator))
            house.store.revoke("reader", time.time_ns())
            await wait_until(lambda: not house.stream.clients)
            with pytest.raises(StreamError):
                await house.client(house.reader).next_item()
        caplog.set_level(logging.NOTSET)

    run(work)
    told = caplog.text + "".join(repr(record.args) for record in caplog.records)
    assert "refused a client" in told
    for secret in (house.reader, house.operator, "heqis_of_a_stranger"):
        assert secret not in told
        assert secret not in repr(house.access(secret))
        assert secret not in house.store.path.read_text()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "there is no authentication"),
        ({"tls": {"certificate": "c", "key": "k"}}, "there is no authentication"),
        ({"behind_proxy": True}, "there is no authentication"),
        ({"tokens": "t"}, "nothing encrypts"),
    ],
)
def test_another_address_without_authentication_and_tls_is_refused(
    settings: dict[str, Any], problem: str
) -> None:
    for host in ("0.0.0.0", "::", "10.0.0.7", "edge-7"):
        with pytest.raises(ValidationError, match=problem):
            StreamConfig.model_validate({"host": host, **settings})


def test_a_proxy_lets_nobody_in_without_a_token() -> None:
    with pytest.raises(ValidationError, match="through the proxy and there is no authentication"):
        StreamConfig.model_validate({"behind_proxy": True})
    StreamConfig.model_validate({"behind_proxy": True, "tokens": "t"})


def test_another_address_with_both_may_be_bound() -> None:
    tls = {"certificate": "c", "key": "k"}
    StreamConfig.model_validate({"host": "0.0.0.0", "tokens": "t", "tls": tls})
    StreamConfig.model_validate({"host": "0.0.0.0", "tokens": "t", "behind_proxy": True})
