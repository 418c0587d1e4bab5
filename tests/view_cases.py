"""Signals and states of an engine for the tests of the terminal view."""

from typing import Any

from engine.client_state import Gap, Status
from engine.core.signals import Side, Signal
from engine.view_state import ViewState

NOON_NS = 1_709_553_600_123_000_000
LEFT = "3 answers were no numbers"
STAGES = ("wire", "ingest", "compute", "gate", "publish", "total")


def make_signal(seq: int, *, side: Side = "BUY", instrument: str = "BTCUSDT.SIM") -> Signal:
    return Signal(
        id=f"{seq:032x}",
        epoch=1,
        seq=seq,
        instrument=instrument,
        side=side,
        strength=0.25,
        confidence=0.75,
        price=61_234.5,
        edge_bps=None,
        strategy="macd",
        version="1",
        tick_epoch=1,
        tick_seq=seq,
        ts_event=NOON_NS,
        ts_recv=NOON_NS,
        ts_emit=NOON_NS,
        valid_until=NOON_NS,
        age_ns=1_500_000,
        gates=("data", "liquidity", "risk", "cost"),
    )


def make_status(**changes: Any) -> dict[str, Any]:
    """A healthy engine's status, in the shape ``StatusBoard.status`` gives it."""
    stage = {"p50": 900, "p99": 45_000, "p99_9": 2_000_000, "max": 3_000_000_000, "count": 12_000}
    return {
        "healthy": True,
        "problems": [],
        "state": "active",
        "uptime_s": 3_725.0,
        "instruments": 20,
        "ticks": 1_234_567,
        "ticks_per_s": 1_500.0,
        "bars": {"1s": 400, "5s": 80},
        "signals": 42,
        "refused": 58,
        "void": 0,
        "refusals": {"COST_EDGE": 50, "RISK_COOL_DOWN": 8},
        "input": {"frames": 9_000, "bytes": 90_000, "ticks": 1_234_567},
        "strategy_failures": {},
        "latency": {name: dict(stage, clock_faults=0) for name in STAGES},
        "loop": {"stalls": 0, "worst_ns": 1_200_000},
        "clock": {"offset_ns": -12_000, "error_bound_ns": 40_000},
        "clients": 1,
        "journal": {"committed": 42, "queued": 0},
        "rss_bytes": 223_346_688,
        **changes,
    }


def make_model_status(
    serves: str, bundle: str = "demo-tcn@1-71acb9f87483", **changes: Any
) -> dict[str, Any]:
    """The status of an engine with one model, served by one of its two devices or by none."""
    rungs = [
        {
            "rung": name, "serves": name == serves, "standing": "ready",
            "detail": "started" if name == serves else LEFT,
            "backend": "onnxruntime", "device": name, "precision": "fp32",
        }
        for name in ("cpu", "cpu:1")
    ]  # fmt: skip
    model = {
        "bundle": bundle, "device": serves, "backend": "onnxruntime", "precision": "fp32",
        "rungs": rungs, "scores": 12_345, "failures": {}, "swaps": 0, "shadow": None,
        "watch": None,
    }  # fmt: skip
    times = {"count": 90, "p50": 85_000, "p99": 370_000, "p99_9": 370_000, "max": 400_000}
    latency = {f"tcn/{name}": {"queue": times, "inference": times} for name in ("cpu", "cpu:1")}
    models = {"latency": latency, "serving": {"models": {"tcn": model}}}
    return make_status(models=models, **changes)


def make_state(signals: int = 5, *, seconds: int = 10, **changes: Any) -> ViewState:
    """A view that got one status a second and some signals; it is ``seconds`` o'clock."""
    state = ViewState("ws://127.0.0.1:8765", 0.0)
    for second in range(seconds):
        status = make_status(**{"ticks_per_s": 1_000.0 + second, **changes})
        state.take(Status(NOON_NS, status), second + 1.0)
    for seq in range(1, signals + 1):
        state.take(make_signal(seq, side="BUY" if seq % 2 else "SELL"), float(seconds))
    return state


def make_gap(first: int, last: int | None) -> Gap:
    return Gap(1, first, last, "conflated")
