"""fp16 and INT8 forms say in their types what they are, and answer nearly as the fp32 form."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import MLP_SHAPE, TCN_SHAPE, make_mlp, make_tcn, random_windows, reference_outputs

from engine.core.errors import BundleError
from engine.core.models import Floats
from runtime.onnx_file import INPUT
from runtime.onnx_precision import write_fp16, write_int8

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
FLOAT, FLOAT16, INT8 = 1, 10, 3


def answers(path: Path, windows: Floats) -> Floats:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {INPUT: windows})[0])


@pytest.mark.parametrize(("make", "shape"), [(make_mlp, MLP_SHAPE), (make_tcn, TCN_SHAPE)])
def test_fp16_form_has_half_weights_and_float_borders(tmp_path: Path, make, shape) -> None:  # type: ignore[no-untyped-def] # parametrised
    source = make(tmp_path / "m.onnx")
    target = write_fp16(source, tmp_path / "h.onnx")
    graph = onnx.load(str(target)).graph
    assert FLOAT16 in {weight.data_type for weight in graph.initializer}
    border = [*graph.input, *graph.output]
    assert {each.type.tensor_type.elem_type for each in border} == {FLOAT}
    windows = random_windows(shape, 64)
    assert np.abs(answers(target, windows) - reference_outputs(source, windows)).max() < 3e-3


@pytest.mark.parametrize(("make", "shape"), [(make_mlp, MLP_SHAPE), (make_tcn, TCN_SHAPE)])
def test_int8_form_is_symmetric_as_tensorrt_wants_it(tmp_path: Path, make, shape) -> None:  # type: ignore[no-untyped-def] # parametrised
    source = make(tmp_path / "m.onnx")
    windows = random_windows(shape, 256)
    target = write_int8(source, tmp_path / "q.onnx", windows)
    graph = onnx.load(str(target)).graph
    kinds = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    zeros = [weights[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert not any(each.dtype == np.int32 for each in weights.values())
    assert np.abs(answers(target, windows) - reference_outputs(source, windows)).max() < 6e-2


@pytest.mark.parametrize("content", [b"\x07not a model" * 40, None], ids=["broken", "missing"])
def test_file_that_is_no_model_is_the_bundles_problem(
    tmp_path: Path, content: bytes | None
) -> None:
    source = tmp_path / "m.onnx"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(BundleError):
        write_fp16(source, tmp_path / "h.onnx")
    with pytest.raises(BundleError):
        write_int8(source, tmp_path / "q.onnx", random_windows(MLP_SHAPE, 8))
