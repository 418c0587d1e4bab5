"""The terminal view shows who scores: a line a model, and behind each signal its device."""

import io
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console
from view_cases import make_signal, make_state

from engine.core.signals import Signal
from engine.view import render, signal_line, status_line
from engine.view_models import MAX_SHOWN, model_lines, scored_by

TIMES = {"count": 90, "p50": 85_000, "p99": 370_000, "p99_9": 370_000, "max": 400_000}


def rung(name: str, *, serves: bool, detail: str = "started") -> dict[str, Any]:
    told = {"rung": name, "serves": serves, "standing": "ready", "detail": detail}
    return told | {"backend": "onnxruntime", "device": name, "precision": "fp32"}


def model(*rungs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A model's part of the status, in the shape ``Inference.status`` gives it."""
    serving: dict[str, Any] = next((one for one in rungs if one["serves"]), {})
    return {
        "bundle": "demo-tcn@1-71acb9f87483",
        "device": serving.get("device", ""),
        "backend": serving.get("backend", ""),
        "precision": serving.get("precision", ""),
        "rungs": list(rungs),
        "scores": 1_234,
        "failures": {},
        "swaps": 0,
        "shadow": None,
        "watch": None,
        **changes,
    }


def status_of(**models: dict[str, Any]) -> dict[str, Any]:
    latency = {
        f"{name}/{one}": {"queue": TIMES, "inference": TIMES}
        for name in models
        for one in ("cpu", "cpu:1")
    }
    return {"models": {"latency": latency, "serving": {"models": models}}}


def texts(status: dict[str, Any], width: int = 160) -> list[str]:
    return [line.plain for line in model_lines(status, width)]


def scored(**changes: Any) -> Signal:
    told = {
        "model": "demo-tcn@1-71acb9f87483",
        "backend": "onnxruntime",
        "device": "cpu",
        "queue_ns": 30_000,
        "service_ns": 50_000,
        **changes,
    }
    return msgspec.structs.replace(make_signal(1), **told)


def test_an_engine_without_models_shows_nothing_of_them() -> None:
    assert texts({"models": {}}) == []
    assert "models" not in drawn({})


def test_a_model_shows_what_serves_how_fast_and_which_bundle() -> None:
    title, line = texts(status_of(tcn=model(rung("cpu", serves=True))))
    assert "models" in title
    for part in (
        "tcn", "onnxruntime@cpu fp32", "scores 1,234", "inference p50 85.0 µs p99 370 µs",
        "queue p50 85.0 µs", "demo-tcn@1-71acb9f87483",
    ):  # fmt: skip
        assert part in line, part
    assert "no score" not in line


def test_a_model_that_fell_back_says_from_what_and_why() -> None:
    left = rung("cpu", serves=False, detail="no answer within 1 s")
    line = texts(status_of(tcn=model(left, rung("cpu:1", serves=True))))[1]
    assert "onnxruntime@cpu:1 fp32 instead of cpu (no answer within 1 s)" in line


def test_a_model_without_a_device_says_so_and_counts_what_got_no_score() -> None:
    left = rung("cpu", serves=False, detail="broken on purpose")
    line = texts(status_of(tcn=model(left, failures={"MODEL_UNAVAILABLE": 40, "MODEL_LATE": 2})))[1]
    assert "no device left: broken on purpose" in line
    assert "no score 42" in line


def test_a_candidate_beside_a_model_is_named() -> None:
    shadowed = model(rung("cpu", serves=True), shadow={"bundle": "demo-tcn@2-b5b0e1"})
    assert "beside it demo-tcn@2-b5b0e1" in texts(status_of(tcn=shadowed))[1]


def test_only_the_first_models_have_lines() -> None:
    many = {f"m{n}": model(rung("cpu", serves=True)) for n in range(MAX_SHOWN + 3)}
    lines = texts(status_of(**many))
    assert len(lines) == 1 + MAX_SHOWN
    assert f"{MAX_SHOWN} of {MAX_SHOWN + 3}" in lines[0]


def test_a_signal_says_what_scored_it_and_how_long_that_took() -> None:
    assert scored_by(make_signal(1), wide=True)[0] == "rule"
    assert scored_by(scored(), wide=True)[0] == "onnxruntime@cpu 80.0 µs"
    assert scored_by(scored(device="cpu:1"), wide=False)[0] == "cpu:1 80.0 µs"
    assert "(onnxruntime@cpu 80.0 µs)" in signal_line(scored())


def drawn(changes: dict[str, Any], width: int = 80, height: int = 24) -> str:
    state = make_state(40, **changes)
    state.take(scored(), 10.0)
    console = Console(file=io.StringIO(), record=True, width=width, height=height)
    console.print(render(state, width, height, 10.0))
    return console.export_text()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 30), (200, 60)])
def test_models_fit_into_the_terminal(width: int, height: int) -> None:
    left = rung("cpu", serves=False, detail="it said something long " * 9)
    lines = drawn(status_of(tcn=model(left)), width, height).splitlines()
    assert height - 1 <= len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert any("no device left" in line for line in lines)
    assert any("80.0 µs" in line for line in lines)


def test_the_plain_line_tells_of_models_too() -> None:
    state = make_state(1, **status_of(tcn=model(rung("cpu", serves=True))))
    assert "model tcn: onnxruntime@cpu fp32, 1,234 scores" in status_line(state)
