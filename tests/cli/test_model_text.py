"""What is printed of a running engine's models."""

from typing import Any

import pytest

from engine.cli.model_text import print_served, shadow_text, watch_text


def times(p50_ns: int) -> dict[str, Any]:
    return {"count": 3, "p50": p50_ns, "p99": p50_ns, "max": p50_ns}


def test_times_are_told_of_every_device_of_a_model_and_of_what_answers_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = {
        "bundle": "tcn@1-0123456789ab", "rungs": [], "scores": 3, "swaps": 0, "failures": {},
        "shadow": None, "watch": None,
    }  # fmt: skip
    latency = {
        "tcn/cpu": {"inference": times(11_000)},
        "tcn/openvino/openvino@cpu": {"inference": times(12_000)},
        "tcn/shadow/cpu": {"inference": times(13_000)},
        "tcn.2/cpu": {"inference": times(99_000)},
    }
    print_served({"serving": {"models": {"tcn": model}}, "latency": latency})
    told = " ".join(capsys.readouterr().out.split())
    assert "inference on cpu p50 11" in told
    assert "inference on openvino@cpu p50 12" in told
    assert "inference on cpu, shadow p50 13" in told
    assert "p50 99" not in told


WATCH = {
    "checks": 1_200, "outside": 0, "alarm": False, "max_abs": 1.234e-7, "tolerance": 1e-5,
    "unchecked": 0,
}  # fmt: skip
SHADOW = {
    "bundle": "tcn@2-ba9876543210", "backend": "onnxruntime", "device": "cpu", "compared": 500,
    "unanswered": 3, "disagreed": 12, "max_abs": 0.125, "rms": 0.03,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "1,200 inputs checked, none outside, 1.2e-07 off at most, 1e-05 allowed"),
        ({"outside": 7, "alarm": True}, "ALARM: 1,200 inputs checked, 7 outside"),
        ({"checks": 0, "unchecked": 2}, "no input checked yet, 2 not comparable"),
    ],
)
def test_the_precision_watch_is_told_in_words(changes: dict[str, Any], told: str) -> None:
    assert watch_text({**WATCH, **changes}).startswith(told)
    assert watch_text(None).startswith("not watched")


def test_a_candidates_comparison_is_told_in_words() -> None:
    assert shadow_text(SHADOW) == (
        "tcn@2-ba9876543210 on onnxruntime@cpu: decided otherwise in 12 of 500 (2.4%), "
        "0.12 apart at most, 3 without an answer"
    )
    assert shadow_text({**SHADOW, "compared": 0}).endswith(
        "nothing compared yet, 3 without an answer"
    )
    assert shadow_text(None) == "nobody"


def test_the_placement_is_a_table_of_who_serves_since_when_and_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = {
        "rung": "gpu", "standing": "left", "serves": False, "for_s": 65.0, "cause": "DEVICE_FAILED",
        "detail": "broken on purpose", "backend": "tensorrt", "precision": "fp16",
        "parity_max_abs": 0.00123,
    }  # fmt: skip
    absent = {
        "rung": "dla:0", "standing": "absent", "serves": False, "for_s": None,
        "cause": "DEVICE_ABSENT", "detail": "it has no dla:0",
    }  # fmt: skip
    serves = {
        "rung": "cpu", "standing": "ready", "serves": True, "for_s": 64.0, "cause": "STARTED",
        "detail": "parity 1e-07", "backend": "onnxruntime", "precision": "fp32",
        "parity_max_abs": 1e-7,
    }  # fmt: skip
    model = {
        "bundle": "tcn@1-0123456789ab", "rungs": [left, absent, serves], "scores": 3, "swaps": 1,
        "failures": {"MODEL_LATE": 2, "MODEL_UNAVAILABLE": 1_000}, "shadow": SHADOW, "watch": WATCH,
    }  # fmt: skip
    print_served({"serving": {"models": {"tcn": model}}, "latency": {}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["gpu", "left", "0:01:05", "tensorrt", "fp16", "1.2e-03", "broken", "on", "purpose"] in (
        lines
    )
    assert ["dla:0", "absent", "-", "-", "-", "-", "it", "has", "no", "dla:0"] in lines
    assert ["cpu", "serves", "0:01:04", "onnxruntime", "fp32", "1.0e-07", "parity", "1e-07"] in (
        lines
    )
    assert ["no", "score", "MODEL_LATE", "2,", "MODEL_UNAVAILABLE", "1,000"] in lines
    assert ["scores", "3,", "swapped", "once"] in lines
    assert any(line[:2] == ["beside", "it"] and "otherwise" in line for line in lines)
    assert any(line[:1] == ["precision"] and "checked," in line for line in lines)
