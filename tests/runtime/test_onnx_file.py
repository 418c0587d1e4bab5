"""ONNX files are read without a library, as onnx itself does, and nothing harms the reader."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from bundle_cases import make_bundle, make_draft
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import MLP_SHAPE, TCN_SHAPE, make_mlp, make_tcn

from engine.core.errors import BundleError
from engine.core.models import ModelShape
from runtime.manifest import Manifest
from runtime.onnx_file import check_onnx, parse_onnx, read_onnx

REASON = "onnx makes the models"


@pytest.fixture(scope="module")
def mlp_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_mlp(tmp_path_factory.mktemp("onnx") / "m.onnx").read_bytes()


def test_facts_are_those_that_onnx_tells(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason=REASON)
    path = make_tcn(tmp_path / "m.onnx")
    facts, model = read_onnx(path), onnx.load(str(path))
    assert facts.opset == model.opset_import[0].version == 17
    assert [str(tensor) for tensor in facts.inputs] == ["'window' float32 (any, 32, 8)"]
    assert [str(tensor) for tensor in facts.outputs] == ["'probability' float32 (any, 3)"]
    assert facts.external == ()


def save_with(path: Path, change: Any) -> Path:
    onnx = pytest.importorskip("onnx", reason=REASON)
    model = onnx.load(str(make_mlp(path)))
    change(onnx, model)
    path.write_bytes(model.SerializeToString())
    return path


def manifest_of(**changes: Any) -> Manifest:
    return msgspec.structs.replace(make_draft(), **changes)


def check(path: Path, shape: ModelShape = MLP_SHAPE) -> None:
    manifest = manifest_of()
    check_onnx(path.parent, manifest.forms[0], manifest, shape)


def rename_input(onnx: Any, model: Any) -> None:
    model.graph.input[0].name = "x"


def make_input_double(onnx: Any, model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def fix_the_batch(onnx: Any, model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def add_an_input(onnx: Any, model: Any) -> None:
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("state", onnx.TensorProto.INT64, [1])
    )


def add_an_output(onnx: Any, model: Any) -> None:
    model.graph.output.append(model.graph.output[0])


def add_a_domain(onnx: Any, model: Any) -> None:
    model.opset_import.append(onnx.helper.make_opsetid("com.vendor", 3))


def name_an_initial_value_as_input(onnx: Any, model: Any) -> None:
    weight = model.graph.initializer[0]
    model.graph.input.append(
        onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
    )


def put_weights_outside(onnx: Any, model: Any) -> None:
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../../etc/passwd")


def put_a_constant_outside(onnx: Any, model: Any) -> None:
    tensor = onnx.TensorProto(name="hidden", data_type=1, raw_data=bytes(4))
    onnx.external_data_helper.set_external_data(tensor, "hidden.bin")
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], []
    )
    model.graph.node.append(
        onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (rename_input, "its input is 'x' float32 (any, 8, 4); the manifest asks for 'window'"),
        (make_input_double, "its input is 'window' float64 (any, 8, 4)"),
        (fix_the_batch, "its input is 'window' float32 (1, 8, 4)"),
        (add_an_input, "its input is 'window' float32 (any, 8, 4), 'state' int64 (1)"),
        (add_an_output, "(any, 3), 'probability' float32 (any, 3); the manifest's labels ask"),
        (put_weights_outside, "it keeps weights in '../../etc/passwd', which `files` does not"),
        (put_a_constant_outside, "it keeps weights in 'hidden.bin'"),
    ],
)
def test_a_form_that_is_not_as_stated_is_refused(
    tmp_path: Path, change: Any, expected: str
) -> None:
    path = save_with(tmp_path / "model.onnx", change)
    with pytest.raises(BundleError) as caught:
        check(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("change", [add_a_domain, name_an_initial_value_as_input])
def test_other_domains_and_named_weights_do_not_matter(tmp_path: Path, change: Any) -> None:
    check(save_with(tmp_path / "model.onnx", change))


def test_weights_beside_the_model_pass_if_they_are_hashed(tmp_path: Path) -> None:
    def outside(onnx: Any, model: Any) -> None:
        onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")

    path = save_with(tmp_path / "model.onnx", outside)
    manifest = manifest_of(files={"weights.bin": "0f" * 32})
    check_onnx(tmp_path, manifest.forms[0], manifest, MLP_SHAPE)
    assert read_onnx(path).external == ("weights.bin",)


def test_another_shape_than_the_manifests_is_refused(tmp_path: Path) -> None:
    make_mlp(tmp_path / "model.onnx")
    with pytest.raises(BundleError, match=r"asks for 'window' float32 \(any, 32, 8\)"):
        check(tmp_path / "model.onnx", TCN_SHAPE)


def test_what_is_missing_or_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="it cannot be read"):
        read_onnx(tmp_path / "none.onnx")
    with pytest.raises(BundleError, match="it cannot be read"):
        read_onnx(tmp_path)


def test_an_absurdly_large_file_is_not_read_in(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(BundleError, match="has up to 2147483648 bytes"):
        read_onnx(path)


def nested(depth: int) -> bytes:
    """Return a model whose node has a graph whose node has a graph …"""
    onnx = pytest.importorskip("onnx", reason=REASON)
    graph = onnx.helper.make_graph([], "g", [], [])
    for _ in range(depth):
        node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = onnx.helper.make_graph([node], "g", [], [])
    data: bytes = onnx.helper.make_model(graph).SerializeToString()
    return data


def test_graphs_are_followed_only_so_deep() -> None:
    assert parse_onnx(nested(8)).inputs == ()
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_onnx(nested(9))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "it has no graph"),
        (b"\x08\x08", "it has no graph"),
        (b"\x3a", "it is cut off"),
        (b"\x3a\x05abc", "it is cut off"),
        (b"\x3a" + b"\xff" * 11, "it is cut off"),
        (b"\x3b", "belongs to no protocol buffer"),
        (b"\x38\x01", "a number where a message belongs"),
        (b"\x3a\x02\x58\x01", "a number where a message belongs"),
        (b"PK\x03\x04", "it is cut off|belongs to no protocol buffer|it has no graph"),
    ],
)
def test_what_is_no_model_is_said_so(data: bytes, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_onnx(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_onnx(data)
    except ValueError:
        return


@given(st.data())
def test_a_spoilt_model_is_read_or_refused(mlp_bytes: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(mlp_bytes) - 1))
    byte = data.draw(st.integers(0, 255))
    try:
        parse_onnx(mlp_bytes[:at] + bytes([byte]) + mlp_bytes[at + 1 :])
        parse_onnx(mlp_bytes[:at])
    except ValueError:
        return


def test_a_bundle_is_opened_without_onnx_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bundle(tmp_path / "b")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert type(made).open(made.path) == made
