from pathlib import Path

from pydantic import BaseModel

from engine.core.reasons import Reason
from engine.risk.config import RiskConfig

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "risk.md").read_text(encoding="utf-8")


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += keys_of(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def test_page_explains_every_reason() -> None:
    assert [reason for reason in Reason if f"| `{reason}` |" not in PAGE] == []


def test_page_names_every_setting() -> None:
    by_board = ("market.order_size.", "cost.fees.")
    keys = [key for key in keys_of(RiskConfig) if not key.startswith(by_board)]
    missing = [key for key in keys if key not in PAGE and key.partition(".")[2] not in PAGE]
    assert len(keys) > 25
    assert missing == []
