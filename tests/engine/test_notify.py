"""The service manager's protocol over real datagram sockets, both ends."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.notify import Notifier, NotifyListener, own_notifier, without_manager

PID = 4711


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager's end: systemd's is the same."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(path)
        bound.settimeout(5)
        yield path, bound


def heard(bound: socket.socket) -> list[str]:
    return bound.recv(4096).decode().splitlines()


def test_what_is_said_arrives_as_lines(manager: tuple[str, socket.socket]) -> None:
    path, bound = manager
    notifier = Notifier(path, 2_000_000_000)
    assert notifier.heard
    assert notifier.ready("live\nafter 1 s")
    assert heard(bound) == ["READY=1", "STATUS=live after 1 s"], "one line, whatever is in it"
    assert notifier.feed()
    assert heard(bound) == ["WATCHDOG=1"]
    assert notifier.extend("half way", 30_000_000_000)
    assert heard(bound) == ["EXTEND_TIMEOUT_USEC=30000000", "STATUS=half way"]
    assert notifier.reloading(5_000_000)
    assert heard(bound) == ["RELOADING=1", "MONOTONIC_USEC=5000"]
    assert notifier.status("x" * 500)
    assert len(heard(bound)[0]) == len("STATUS=") + 200
    assert notifier.stopping("bye")
    assert heard(bound) == ["STOPPING=1", "STATUS=bye"]
    assert (notifier.sent, notifier.unsent) == (6, 0)
    notifier.close()
    notifier.close()
    assert not notifier.feed()


def test_an_abstract_address_works_too() -> None:
    name = f"heqis-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(f"\0{name}")
        bound.settimeout(5)
        notifier = Notifier(f"@{name}")
        assert notifier.feed()
        assert heard(bound) == ["WATCHDOG=1"]
        notifier.close()


def test_a_manager_that_is_away_or_reads_nothing_costs_a_count(
    manager: tuple[str, socket.socket], tmp_path: Path
) -> None:
    nobody = Notifier(str(tmp_path / "nobody"))
    assert not nobody.feed()
    assert nobody.unsent == 1
    nobody.close()
    path, _ = manager
    busy = Notifier(path)
    began = time.monotonic()
    while busy.feed():
        assert busy.sent < 1_000_000
    assert time.monotonic() - began < 5
    assert busy.unsent == 1
    busy.close()


def test_without_a_manager_nothing_is_said_and_nothing_owed() -> None:
    notifier = Notifier.from_environment({"WATCHDOG_USEC": "2000000"}, PID)
    assert not notifier.heard
    assert notifier.watchdog_ns == 0
    assert not notifier.ready("live")


@pytest.mark.parametrize(
    ("variables", "watchdog_ns"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "2000000"}, 2_000_000_000),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(PID)}, 2_000_000_000),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "\u00b2"}, 0),
    ],
)
def test_the_environment_says_how_often(
    tmp_path: Path, variables: dict[str, str], watchdog_ns: int
) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), **variables}
    notifier = Notifier.from_environment(environ, PID)
    assert notifier.watchdog_ns == watchdog_ns
    notifier.close()


def test_an_address_of_another_kind_is_no_manager() -> None:
    assert not Notifier.from_environment({"NOTIFY_SOCKET": "vsock:2:1234"}, PID).heard


def test_children_do_not_speak_for_us(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert without_manager({"A": "b", "NOTIFY_SOCKET": "/x"}) == {"A": "b"}
    notifier = own_notifier()
    assert notifier.watchdog_ns == 1_000_000_000
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)
    notifier.close()


def test_a_listener_follows_a_childs_life(tmp_path: Path) -> None:
    with NotifyListener(tmp_path / "child") as listener:
        child = Notifier(str(listener.path), 1_000_000)
        listener.take(5)
        assert not listener.is_ready
        child.status("starting")
        child.ready("live")
        listener.take(10)
        assert (listener.is_ready, listener.status, listener.fed_ns) == (True, "live", 10)
        child.status("still live")
        listener.take(20)
        assert listener.fed_ns == 10, "a status is no sign of life"
        child.feed()
        listener.take(30)
        assert listener.fed_ns == 30
        child.stopping("bye")
        listener.take(40)
        assert listener.is_stopping
        listener.reset()
        assert (listener.is_ready, listener.is_stopping, listener.fed_ns) == (False, False, 0)
        child.close()
    assert not listener.path.exists()
    listener.take(50)


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"no equals sign", b"A=1\nB", b"\0" * 9000])
def test_garbage_is_counted_and_changes_nothing(tmp_path: Path, garbage: bytes) -> None:
    with (
        NotifyListener(tmp_path / "child") as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger,
    ):
        stranger.sendto(garbage, str(listener.path))
        listener.take(1)
        assert not listener.is_ready
        assert listener.refused == bool(garbage)
