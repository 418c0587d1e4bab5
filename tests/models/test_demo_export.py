"""The exported graph against the dilated network it stands for."""

import numpy as np
import numpy.typing as npt
import pytest

from models.demo_tcn.export import OPSET, Layers, fold_normalisation, forward, to_onnx
from models.demo_tcn.recipe import FEATURES, LEVELS, WINDOW

CHANNELS = 5
PLAIN = {"Unsqueeze", "Conv", "Relu", "Flatten", "Gemm", "Softmax"}


def random_layers(seed: int = 1) -> Layers:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> npt.NDArray[np.float32]:
        return rng.normal(0.0, 0.5, shape).astype(np.float32)

    wide = [len(FEATURES)] + [CHANNELS] * (LEVELS - 1)
    kernels = tuple(draw(CHANNELS, inside, 2) for inside in wide)
    return Layers(kernels, tuple(draw(CHANNELS) for _ in wide), draw(3, CHANNELS), draw(3))


def random_windows(count: int) -> npt.NDArray[np.float32]:
    shape = (count, WINDOW, len(FEATURES))
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def dilated(layers: Layers, window: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Compute one window by dilated causal convolutions, position by position."""
    rows = [row.astype(np.float64) for row in window]
    for level, (kernel, bias) in enumerate(zip(layers.kernels, layers.biases, strict=True)):
        step = 2**level
        rows = [
            np.maximum(kernel[:, :, 0] @ old + kernel[:, :, 1] @ new + bias, 0.0)
            for old, new in zip(rows, rows[step:], strict=False)
        ]
    logits = layers.head @ rows[-1] + layers.head_bias
    raised = np.exp(logits - logits.max())
    return np.asarray(raised / raised.sum(), np.float64)


def test_strided_tree_equals_dilated_convolutions() -> None:
    layers, windows = random_layers(), random_windows(20)
    expected = np.stack([dilated(layers, window) for window in windows])
    assert forward(layers, windows) == pytest.approx(expected, abs=1e-12)


def test_folded_normalisation_equals_normalising_first() -> None:
    layers, windows = random_layers(), random_windows(20)
    rng = np.random.default_rng(3)
    mean, scale = rng.normal(size=len(FEATURES)), rng.uniform(0.2, 5.0, len(FEATURES))
    first = forward(layers, ((windows - mean) * scale).astype(np.float32))
    assert forward(fold_normalisation(layers, mean, scale), windows) == pytest.approx(
        first, abs=1e-5
    )


def test_the_oldest_and_the_newest_row_both_count() -> None:
    layers, windows = random_layers(), np.abs(random_windows(1))
    positive = tuple(np.float32(0.1) * np.abs(k) for k in layers.kernels)
    layers = layers._replace(kernels=positive)
    for row in (0, WINDOW - 1):
        other = windows.copy()
        other[0, row] += 1.0
        assert np.abs(forward(layers, other) - forward(layers, windows)).max() > 1e-9


def test_onnx_answers_as_the_arrays_do_at_any_batch() -> None:
    pytest.importorskip("onnx", reason="the graph is written with onnx")
    from models.demo_tcn.evaluate import run_onnx

    layers = random_layers()
    model = to_onnx(layers, WINDOW, "test")
    for count in (1, 3, 64):
        windows = random_windows(count)
        assert run_onnx(model, windows) == pytest.approx(forward(layers, windows), abs=1e-6)


def test_equal_weights_give_equal_bytes_of_plain_operators() -> None:
    onnx = pytest.importorskip("onnx", reason="the graph is read with onnx")
    model = to_onnx(random_layers(), WINDOW, "test")
    assert model == to_onnx(random_layers(), WINDOW, "test")
    assert model != to_onnx(random_layers(2), WINDOW, "test")
    read = onnx.load_from_string(model)
    assert {node.op_type for node in read.graph.node} == PLAIN
    assert [(one.domain, one.version) for one in read.opset_import] == [("", OPSET)]
