"""What is printed of a running engine's models."""

from typing import Any

import pytest

from engine.cli.model_text import print_served


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
