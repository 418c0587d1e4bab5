"""Budgets at work, without an engine."""

import asyncio
import math
import threading
from pathlib import Path

import pytest

from engine import budgets as module
from engine.budgets import Budgets
from engine.pipeline import Pipeline
from engine.supervision_config import BudgetsConfig


def test_a_disk_that_does_not_answer_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def silent(path: Path) -> float:
        answers.wait(30)
        return 1.0

    monkeypatch.setattr(module, "disk_free_bytes", silent)
    limits = {"memory_frac": [1e-9, 2e-9, 3e-9], "hold": "0s", "check_interval": "5ms"}
    others: dict[str, object] = {"memory_available_bytes": [], "disk_free_bytes": []}

    async def main() -> tuple[str, float]:
        halted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        watch = Budgets(
            BudgetsConfig.model_validate({**limits, **others}),
            pipeline=Pipeline.__new__(Pipeline),
            journal=tmp_path / "journal.db",
            queue_frac=lambda: 0.0,
            batches=None,
            tell=lambda kind, fields: None,
            halt=lambda why: None if halted.done() else halted.set_result(why),
        )
        monkeypatch.setattr(watch, "_leave_out", lambda: None)
        running = asyncio.create_task(watch.run())
        try:
            async with asyncio.timeout(20):
                why = await halted
            told = watch.readings["disk_free_bytes"]
        finally:
            answers.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return why, told

    why, told = asyncio.run(main())
    assert "memory_frac" in why
    assert math.isnan(told)
