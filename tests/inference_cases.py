"""Bundles of tiny models, and the engine's side of inference: windows by context."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from tiny_models import MLP_SHAPE, make_constant, make_mlp, random_windows, reference_outputs

from engine.core.models import Floats, ModelShape
from runtime.asking import Answer, Ask, ModelEvent
from runtime.bundle import Bundle
from runtime.bundle_writer import write_bundle
from runtime.config import ModelConfig
from runtime.manifest import Manifest

FAR_NS: Final = 10**18
"""A deadline that never comes."""


def draft(name: str, version: str, shape: ModelShape) -> Manifest:
    """Return a manifest whose hashes are still to be taken."""
    tree = {
        "format": 1,
        "name": name,
        "version": version,
        "window": shape.window,
        "features": [
            {"name": f"f{column}", "of": f"roc(length={column + 1})"}
            for column in range(shape.features)
        ],
        "clock": {"kind": "every_tick"},
        "normalisation": {"kind": "in_graph"},
        "output": {
            "meaning": "direction",
            "labels": ["down", "flat", "up"],
            "range": [0.0, 1.0],
            "sum": 1.0,
            "move_bps": [-1.0, 0.0, 1.0],
        },
        "horizon": "10s",
        "training": {"data_sha256": "0" * 64},
        "metrics": {},
        "parity": {"file": "parity.npz", "tolerance": {"fp32": 1e-4}},
        "forms": [
            {
                "file": "model.onnx",
                "format": "onnx",
                "precision": "fp32",
                "opset": 17,
                "reference": True,
            }
        ],
    }
    return msgspec.convert(tree, Manifest)


def make_bundle(
    path: Path,
    *,
    name: str = "tiny",
    version: str = "1",
    seed: int = 7,
    shape: ModelShape = MLP_SHAPE,
    hidden: int = 16,
) -> Bundle:
    """Write the bundle of a small MLP."""
    model = make_mlp(path.with_suffix(".onnx"), shape, hidden=hidden, seed=seed)
    inputs = random_windows(shape, 8, seed=3)
    sources: dict[str, Path | bytes] = {"model.onnx": model}
    return write_bundle(
        path, draft(name, version, shape), sources, inputs, reference_outputs(model, inputs)
    )


def make_odd_bundle(path: Path, values: Sequence[float], expected: Sequence[float]) -> Bundle:
    """Write the bundle of a model that answers ``values`` and whose manifest says ``expected``."""
    model = make_constant(path.with_suffix(".onnx"), values)
    inputs = random_windows(MLP_SHAPE, 8, seed=3)
    outputs = np.tile(np.asarray(expected, np.float32), (8, 1))
    return write_bundle(path, draft("odd", "1", MLP_SHAPE), {"model.onnx": model}, inputs, outputs)


def config(bundle: Bundle, *placement: str, name: str = "tiny", **more: Any) -> ModelConfig:
    """Return the configuration of a model that serves a bundle."""
    tree = {"name": name, "bundle": bundle.path, "on": "tick", "placement": placement or ("cpu",)}
    return ModelConfig.model_validate(tree | {"check_share": 0.0} | more)


class Windows:
    """What the engine keeps: a window a context, some of them gone.

    Attributes:
        rows: The windows, shape (N, W, F); a context is an index.
        gone: Contexts whose window has been overwritten.
        gathers: Contexts of each gather so far.
    """

    def __init__(self, shape: ModelShape = MLP_SHAPE, count: int = 64) -> None:
        self.rows: Floats = random_windows(shape, count)
        self.gone: set[object] = set()
        self.gathers: list[list[object]] = []

    def gather(self, model: int, contexts: Sequence[object], out: Floats) -> list[bool]:
        """Fill windows in as the engine would."""
        self.gathers.append(list(contexts))
        there = []
        for place, context in enumerate(contexts):
            assert isinstance(context, int)
            if context not in self.gone:
                out[place] = self.rows[context]
            there.append(context not in self.gone)
        return there


class Told:
    """What was answered and told, in order."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.events: list[ModelEvent] = []
        self.more = asyncio.Event()

    def on_answer(self, answer: Answer) -> None:
        """Keep an answer."""
        self.answers.append(answer)
        self.more.set()

    def on_event(self, event: ModelEvent) -> None:
        """Keep an event."""
        self.events.append(event)
        self.more.set()

    async def until(self, true: Callable[[], bool], limit_s: float = 20.0) -> None:
        """Wait until what was told makes something true."""
        async with asyncio.timeout(limit_s):
            while not true():
                self.more.clear()
                await self.more.wait()

    async def until_answered(self, count: int) -> None:
        """Wait until so many answers came, and no more."""
        await self.until(lambda: len(self.answers) >= count)
        assert len(self.answers) == count

    def of_kind(self, kind: str) -> list[dict[str, object]]:
        """Return the fields of the events of a kind."""
        return [event.fields for event in self.events if event.kind == kind]


def asks(contexts: Sequence[int], model: int = 0, deadline_ns: int = FAR_NS) -> list[Ask]:
    """Return one request a context."""
    return [Ask(model, deadline_ns, context) for context in contexts]
