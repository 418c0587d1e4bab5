"""The operator's hand on models: every command is on record, whatever came of it."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from engine.composition import resolve
from engine.config import Config
from engine.core.errors import ConfigError
from engine.model_control import ModelControl
from engine.stream_messages import Operate


class Sink:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        self.events.append((kind, dict(fields)))


def test_a_command_during_a_restart_is_journaled_like_any_other() -> None:
    live, regenerating = Sink(), Sink()
    control = ModelControl(resolve(Config()), lambda reason: None)
    judge = SimpleNamespace(sink=live)
    control.attach(SimpleNamespace(judge=judge))  # type: ignore[arg-type] # all that is asked of it
    judge.sink = regenerating
    command = Operate("device_fault", "cpu", "error")
    with pytest.raises(ConfigError, match="allow_faults"):
        asyncio.run(control.operate(command, "night-desk"))
    ((kind, fields),) = live.events
    assert (kind, fields["by"], fields["command"]) == (
        "operator_command",
        "night-desk",
        "device_fault",
    )
    assert "allow_faults" in fields["problem"]
    assert not regenerating.events
