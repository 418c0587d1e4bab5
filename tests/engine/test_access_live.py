"""A live engine with keys, tokens and TLS: who commands it stands in the journal, and no secret."""

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from certificates import make_certificates
from key_stores import make_stores
from live_cases import live_tree, wait_until
from stream_rig import run

from engine.access import Access
from engine.client import SignalClient
from engine.composition import resolve
from engine.config import Config
from engine.core.errors import StreamError
from engine.core.signals import Signal
from engine.daemon import Engine
from engine.operating import read_status, set_state
from engine.stream_auth import Scope
from engine.stream_messages import SetState
from engine.token_store import TokenStore
from feeds.gateway import Gateway


def journaled(path: Path, kind: str) -> list[dict[str, Any]]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT fields FROM events WHERE kind = ?", (kind,)).fetchall()
    return [orjson.loads(fields) for (fields,) in rows]


def test_ticks_over_curve_signals_over_tls_and_commands_with_names(tmp_path: Path) -> None:
    stores, files = make_stores(tmp_path), make_certificates(tmp_path)
    tokens = TokenStore(tmp_path / "tokens.json")
    reader = tokens.issue("dashboard", (Scope.READ,), time.time_ns(), None)
    operator = tokens.issue("night-desk", (Scope.READ, Scope.OPERATE), time.time_ns(), None)
    tree = live_tree(tmp_path, stream={"tokens": tokens.path, "tls": files.tls})
    tree["link"] |= stores.link
    tree["gateway"] |= stores.gateway_keys
    config = Config.model_validate(tree)

    async def work() -> None:
        async with Engine(resolve(config)) as engine:
            gateway = Gateway(config.gateway)
            sending = asyncio.create_task(gateway.run())
            url = f"wss://127.0.0.1:{engine.stream.port}"
            async with SignalClient(url, access=Access(reader, files.ca)) as client:
                assert isinstance(await client.next_item(), Signal)
            with pytest.raises(StreamError, match="scope 'operate'"):
                await set_state(url, SetState("halted"), Access(reader, files.ca))
            await set_state(url, SetState("halted"), Access(operator, files.ca))
            status = await read_status(url, Access(reader, files.ca))
            assert status["state"] == "halted"
            assert status["peers"]["accepted"] == 1
            assert gateway.status()["strangers"]["accepted"] == 1
            stores.engine.revoke("gateway")
            await wait_until(lambda: not engine.link.receiver.peers)
            gateway.stop()
            await sending

    run(work, 60)
    journal = tree["journal"]["path"]
    assert [(one["by"], one["to"]) for one in journaled(journal, "operator_state")] == [
        ("night-desk", "halted")
    ]
    assert journaled(journal, "operator_refused") == [
        {"command": "set_state halted", "by": "dashboard"}
    ]
    secrets = [reader, operator, *(store.own().secret for store in stores)]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "own.key":
            held = path.read_bytes()
            assert not any(secret.encode() in held for secret in secrets), path
