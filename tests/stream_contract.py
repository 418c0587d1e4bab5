"""The AsyncAPI document as a judge of real messages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import yaml

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "asyncapi.yaml"


class Contract:
    """Validates messages against the payload schema of their type, and remembers what it saw."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
        self.seen: set[str] = set()

    @property
    def types(self) -> set[str]:
        return set(self.document["components"]["messages"])

    def schema(self, kind: str) -> Mapping[str, Any]:
        payload = self.document["components"]["messages"][kind]["payload"]
        return {**payload, "components": self.document["components"]}

    def check(self, data: bytes) -> dict[str, Any]:
        message: dict[str, Any] = orjson.loads(data)
        validator = jsonschema.Draft202012Validator(self.schema(message["type"]))
        validator.validate(message)
        self.seen.add(message["type"])
        return message
