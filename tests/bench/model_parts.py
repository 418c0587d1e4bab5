"""What the benchmarks about models share: bundles, windows out of a real kernel, inference."""

import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from bench.market import market_instruments, market_ticks

from engine.config import Config
from engine.core.candidates import Candidate, candidates_of
from engine.core.models import Floats, LoadOptions
from engine.model_desk import Pending, WindowGatherer
from engine.model_setup import SetModel, open_models
from runtime.asking import Answer
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.bundle import Bundle
from runtime.bundle_writer import write_bundle
from runtime.config import MAX_BATCH, InferenceConfig, ModelConfig
from runtime.inference import Inference
from runtime.loading import buckets_of
from runtime.manifest import Manifest
from runtime.prepared import PreparedModel
from strategies.bar_spec import BarKind, BarSpec
from strategies.kernel import Kernel
from strategies.plan import RuleRequest, make_plan
from strategies.registry import load_registry

ROOT: Final = Path(__file__).resolve().parents[2]
DEMO: Final = ROOT / "models" / "demo-tcn"
CLOCK: Final = "1s"
FAR_NS: Final = 1 << 60
"""A deadline that never comes."""
WIDE: Final = (3072, 3072)
"""Hidden layers of the slow model: small batches are bound by reading 38 MB of weights."""
_TICK_GAP_NS: Final = 1_000_000


def demo_bundle() -> Bundle:
    """Open the demo model's bundle."""
    return Bundle.open(DEMO)


def wide_bundle(directory: Path) -> Bundle:
    """Write a bundle of the demo's shape whose model is slow enough for a device's thread."""
    demo = demo_bundle()
    path = directory / "wide.onnx"
    _write_mlp(path, demo)
    form = msgspec.structs.replace(demo.manifest.reference, file="model.onnx")
    draft: Manifest = msgspec.structs.replace(demo.manifest, name="wide", forms=(form,), files={})
    inputs, _ = demo.parity()
    outputs = _run_once(path, inputs)
    return write_bundle(directory / "wide", draft, {"model.onnx": path}, inputs, outputs)


def _write_mlp(path: Path, demo: Bundle) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    window, features, outputs = demo.shape
    random = np.random.default_rng(7)
    sizes = (window * features, *WIDE, outputs)
    nodes = [helper.make_node("Flatten", ["window"], ["x0"], axis=1)]
    weights = []
    for place, (rows, columns) in enumerate(pairwise(sizes)):
        drawn = random.standard_normal((rows, columns)) / np.sqrt(rows)
        weights.append(numpy_helper.from_array(drawn.astype(np.float32), f"w{place}"))
        nodes.append(helper.make_node("MatMul", [f"x{place}", f"w{place}"], [f"y{place}"]))
        nodes.append(helper.make_node("Relu", [f"y{place}"], [f"x{place + 1}"]))
    last = f"y{len(sizes) - 2}"
    nodes[-1] = helper.make_node("Softmax", [last], ["probability"], axis=-1)
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("window", floats, ["batch", window, features])],
        [helper.make_tensor_value_info("probability", floats, ["batch", outputs])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def _run_once(path: Path, inputs: Floats) -> Floats:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"window": inputs})[0], np.float32)


def load_direct(bundle: Bundle, max_batch: int) -> PreparedModel:
    """Load a bundle's reference form as the engine would, with no batcher before it."""
    options = LoadOptions(buckets_of(max_batch))
    return OnnxRuntimeBackend().load(bundle.reference, bundle.shape, "cpu", options)


class Windows:
    """Windows in the rings of a real kernel, and the requests that point at them.

    Attributes:
        gather: The engine's own gatherer.
        contexts: One request a whole window, all of them still in the rings.
    """

    def __init__(self, instruments: int) -> None:
        kernel, made = _run_kernel(instruments)
        self.gather = WindowGatherer(kernel, MAX_BATCH)
        newest = {one.instrument: one for one in made if one.window}
        self.contexts = [Pending(one, (0, 0, 0, 0)) for one in newest.values()]


def _run_kernel(instruments: int) -> tuple[Kernel, list[Candidate]]:
    registry = load_registry()
    model = _set_model(registry)
    bar = BarSpec(CLOCK, BarKind.TIME, 1_000_000_000)
    request = RuleRequest("scored", "", CLOCK, model=model.window.name)
    plan = make_plan(registry, [bar], [request], models=[model.window])
    kernel = Kernel(plan, instruments)
    kernel.define(market_instruments(instruments))
    kernel.warm_up(bars=True)
    seconds = 3 * model.window.window
    ticks = market_ticks(seconds * instruments * 4, instruments, _TICK_GAP_NS * 250 // instruments)
    made: list[Candidate] = []
    at = 0
    while at < len(ticks):
        at = kernel.run_ticks(ticks, at, len(ticks))
        records = kernel.candidates[: kernel.n_candidates].tobytes()
        made += candidates_of(memoryview(records), kernel.n_candidates)
    return kernel, made


def _set_model(registry: Any) -> SetModel:
    tree = {
        "bars": [{"name": CLOCK, "interval": CLOCK}],
        "models": [{"name": "demo", "bundle": str(DEMO), "on": CLOCK}],
    }
    config = Config.model_validate(tree)
    return open_models(config.models, config.bars, registry)[0]


def make_inference(
    bundle: Bundle,
    gather: Callable[[int, Sequence[object], Floats], Sequence[bool]],
    on_answer: Callable[[Answer], None],
    *,
    max_batch: int = 64,
    inline: bool = True,
    inline_below_ns: int | None = None,
    deadline: str = "1s",
) -> Inference:
    """Make an inference with one model on the processor, on the loop thread or on a thread."""
    model = ModelConfig.model_validate(
        {
            "name": "demo",
            "bundle": bundle.path,
            "on": CLOCK,
            "max_batch": max_batch,
            "deadline": deadline,
        }
    )
    limit_ns = InferenceConfig().inline_below if inline_below_ns is None else inline_below_ns
    limit_ns = limit_ns if inline else 0
    config = InferenceConfig(inline_below=limit_ns)
    return Inference(config, [model], [bundle], gather=gather, on_answer=on_answer)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a directory for bundles made here."""
    return tempfile.TemporaryDirectory(prefix="heqis-bench-")
