"""What one seed means: the settings of the world, and what befalls it when."""

import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
from simulation.devices import bundle_path

from engine.composition import Blueprint, resolve
from engine.config import Config

MS: Final = 1_000_000
DATA: Final = "tcp://127.0.0.1:5701"
CONTROL: Final = "tcp://127.0.0.1:5702"
FAULTY_MS: Final = 1_500
"""For so long things happen; then everything is well again, and all must come to rest."""


KINDS: Final = (
    "cut", "storm", "gateway_killed", "gateway_stopped", "gateway_leaves", "engine_killed",
    "engine_killed", "engine_stopped", "engine_leaves", "disk_full", "disk_broken", "disk_slow",
    "client_stalls", "client_drops", "device_fails", "device_hangs",
)  # fmt: skip
"""What may befall the world; each is over some time later."""


class Happening(NamedTuple):
    """Something that befalls the world."""

    at_ms: int
    what: str
    value: float = 0.0


class Scenario(msgspec.Struct):
    """What one seed means."""

    seed: int
    tree: dict[str, Any]
    happenings: list[Happening]
    clients: int
    unruly: bool
    """The network also drops, doubles and reorders single messages."""
    lax: bool
    """No limit of the risk gate depends on what was let through before, or on when a tick came."""
    models: bool
    """Strategies ask a model on a device."""
    hold_bytes: int
    ring_bytes: int
    spool: dict[str, int]
    """Bounds below what a configuration may say, so that a small world reaches them."""
    device_queue: int
    """Requests that may wait for the device."""


_STRATEGIES: Final = [
    {"name": "fast", "rule": "macd_cross", "on": "3t",
     "params": {"fast": 2, "slow": 3, "signal": 2}, "valid_for": "2s"},
    {"name": "trade", "rule": "macd_cross", "on": "trade",
     "params": {"fast": 2, "slow": 4, "signal": 2}, "valid_for": "300ms"},
]  # fmt: skip


_MODEL_STRATEGIES: Final = [
    {"name": "scored", "model": "tiny", "params": {"min_probability": 0.6, "every": 3}},
    {"name": "asks", "rule": "macd_cross", "on": "trade", "confirm": "tiny", "confirm_min": 0.5,
     "params": {"fast": 2, "slow": 3, "signal": 2}},
]  # fmt: skip


def make_scenario(seed: int) -> Scenario:
    """Draw everything from the seed."""
    rng = Random(f"{seed}/scenario")
    happenings = sorted(_happenings(rng))
    lax = rng.random() < 0.7
    bounds = Random(f"{seed}/bounds")
    return Scenario(
        seed=seed,
        tree=_tree(rng, lax=lax),
        lax=lax,
        models=rng.random() < 0.5,
        happenings=happenings,
        clients=rng.randint(1, 4),
        unruly=rng.random() < 0.5,
        hold_bytes=1 << rng.choice([12, 14, 26]),
        ring_bytes=1 << bounds.choice([12, 14, 26]),
        device_queue=bounds.choice([4, 16, 64]),
        spool={
            "rotate_bytes": 1 << rng.choice([12, 16]),
            "max_bytes": 1 << rng.choice([14, 16, 32]),
        },
    )


def _tree(rng: Random, *, lax: bool) -> dict[str, Any]:
    limits: dict[str, Any] = {
        "max_position": 0, "cool_down": 0 if lax else "20ms", "max_signals": 0 if lax else 200,
        "max_signals_per_instrument": 0 if lax else 50, "max_signals_per_strategy": 0,
    }  # fmt: skip
    ring_signals = rng.choice([16, 64, 8192])
    return {
        "link": {
            "data": DATA, "control": CONTROL, "slots": rng.choice([1, 8, 512]),
            "receive_hwm": rng.choice([4, 64, 4096]),
            "resend_give_up": f"{rng.choice([300, 2000, 5000])}ms",
            "resend_timeout": f"{rng.choice([20, 100, 250])}ms", "resend_behind": "1s",
        },
        "gateway": {
            "outputs": [DATA], "control": CONTROL,
            "ring_frames": rng.choice([16, 64, 16384]), "output_hwm": rng.choice([2, 32, 1000]),
            "resend_bytes": rng.choice([1 << 12, 1 << 18]),
            "resend_bytes_per_s": rng.choice([1 << 16, 1 << 26]),
            "spool": rng.random() < 0.8,
        },
        "bars": [{"name": "3t", "kind": "tick", "size": 3}],
        "strategies": _STRATEGIES,
        "risk": {
            "limits": limits,
            "data": {"max_late": "60s" if lax else "500ms", "gap_hold": 0 if lax else "50ms"},
            "cost": {"check_edge": False},
        },
        "engine": {
            "max_instruments": 4, "burst": rng.choice([257, 4096]), "hlog": None,
            "hlog_interval": "60s", "record": rng.random() < 0.8,
            "record_rotate_bytes": 1 << 16,
            "rehearse_every": 0 if rng.random() < 0.7 else "1ms",
            "snapshot_interval": f"{rng.choice([0, 150, 400, 30_000])}ms",
        },
        "journal": {
            "commit_rows": rng.choice([1, 4, 512]), "max_queued": rng.choice([48, 65536, 65536]),
            "on_full": rng.choice(["halt", "drop_refusals"]),
            "commit_interval": f"{rng.choice([0.1, 5, 20])}ms", "prune_interval": "700ms",
            "keep_signals": rng.choice([40, 1_000_000]), "resume_signals": 40,
        },
        "stream": {
            "port": 0, "ring_signals": ring_signals, "max_lag": rng.choice([8, ring_signals]),
            "snapshot_keys": rng.choice([2, 4096]), "send_buffer_bytes": 4096,
            "slice_signals": rng.choice([1, 128]), "turn_signals": rng.choice([1, 512]),
            "page_rows": rng.choice([1, 16, 128]), "heartbeat_interval": "200ms",
            "fan_out": rng.choice([1, 128]), "stall_timeout": "600ms",
        },
        "budgets": {"check_interval": "20s"},
    }  # fmt: skip


def _happenings(rng: Random) -> Iterator[Happening]:
    """Draw a few misfortunes, and how long each lasts."""
    for _ in range(rng.randint(1, 6)):
        at_ms = rng.randint(60, FAULTY_MS)
        for_ms = int(min(FAULTY_MS, rng.expovariate(1 / 150))) + 1
        kind, which = rng.choice(KINDS), rng.random()
        yield Happening(at_ms, kind, which)
        yield Happening(at_ms + for_ms, f"{kind}_over", which)


@cache
def _blueprint(models: bool) -> Blueprint:  # it is the key
    tree = _fixed(make_scenario(0).tree, Path(), models=models)
    return resolve(Config.model_validate(tree))


def blueprint_of(scenario: Scenario, directory: Path) -> Blueprint:
    """Return the scenario's configuration, resolved; what is compiled is shared by all."""
    config = Config.model_validate(_fixed(scenario.tree, directory, models=scenario.models))
    link = config.link.model_copy(update={"hold_bytes": scenario.hold_bytes})
    gateway = config.gateway.model_copy(update={"ring_bytes": scenario.ring_bytes})
    if gateway.spool is not None:
        spool = gateway.spool.model_copy(update=scenario.spool)
        gateway = gateway.model_copy(update={"spool": spool})
    config = config.model_copy(update={"link": link, "gateway": gateway})
    return dataclasses.replace(_blueprint(scenario.models), config=config)


def _fixed(tree: dict[str, Any], directory: Path, *, models: bool) -> dict[str, Any]:
    """Return the tree with its files in a directory, and its model, if it has one."""
    gateway, engine = dict(tree["gateway"]), dict(tree["engine"])
    spool = {
        "directory": directory / "spool", "rotate_bytes": 1 << 16, "max_bytes": 1 << 20,
        "memory": directory,
    }  # fmt: skip
    gateway["spool"] = spool if gateway["spool"] else None
    engine["record"] = directory / "recordings" if engine["record"] else None
    journal = {**tree["journal"], "path": directory / "journal.db"}
    fixed = {**tree, "gateway": gateway, "engine": engine, "journal": journal}
    if models:
        model = {"name": "tiny", "bundle": bundle_path(), "on": "trade", "deadline": "40ms"}
        fixed["models"] = [{**model, "check_share": 0.0}]
        fixed["strategies"] = [*tree["strategies"], *_MODEL_STRATEGIES]
    return fixed
