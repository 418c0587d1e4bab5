import asyncio
from collections.abc import Awaitable
from typing import Any, get_args

import jsonschema
import orjson
import pytest
import uvloop
from stream_contract import Contract
from stream_fakes import make_signal
from websockets.asyncio.client import ClientConnection, connect

from engine.stream import SignalStream
from engine.stream_config import StreamConfig
from engine.stream_messages import (
    ClientMessage,
    GapReason,
    GateState,
    Operate,
    ServerMessage,
    decode_client,
)

CONTRACT = Contract()
DATA_GAP = {"gateway": 1, "epoch": 5, "first_missing": 7, "missing": 2, "reason": "gone"}


def tags(union: object) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in get_args(union)}


def test_the_document_knows_exactly_the_messages_of_the_code() -> None:
    assert CONTRACT.types == tags(ClientMessage) | tags(ServerMessage)


@pytest.mark.parametrize(
    ("operation", "union"), [("fromClient", ClientMessage), ("toClient", ServerMessage)]
)
def test_each_direction_lists_its_messages(operation: str, union: object) -> None:
    listed = CONTRACT.document["operations"][operation]["messages"]
    assert {message["$ref"].rpartition("/")[2] for message in listed} == tags(union)


def references(part: object) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if "$ref" in part else set()
        return own.union(*map(references, part.values())) if part else own
    if isinstance(part, list):
        return set().union(*map(references, part))
    return set()


def test_every_reference_leads_somewhere() -> None:
    for reference in references(CONTRACT.document):
        place: Any = CONTRACT.document
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


@pytest.mark.parametrize("kind", sorted(CONTRACT.types))
def test_every_example_is_valid(kind: str) -> None:
    for example in CONTRACT.document["components"]["messages"][kind]["examples"]:
        data = orjson.dumps(example["payload"])
        Contract().check(data)
        if kind in tags(ClientMessage):
            decode_client(data)


def test_gap_reasons_are_those_of_the_code() -> None:
    listed = CONTRACT.schema("gap")["components"]["schemas"]["Gap"]["properties"]["reason"]["enum"]
    assert set(listed) == set(GapReason) - {GapReason.CHAIN_BROKEN}


def test_a_message_of_another_shape_is_not_valid() -> None:
    with pytest.raises(jsonschema.ValidationError):
        CONTRACT.check(b'{"type":"gap","sub":"main"}')


def halt(_wanted: GateState, _who: str) -> tuple[GateState, Awaitable[str]]:
    return "active", kept()


async def kept() -> str:
    return ""


def test_every_message_a_real_server_sends_is_as_the_document_says() -> None:
    contract = Contract()

    async def talk(connection: ClientConnection, stream: SignalStream) -> None:
        for message in (
            {"type": "ping", "id": "x"},
            {"type": "set_state", "state": "reducing"},
            {"type": "operate", "command": "model_swap", "model": "tcn", "value": "x"},
            {
                "type": "subscribe",
                "epoch": 8,
                "from_seq": 5,
                "topics": ["signals", "status", "data"],
            },
            {"type": "subscribe", "id": "far", "from_seq": 1000, "epoch": 9},
        ):
            contract.check(orjson.dumps(message))
            await connection.send(orjson.dumps(message), text=True)
        await connection.send('{"type":"nonsense"}')
        while contract.seen != contract.types:
            kind = contract.check(await connection.recv(decode=False))["type"]
            if kind == "snapshot":
                contract.check(b'{"type":"unsubscribe","id":"far"}')
                await connection.send('{"type":"unsubscribe","id":"far"}')
            elif kind == "heartbeat":
                stream.publish_status({"state": "ACTIVE"})
                stream.publish_data_gap(DATA_GAP)

    async def swap(message: Operate, _who: str) -> dict[str, str]:
        return {"bundle": message.value}

    async def main() -> None:
        config = StreamConfig(port=0, heartbeat_interval=50_000_000, check_interval=20_000_000)
        async with (
            asyncio.timeout(20),
            SignalStream(config, epoch=9, set_state=halt, operate=swap) as stream,
        ):
            for seq in range(1, 4):
                stream.publish(make_signal(9, seq))
            async with connect(f"ws://127.0.0.1:{stream.port}", close_timeout=1) as connection:
                await talk(connection, stream)

    uvloop.run(main())
