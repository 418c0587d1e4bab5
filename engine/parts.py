"""What a configuration comes to, part by part: journaled at every start, for who compares later.

A snapshot's identity says whether two engines decide alike; this says in what they differ.
"""

import hashlib
import inspect
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec
import numba
import orjson

from engine.composition import Blueprint
from engine.pipeline import Pipeline
from strategies.plan import IndicatorInstance, KernelPlan

CONFIGURED: Final = "configured"
"""Kind of the journal's event with the parts."""
Parts = dict[str, dict[str, Any]]


def parts_of(blueprint: Blueprint, pipeline: Pipeline) -> Parts:
    """Return what decisions depend on, by part: JSON can hold it.

    Args:
        blueprint: The configuration, resolved.
        pipeline: Built from it.

    Returns:
        ``program`` (versions, machine, the kernel's key), ``bars`` by name, ``indicators`` by label
        with a hash of their source, ``models`` by name, ``strategies`` by name with what goes into
        their ids, and ``risk`` with a hash of its rulebook.
    """
    config, plan = blueprint.config, blueprint.plan
    return {
        "program": {
            "version": own_version(),
            "python": platform.python_version(),
            "numba": numba.__version__,
            "machine": platform.machine(),
            "kernel": pipeline.kernel.key,
        },
        "bars": {bar.name: bar.model_dump(mode="json") for bar in config.bars},
        "indicators": {label_of(one): _hash_of(one.spec.update) for one in plan.indicators},
        "models": {
            model.config.name: {
                "bundle": model.bundle.identity,
                "on": model.config.on,
                "window": model.window.window,
            }
            for model in blueprint.models
        },
        "strategies": _strategies(blueprint, pipeline),
        "risk": {
            **pipeline.gate.config.model_dump(mode="json", exclude={"state"}),
            "rules": _rulebook(pipeline.gate.config.market.rulebook),
        },
    }


def own_version() -> str:
    """Return this program's version, "" where it runs without having been installed."""
    try:
        return version("heqis")
    except PackageNotFoundError:
        return ""


def label_of(instance: IndicatorInstance) -> str:
    """Return what people call an indicator with its parameters on its clock."""
    params = ", ".join(f"{name}={value:g}" for name, value in instance.params.items())
    return f"{instance.spec.name}({params}) on {instance.clock}"


def labels_of(plan: KernelPlan) -> dict[str, str]:
    """Return what people call each field of a kernel's state, in the order of its making."""
    return {
        "m": "market",
        "x": "sample",
        **{f"b{index}": f"bar {bar.name}" for index, bar in enumerate(plan.bars)},
        **{one.field: f"indicator {label_of(one)}" for one in plan.indicators},
        **{model.field: f"window {model.name}" for model in plan.models},
        **{rule.field: f"rule {rule.name}" for rule in plan.rules},
    }


def _strategies(blueprint: Blueprint, pipeline: Pipeline) -> dict[str, Any]:
    sources = [_hash_of(rule.spec.decide) for rule in blueprint.plan.rules]
    sources += [_hash_of(type(strategy)) for _, strategy in blueprint.python]
    return {
        facts.name: {
            "version": facts.version,
            "parameters": orjson.loads(facts.parameters),
            "valid_for_ns": facts.valid_for_ns,
            "instruments": list(facts.instruments),
            "source": source,
        }
        for facts, source in zip(pipeline.judge.strategies, sources, strict=True)
    }


def _hash_of(thing: Any) -> str:
    """Return a hash of the source file in which a function or a class stands."""
    thing = getattr(thing, "py_func", thing)
    try:
        source = Path(inspect.getfile(thing)).read_bytes()
    except (OSError, TypeError):
        source = repr(thing).encode()
    return hashlib.sha256(source).hexdigest()[:16]


def _rulebook(path: Path | None) -> str:
    return "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def as_json(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return parts as they come back from a journal: what JSON does not have is text."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(msgspec.to_builtins(parts), default=str))
    return found
