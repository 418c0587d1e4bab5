"""Strangers at every door, against real processes: refused, counted, and nobody else harmed."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from certificates import make_certificates
from process_rig import FULL, ROOT, RULES, Rig, eventually, source_toml

from engine.access import Access
from engine.client import Gap, SignalClient
from engine.core.signals import Signal
from engine.operating import read_status

QUIET_S: Final = 20.0 if FULL else 8.0
FLOOD_S: Final = 60.0 if FULL else 10.0
RATES: Final = {"knocks_per_s": 300, "begs_per_s": 15, "chats_per_s": 3, "picks_per_s": 20}
MOST_MORE_MS: Final = 25.0
"""What the flood may add to p99, beyond how late this process itself was woken meanwhile."""
BURST: Final = 100
PER_S: Final = 50.0
STRETCH: Final = 25
BEAT_S: Final = 0.005
WRONG_ORIGIN: Final = "https://evil.example"

pytestmark = [pytest.mark.slow, pytest.mark.alone]


class Fortress(Rig):
    """Gateway and engine with keys, tokens and TLS, set up by the commands a user has."""

    def __init__(self, directory: Path) -> None:
        self.certificates = make_certificates(directory)
        super().__init__(directory, RULES + source_toml(), {})
        self.stores = {name: directory / name for name in ("engine", "gateway", "unknown", "gone")}
        self.public = {
            name: self.said("keys", "new", str(store)) for name, store in self.stores.items()
        }
        engine, gateway = str(self.stores["engine"]), str(self.stores["gateway"])
        self.said("keys", "authorize", engine, "gateway", self.public["gateway"])
        self.said("keys", "authorize", gateway, "engine", self.public["engine"])
        for store in (engine, gateway):
            self.said("keys", "authorize", store, "gone", self.public["gone"])
            self.said("keys", "revoke", store, "gone")
        self.tokens = {
            "reader": self.token("reader", "90d"),
            "noisy": self.token("noisy", "90d"),
            "expired": self.token("expired", "1ms"),
            "revoked": self.token("revoked", "90d"),
        }
        self.said("token", "revoke", "revoked", "-f", "tokens.json")
        self.secrets = [*self.tokens.values(), *map(secret_of, self.stores.values())]
        with self.file.open("a", encoding="utf-8") as file:
            file.write(self._access())

    def _access(self) -> str:
        files = self.certificates
        return f"""
[link]
keys = "engine"
server_key = {json.dumps(self.public["gateway"])}

[gateway]
keys = "gateway"
server_keys = [{json.dumps(self.public["engine"])}]

[stream]
tokens = "tokens.json"
allowed_origins = ["https://desk.example"]
handshakes_per_s = {PER_S}
handshake_burst = {BURST}
tls = {{ certificate = "{files.certificate}", key = "{files.key}" }}
"""

    def said(self, *words: str) -> str:
        done = self.ask(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def token(self, name: str, expires: str) -> str:
        return self.said("token", "new", name, "--expires", expires, "-f", "tokens.json")

    @property
    def wss(self) -> str:
        return self.url.replace("ws://", "wss://")

    @property
    def access(self) -> Access:
        return Access(self.tokens["reader"], self.certificates.ca)

    def flood(self, seconds: float) -> "subprocess.Popen[str]":
        bad = ["", "heqis_made_up", self.tokens["expired"], self.tokens["revoked"]]
        plan = {
            "seconds": seconds, "port": self.port, **RATES,
            "endpoints": [self.environ[f"HEQIS__LINK__{end}"] for end in ("DATA", "CONTROL")],
            "stores": [str(self.stores[name]) for name in ("unknown", "gone")],
            "keys": [self.public["engine"], self.public["gateway"]],
            "pleas": [*((token, None) for token in bad), (self.tokens["reader"], WRONG_ORIGIN)],
            "noisy": self.tokens["noisy"],
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "intruders.py"), json.dumps(plan)],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            stdout=subprocess.PIPE,
            text=True,
        )


def secret_of(store: Path) -> str:
    line = (store / "own.key").read_text().splitlines()[-1]
    return line.partition('"')[2].rstrip('"')


class Watcher:
    """A good client: every signal's sequence number, and how long after its tick it came."""

    def __init__(self, client: SignalClient) -> None:
        self.client = client
        self.seqs: list[int] = []
        self.gaps: list[Gap] = []
        self.late_ns: list[int] = []
        self.woken_late_ns: list[int] = []
        self.marks = (0, 0)

    async def beat(self) -> None:
        """Tell how long this machine leaves a process waiting that has something to do."""
        while True:
            due_ns = time.monotonic_ns() + round(BEAT_S * 1e9)
            await asyncio.sleep(BEAT_S)
            self.woken_late_ns.append(time.monotonic_ns() - due_ns)

    async def read(self) -> None:
        async for item in self.client:
            if isinstance(item, Signal):
                self.seqs.append(item.seq)
                self.late_ns.append(time.time_ns() - item.ts_recv)
            elif isinstance(item, Gap):
                self.gaps.append(item)

    @property
    def woken_p99_ms(self) -> float:
        return float(np.percentile(self.woken_late_ns, 99)) / 1e6

    def p99_ms(self, since: int, until: int) -> float:
        """Return p99 over all, milliseconds."""
        return float(np.percentile(self.late_ns[since:until], 99)) / 1e6

    def typical_p99_ms(self, since: int, until: int) -> float:
        """Return the median of the p99s of stretches of ``STRETCH`` signals, milliseconds.

        What else this machine does comes in bursts and moves few of them; the flood lasts.
        """
        stretches = range(since, until - STRETCH + 1, STRETCH)
        return float(np.median([self.p99_ms(at, at + STRETCH) for at in stretches]))


def test_a_flood_of_strangers_is_refused_and_the_good_are_unharmed(tmp_path: Path) -> None:
    with Fortress(tmp_path) as rig:
        rig.start("engine")
        rig.start("gateway")
        eventually(lambda: rig.signals() > 20, "signals in the journal")
        watcher, done, status = asyncio.run(besiege(rig))
        logs = rig.log("engine") + rig.log("gateway")
    quiet, noisy = watcher.marks
    before, during = watcher.typical_p99_ms(0, quiet), watcher.typical_p99_ms(quiet, noisy)
    report = {
        "typical_p99_before_ms": before, "typical_p99_during_ms": during,
        "p99_before_ms": watcher.p99_ms(0, quiet),
        "p99_during_ms": watcher.p99_ms(quiet, noisy), "signals": watcher.marks,
        "woken_late_p99_ms": watcher.woken_p99_ms, "done": done,
    }  # fmt: skip
    sys.stdout.write(f"\nstrangers: {json.dumps(report)}\n{json.dumps(status['stream'])}\n")
    sys.stdout.write(f"{json.dumps(status['peers'])}\n")
    assert_unharmed(watcher, status, before, during)
    assert_refused(done, status)
    for secret in rig.secrets:
        assert secret not in logs


async def besiege(rig: Fortress) -> tuple[Watcher, dict[str, int], dict[str, Any]]:
    """Watch in quiet, then under the flood; return what was seen, what was done, the status."""
    watcher = Watcher(SignalClient(rig.wss, access=rig.access))
    reading = asyncio.create_task(watcher.read())
    await asyncio.sleep(1.0)
    watcher.late_ns.clear()
    await asyncio.sleep(QUIET_S)
    quiet = len(watcher.late_ns)
    beating = asyncio.create_task(watcher.beat())
    flood = rig.flood(FLOOD_S)
    done = json.loads(await asyncio.to_thread(lambda: flood.communicate()[0]))
    noisy = len(watcher.late_ns)
    status = await read_status(rig.wss, rig.access)
    for task in (reading, beating):
        task.cancel()
    await asyncio.gather(reading, beating, return_exceptions=True)
    watcher.marks = (quiet, noisy)
    return watcher, done, status


def assert_unharmed(watcher: Watcher, status: dict[str, Any], before: float, during: float) -> None:
    assert watcher.gaps == []
    assert watcher.client.stats.connects == 1
    assert watcher.seqs == list(range(watcher.seqs[0], watcher.seqs[0] + len(watcher.seqs)))
    assert status["healthy"], status["problems"]
    assert not any(count for name, count in status["input"].items() if "gap" in name)
    assert status["peers"]["cut_off"] == 0
    assert during <= before + MOST_MORE_MS + watcher.woken_p99_ms


def assert_refused(done: dict[str, int], status: dict[str, Any]) -> None:
    stream, peers = status["stream"], status["peers"]
    assert "let_in" not in done
    assert done["status_401"] > 20
    assert done["status_403"] > 5
    assert stream["refused_origins"] >= done["status_403"]
    assert done["closed_1008"] > 5
    for name in ("handshakes_limited", "handshakes_failed", "token_missing", "token_unknown",
                 "token_expired", "token_revoked", "rate_limited", "bad_messages"):  # fmt: skip
        assert stream[name] > 0, name
    let_knock = done["knocks"] - stream["handshakes_limited"]
    assert let_knock <= BURST + PER_S * (FLOOD_S + 5)
    assert peers["refused_unknown"] > 5
    assert peers["refused_revoked"] > 5
    assert peers["failed_handshakes"] > 20
    assert peers["refused_messages"] == 0
    assert peers["accepted"] == 1


def test_revoking_while_it_runs_ends_the_peer_and_the_client(tmp_path: Path) -> None:
    with Fortress(tmp_path) as rig:
        rig.start("engine")
        rig.start("gateway")
        eventually(lambda: rig.signals() > 5, "signals in the journal")
        asyncio.run(revoke_both(rig))
        before = rig.signals()
        time.sleep(1.0)
        assert rig.signals() <= before + 1


async def revoke_both(rig: Fortress) -> None:
    watcher = Watcher(SignalClient(rig.wss, access=rig.access))
    reading = asyncio.create_task(watcher.read())
    async with asyncio.timeout(60):
        while not watcher.seqs:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        rig.said("keys", "revoke", "engine", "gateway")
        noisy = Access(rig.tokens["noisy"], rig.certificates.ca)
        while True:
            peers = (await read_status(rig.wss, noisy))["peers"]
            if peers["cut_off"] and peers["refused_revoked"] > 1:
                break
        rig.said("token", "revoke", "reader", "-f", "tokens.json")
        with pytest.raises(Exception, match="was revoked"):
            await reading


def test_nothing_listens_beyond_the_machine_without_authentication(tmp_path: Path) -> None:
    with Rig(tmp_path, RULES) as rig:
        cases = {
            "HEQIS__LINK__DATA": ("engine", "tcp://*:5999", "link: "),
            "HEQIS__GATEWAY__CONTROL": ("gateway", "tcp://0.0.0.0:5998", "gateway: "),
            "HEQIS__STREAM__HOST": ("engine", "0.0.0.0", "stream: "),
        }
        for variable, (role, value, key) in cases.items():
            process = rig.start(role, environ={variable: value})
            assert process.wait(60) == 2, variable
            assert key in rig.log(role)
            assert "can be reached from other machines" in rig.log(role)
