"""The trained weights as an ONNX graph of plain operators, written without an exporter.

A forecast of one window needs only some positions of each dilated layer: the last position of a
layer with two taps and dilation d reads positions t - d and t of the layer below, and so on down,
which is a binary tree over the window. A convolution of two taps and stride two computes just these
positions with the same weights. The window stands as an image of one channel, F wide, so that the
first convolution takes whole rows and nothing is transposed; the normalisation of the features is
part of its weights.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]

OPSET: Final = 17
IR_VERSION: Final = 8
"""The one that came with opset 17, so that old readers take it."""


class Layers(NamedTuple):
    """Weights of the network.

    Attributes:
        kernels: One a level: (C, F, 2) the first, (C, C, 2) the others; the older tap first.
        biases: One a level, (C,).
        head: (outputs, C).
        head_bias: (outputs,).
    """

    kernels: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    head: Floats
    head_bias: Floats


def fold_normalisation(layers: Layers, mean: Wide, scale: Wide) -> Layers:
    """Return layers that take raw features where these take ``(x - mean) * scale``.

    Exact but for rounding, since no layer pads.
    """
    first = layers.kernels[0].astype(np.float64) * scale[None, :, None]
    shift = (first * mean[None, :, None]).sum(axis=(1, 2))
    kernels = (first.astype(np.float32), *layers.kernels[1:])
    biases = ((layers.biases[0] - shift).astype(np.float32), *layers.biases[1:])
    return layers._replace(kernels=kernels, biases=biases)


def forward(layers: Layers, windows: Floats) -> Wide:
    """Compute the graph in numpy: windows (N, W, F) to probabilities (N, outputs), float64."""
    rows = windows.astype(np.float64)
    for kernel, bias in zip(layers.kernels, layers.biases, strict=True):
        pairs = rows.reshape(len(rows), rows.shape[1] // 2, 2, rows.shape[2])
        rows = np.maximum(np.einsum("ntkf,cfk->ntc", pairs, kernel) + bias, 0.0)
    logits = rows[:, 0] @ layers.head.T + layers.head_bias
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)


def to_onnx(layers: Layers, window: int, name: str) -> bytes:
    """Return the model's bytes; the same weights give the same bytes.

    Input ``window``, float32 (batch, window, F); output ``probability``, float32 (batch, outputs).
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    features, outputs = layers.kernels[0].shape[1], len(layers.head)
    weights: dict[str, npt.NDArray[Any]] = {"image_axis": np.array([1], np.int64)}
    nodes = [helper.make_node("Unsqueeze", ["window", "image_axis"], ["rows_0"])]
    for level, (kernel, bias) in enumerate(zip(layers.kernels, layers.biases, strict=True)):
        taps, held, made = [f"kernel_{level}", f"bias_{level}"], f"sum_{level}", f"rows_{level + 1}"
        weights[taps[0]] = _as_image(kernel, first=level == 0)
        weights[taps[1]] = bias
        shape = list(weights[taps[0]].shape[2:])
        nodes.append(
            helper.make_node(
                "Conv", [f"rows_{level}", *taps], [held], kernel_shape=shape, strides=[2, 1]
            )
        )
        nodes.append(helper.make_node("Relu", [held], [made]))
    weights["head"], weights["head_bias"] = layers.head, layers.head_bias
    nodes += [
        helper.make_node("Flatten", [f"rows_{len(layers.kernels)}"], ["last"], axis=1),
        helper.make_node("Gemm", ["last", "head", "head_bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probability"], axis=1),
    ]
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("window", floats, ["batch", window, features])],
        [helper.make_tensor_value_info("probability", floats, ["batch", outputs])],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in weights.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _as_image(kernel: Floats, *, first: bool) -> Floats:
    """Return a (C, F, 2) kernel as (C, 1, 2, F) for whole rows, or as (C, F, 2, 1)."""
    return kernel.transpose(0, 2, 1)[:, None] if first else kernel[:, :, :, None]
