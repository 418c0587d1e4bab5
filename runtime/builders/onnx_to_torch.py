"""Makes a PyTorch module of an ONNX graph of the operators that small window models are made of.

The converters on PyPI are either abandoned or pull in image libraries. An operator that is not
listed here is refused by name.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import BundleError

Attributes = Mapping[str, Any]
Constants = Sequence[npt.NDArray[Any] | None]
"""The values of a node's inputs as far as they are constants of the graph."""
Compute = Callable[..., Any]
Maker = Callable[[Any, Attributes, Constants], Compute]


class _Step(NamedTuple):
    compute: Compute
    inputs: tuple[str, ...]
    output: str


def to_module(source: Path, *, half: bool) -> Any:
    """Return a ``torch.nn.Module`` that computes a graph with one input and one output.

    Args:
        source: The ONNX file.
        half: Whether it computes in half precision inside; its input and output stay float32.

    Raises:
        BundleError: the graph has an operator, or a way to use one, that is not known here.
    """
    torch, onnx = import_module("torch"), import_module("onnx")
    graph = onnx.load(str(source)).graph
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    steps = [
        _step(torch, onnx, node, constants, source)
        for node in graph.node
        if not _is_constant(onnx, node, constants)
    ]
    ends = graph.input[0].name, graph.output[0].name
    return _make_module(torch, steps, constants, ends, half=half)


def _make_module(
    torch: Any,
    steps: Sequence[_Step],
    constants: Mapping[str, npt.NDArray[Any]],
    ends: tuple[str, str],
    *,
    half: bool,
) -> Any:
    kind = torch.float16 if half else torch.float32
    used = {name for step in steps for name in step.inputs}
    places = {name: f"c{index}" for index, name in enumerate(sorted(used & constants.keys()))}

    class GraphModule(torch.nn.Module):  # type: ignore[misc]  # torch is imported at run time
        def __init__(self) -> None:
            super().__init__()
            for name, place in places.items():
                value = torch.from_numpy(constants[name].copy())
                self.register_buffer(place, value.to(kind) if value.is_floating_point() else value)

        def forward(self, window: Any) -> Any:
            values = {name: getattr(self, place) for name, place in places.items()}
            values[ends[0]] = window.to(kind) if half else window
            for step in steps:
                values[step.output] = step.compute(*(values.get(name) for name in step.inputs))
            answer = values[ends[1]]
            return answer.to(torch.float32) if half else answer

    return GraphModule().eval()


def _is_constant(onnx: Any, node: Any, constants: dict[str, npt.NDArray[Any]]) -> bool:
    if node.op_type != "Constant":
        return False
    constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    return True


def _step(
    torch: Any, onnx: Any, node: Any, constants: Mapping[str, npt.NDArray[Any]], source: Path
) -> _Step:
    make = _OPERATORS.get(node.op_type)
    if make is None:
        raise BundleError(source, f"the operator {node.op_type} is not known to the torch builder")
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    fixed = [constants.get(name) for name in node.input]
    try:
        compute = make(torch, attributes, fixed)
    except (IndexError, TypeError, ValueError) as error:
        raise BundleError(source, f"this use of {node.op_type} is not known: {error}") from error
    return _Step(compute, tuple(node.input), node.output[0])


def _plain(path: str) -> Maker:
    """Return a maker of a function of torch that needs no attributes."""

    def make(torch: Any, _attributes: Attributes, _fixed: Constants) -> Compute:
        found: Compute = getattr(torch, path)
        return found

    return make


def _softmax(torch: Any, attributes: Attributes, _fixed: Constants) -> Compute:
    return partial(torch.softmax, dim=attributes.get("axis", -1))


def _gemm(torch: Any, attributes: Attributes, _fixed: Constants) -> Compute:
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if (alpha, beta, attributes.get("transA", 0), attributes.get("transB", 0)) == (1.0, 1.0, 0, 1):
        linear: Compute = torch.nn.functional.linear
        return linear

    def compute(a: Any, b: Any, c: Any = None) -> Any:
        left = a.transpose(0, 1) if attributes.get("transA") else a
        right = b.transpose(0, 1) if attributes.get("transB") else b
        product = left @ right if alpha == 1.0 else alpha * (left @ right)
        return product if c is None else product + (c if beta == 1.0 else beta * c)

    return compute


def _conv(torch: Any, attributes: Attributes, fixed: Constants) -> Compute:
    weight = fixed[1]
    if weight is None or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError("the weight must be a constant, and padding explicit")
    sides = weight.ndim - 2
    if sides not in (1, 2):
        raise ValueError(f"{sides} dimensions")
    function = torch.conv1d if sides == 1 else torch.conv2d
    pads = list(attributes.get("pads", [0] * 2 * sides))
    convolve = partial(
        function,
        stride=list(attributes.get("strides", [1] * sides)),
        dilation=list(attributes.get("dilations", [1] * sides)),
        groups=attributes.get("group", 1),
    )
    around = _around(pads[:sides], pads[sides:])
    pad = torch.nn.functional.pad
    return lambda x, weight, bias=None: convolve(pad(x, around), weight, bias)


def _around(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Turn ONNX's order of padding (all begins, all ends) into torch's (last axis first)."""
    pairs = list(zip(begins, ends, strict=True))
    return [int(each) for pair in reversed(pairs) for each in pair]


def _pad(torch: Any, attributes: Attributes, fixed: Constants) -> Compute:
    if attributes.get("mode", b"constant") != b"constant" or len(fixed) > 3:
        raise ValueError("only constant padding of all axes")
    sizes = _ints(fixed[1])
    value = float(fixed[2]) if len(fixed) > 2 and fixed[2] is not None else 0.0
    half = len(sizes) // 2
    around = _around(sizes[:half], sizes[half:])
    return lambda x, *_: torch.nn.functional.pad(x, around, value=value)


def _flatten(_torch: Any, attributes: Attributes, _fixed: Constants) -> Compute:
    if attributes.get("axis", 1) != 1:
        raise ValueError("only behind the batch")
    return lambda x: x.flatten(1)


def _reshape(_torch: Any, attributes: Attributes, fixed: Constants) -> Compute:
    sizes = _ints(fixed[1])
    if attributes.get("allowzero"):
        raise ValueError("allowzero")
    return lambda x, *_: x.reshape(
        [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    )


def _transpose(_torch: Any, attributes: Attributes, _fixed: Constants) -> Compute:
    return lambda x: x.permute(*attributes["perm"])


def _unsqueeze(torch: Any, attributes: Attributes, fixed: Constants) -> Compute:
    axes = _axes(attributes, fixed)
    if len(axes) != 1:
        raise ValueError("one axis at a time")
    return lambda x, *_: torch.unsqueeze(x, axes[0])


def _squeeze(torch: Any, attributes: Attributes, fixed: Constants) -> Compute:
    axes = _axes(attributes, fixed)
    return lambda x, *_: torch.squeeze(x, axes)


def _gather(torch: Any, attributes: Attributes, fixed: Constants) -> Compute:
    axis, index = attributes.get("axis", 0), fixed[1]
    if index is None or index.ndim > 1:
        raise ValueError("the index must be a constant, a number or a row")
    if index.ndim == 0:
        return lambda x, *_: torch.select(x, axis, int(index))
    return lambda x, chosen: torch.index_select(x, axis, chosen)


def _slice(_torch: Any, _attributes: Attributes, fixed: Constants) -> Compute:
    starts, ends = _ints(fixed[1]), _ints(fixed[2])
    axes = _ints(fixed[3]) if len(fixed) > 3 else list(range(len(starts)))
    steps = _ints(fixed[4]) if len(fixed) > 4 else [1] * len(starts)
    if min(steps) < 1 or min(axes) < 0:
        raise ValueError("only forwards along axes counted from the front")
    cuts = {
        axis: slice(*bounds)
        for axis, *bounds in zip(axes, starts, ends, steps, strict=True)
    }  # fmt: skip
    return lambda x, *_: x[tuple(cuts.get(axis, slice(None)) for axis in range(x.ndim))]


def _concat(torch: Any, attributes: Attributes, _fixed: Constants) -> Compute:
    return lambda *parts: torch.cat(parts, dim=attributes["axis"])


def _reduce_mean(_torch: Any, attributes: Attributes, fixed: Constants) -> Compute:
    axes, keep = _axes(attributes, fixed), bool(attributes.get("keepdims", 1))
    return lambda x, *_: x.mean(dim=axes, keepdim=keep)


def _clip(torch: Any, _attributes: Attributes, fixed: Constants) -> Compute:
    low, high = ([*fixed[1:], None, None])[:2]
    bounds = [None if bound is None else float(bound) for bound in (low, high)]
    return lambda x, *_: torch.clamp(x, *bounds)


def _leaky_relu(torch: Any, attributes: Attributes, _fixed: Constants) -> Compute:
    return partial(torch.nn.functional.leaky_relu, negative_slope=attributes.get("alpha", 0.01))


def _batch_norm(torch: Any, attributes: Attributes, _fixed: Constants) -> Compute:
    epsilon = attributes.get("epsilon", 1e-5)
    return lambda x, scale, bias, mean, variance: torch.nn.functional.batch_norm(
        x, mean, variance, scale, bias, eps=epsilon
    )


def _axes(attributes: Attributes, fixed: Constants) -> list[int]:
    return _ints(fixed[1]) if len(fixed) > 1 else list(attributes["axes"])


def _ints(values: npt.NDArray[Any] | None) -> list[int]:
    if values is None:
        raise ValueError("it depends on the input")
    return [int(each) for each in np.atleast_1d(values)]


_OPERATORS: Final[Mapping[str, Maker]] = {
    "Add": _plain("add"),
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _plain("div"),
    "Erf": _plain("erf"),
    "Exp": _plain("exp"),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _plain("clone"),
    "LeakyRelu": _leaky_relu,
    "MatMul": _plain("matmul"),
    "Mul": _plain("mul"),
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _plain("relu"),
    "Reshape": _reshape,
    "Sigmoid": _plain("sigmoid"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Sqrt": _plain("sqrt"),
    "Squeeze": _squeeze,
    "Sub": _plain("sub"),
    "Tanh": _plain("tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
