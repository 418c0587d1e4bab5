"""Makes small ONNX models without a training framework, and computes them in plain NumPy.

All take "window", float32 (batch, W, F) with a dynamic batch, and give "probability", float32
(batch, O). Weights come from a seed, so that two calls make the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from engine.core.models import Floats, ModelFile, ModelShape, Precision

INPUT: Final = "window"
OUTPUT: Final = "probability"
MLP_SHAPE: Final = ModelShape(8, 4, 3)
TCN_SHAPE: Final = ModelShape(32, 8, 3)
_OPSET: Final = 17
_IR_VERSION: Final = 8
_KERNEL: Final = 3
_INT64: Final = 7
"""``TensorProto.INT64``."""


class _Graph:
    """Collects nodes and weights; every method returns the name of what it made."""

    def __init__(self, seed: int) -> None:
        self._onnx = pytest.importorskip("onnx", reason="tiny models are made with onnx.helper")
        self._random = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{kind.lower()}_{len(self._nodes)}"
        make_node = self._onnx.helper.make_node
        self._nodes.append(make_node(kind, list(inputs), [name], name=f"n_{name}", **attributes))
        return name

    def constant(self, values: Any) -> str:
        name = f"c_{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def weights(self, *shape: int) -> str:
        """Draw weights that keep activations near one."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 25
        drawn = self._random.standard_normal(shape) / np.sqrt(fan_in)
        return self.constant(drawn.astype(np.float32))

    def dense(self, source: str, inputs: int, outputs: int) -> str:
        return self.node("Gemm", source, self.weights(outputs, inputs), self.weights(outputs),
                         transB=1)  # fmt: skip

    def causal_conv(self, source: str, inputs: int, outputs: int, dilation: int) -> str:
        return self.node(
            "Conv",
            source,
            self.weights(outputs, inputs, _KERNEL),
            self.weights(outputs),
            kernel_shape=[_KERNEL],
            dilations=[dilation],
            pads=[(_KERNEL - 1) * dilation, 0],
        )

    def save(self, path: Path, shape: ModelShape) -> Path:
        helper, float32 = self._onnx.helper, self._onnx.TensorProto.FLOAT
        window, features, outputs = shape
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            [helper.make_tensor_value_info(INPUT, float32, ["batch", window, features])],
            [helper.make_tensor_value_info(OUTPUT, float32, ["batch", outputs])],
            self._weights,
        )
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
        self._onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._onnx.save(model, str(path))
        return path


def make_mlp(path: Path, shape: ModelShape = MLP_SHAPE, *, hidden: int = 16, seed: int = 7) -> Path:
    """Write flatten, dense, ReLU, dense, softmax. A large ``hidden`` makes it slow on purpose."""
    graph = _Graph(seed)
    flat = graph.node("Flatten", INPUT, axis=1)
    first = graph.dense(flat, shape.window * shape.features, hidden)
    logits = graph.dense(graph.node("Relu", first), hidden, shape.outputs)
    graph.node("Softmax", logits, output=OUTPUT, axis=-1)
    return graph.save(path, shape)


def make_tcn(
    path: Path, shape: ModelShape = TCN_SHAPE, *, channels: int = 16, blocks: int = 3, seed: int = 7
) -> Path:
    """Write a causal TCN: normalisation, dilated convolutions with residuals, the last step."""
    graph = _Graph(seed)
    mean = graph.constant(np.linspace(-0.5, 0.5, shape.features, dtype=np.float32))
    scale = graph.constant(np.linspace(0.5, 2.0, shape.features, dtype=np.float32))
    normal = graph.node("Mul", graph.node("Sub", INPUT, mean), scale)
    here, width = graph.node("Transpose", normal, perm=[0, 2, 1]), shape.features
    for block in range(blocks):
        out = graph.node("Relu", graph.causal_conv(here, width, channels, 1 << block))
        here = graph.node("Add", here, out) if width == channels else out
        width = channels
    last = graph.node("Gather", here, graph.constant(np.int64(shape.window - 1)), axis=2)
    graph.node("Softmax", graph.dense(last, channels, shape.outputs), output=OUTPUT, axis=-1)
    return graph.save(path, shape)


def make_constant(path: Path, values: Sequence[float], shape: ModelShape = MLP_SHAPE) -> Path:
    """Write a model that answers ``values`` whatever it is asked: NaN, 2, no distribution."""
    graph = _Graph(0)
    flat = graph.node("Flatten", INPUT, axis=1)
    zeros = graph.constant(
        np.zeros((shape.window * shape.features, shape.outputs), dtype=np.float32)
    )
    nothing = graph.node("MatMul", flat, zeros)
    graph.node("Add", nothing, graph.constant(np.asarray(values, np.float32)), output=OUTPUT)
    return graph.save(path, shape)


class Sure:
    """A constant answer to which a subgraph adds nothing, or does harm."""

    def __init__(self, shape: ModelShape) -> None:
        self.shape = shape
        self.graph = _Graph(0)
        self._answer = np.linspace(0.2, 0.4666667, shape.outputs, dtype=np.float32)

    def excess(self, above: float, times: float = 1.0) -> str:
        """Name how far the window's largest value is above something: 0 if it is not."""
        graph = self.graph
        most = graph.node("ReduceMax", INPUT, keepdims=0)
        beyond = graph.node("Relu", graph.node("Sub", most, graph.constant(np.float32(above))))
        return graph.node("Mul", beyond, graph.constant(np.float32(times)))

    def save(self, path: Path, harm: str) -> Path:
        """Write the model that answers once ``harm``, a number, is known."""
        graph, shape = self.graph, self.shape
        flat = graph.node("Flatten", INPUT, axis=1)
        zeros = np.zeros((shape.window * shape.features, shape.outputs), np.float32)
        nothing = graph.node("MatMul", flat, graph.constant(zeros))
        none = graph.node("Mul", harm, graph.constant(np.float32(0)))
        sure = graph.node("Add", nothing, graph.constant(self._answer / self._answer.sum()))
        graph.node("Add", sure, none, output=OUTPUT)
        return graph.save(path, shape)


def make_nan_above(path: Path, above: float, shape: ModelShape = MLP_SHAPE) -> Path:
    """Write a model that answers NaN where a value of the window is above something."""
    sure = Sure(shape)
    return sure.save(path, sure.graph.node("Sqrt", sure.graph.node("Neg", sure.excess(above))))


def make_raise_above(path: Path, above: float, shape: ModelShape = MLP_SHAPE) -> Path:
    """Write a model that reads beyond a table where a value of the window is above something."""
    sure = Sure(shape)
    place = sure.graph.node("Cast", sure.excess(above), to=_INT64)
    return sure.save(path, sure.graph.node("Gather", sure.graph.constant(np.zeros(1, np.float32)),
                                           place, axis=0))  # fmt: skip


def make_eat_above(path: Path, above: float, floats: float, shape: ModelShape = MLP_SHAPE) -> Path:
    """Write a model that takes ``floats`` for each unit that a value is above something."""
    sure = Sure(shape)
    size = sure.graph.node("Cast", sure.excess(above, floats), to=_INT64)
    return sure.save(path, _eaten(sure.graph, size))


def make_eat_by_row(path: Path, floats: int, shape: ModelShape = MLP_SHAPE) -> Path:
    """Write a model that takes ``floats`` for each row of a batch."""
    sure = Sure(shape)
    dims = sure.graph.node("Shape", INPUT)
    rows = sure.graph.node("Gather", dims, sure.graph.constant(np.int64(0)), axis=0)
    size = sure.graph.node("Mul", rows, sure.graph.constant(np.int64(floats)))
    return sure.save(path, _eaten(sure.graph, size))


def make_slow_above(path: Path, above: float, rounds: float, shape: ModelShape = MLP_SHAPE) -> Path:
    """Write a model that goes round a loop for each unit that a value is above something."""
    onnx = pytest.importorskip("onnx", reason="tiny models are made with onnx.helper")
    helper, sure = onnx.helper, Sure(shape)
    kinds = {"i": onnx.TensorProto.INT64, "go": onnx.TensorProto.BOOL, "x": onnx.TensorProto.FLOAT}
    made = {"go_on": kinds["go"], "y": kinds["x"]}
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["x"], ["y"])],
        "round",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(name, kind, []) for name, kind in made.items()],
    )
    times = sure.graph.node("Cast", sure.excess(above, rounds), to=_INT64)
    go, start = sure.graph.constant(np.bool_(True)), sure.graph.constant(np.float32(0))
    return sure.save(path, sure.graph.node("Loop", times, go, start, body=body))


def _eaten(graph: _Graph, size: str) -> str:
    dims = graph.node("Reshape", size, graph.constant(np.ones(1, np.int64)))
    return graph.node("ReduceSum", graph.node("ConstantOfShape", dims), keepdims=0)


def onnx_file(path: Path, precision: Precision = Precision.FP32) -> ModelFile:
    """Name a made model as a form of a bundle."""
    return ModelFile(path, "onnx", precision)


def random_windows(shape: ModelShape, rows: int, seed: int = 11) -> Floats:
    """Draw feature windows, shape (rows, W, F)."""
    drawn = np.random.default_rng(seed).standard_normal((rows, shape.window, shape.features))
    return drawn.astype(np.float32)


def reference_outputs(path: Path, windows: Floats) -> Floats:
    """Compute a model with onnx's own evaluator, which is NumPy and none of the backends."""
    reference = pytest.importorskip("onnx.reference", reason="the reference evaluator is onnx's")
    answers = reference.ReferenceEvaluator(str(path)).run(None, {INPUT: windows})
    return np.asarray(answers[0], dtype=np.float32)
