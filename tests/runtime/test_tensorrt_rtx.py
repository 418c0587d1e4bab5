"""NVIDIA's own parser and builder take every model, ahead of time and without a GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import (
    MLP_SHAPE,
    TCN_SHAPE,
    make_constant,
    make_mlp,
    make_tcn,
    random_windows,
)

from engine.core.errors import BundleError, ConfigError, DeviceError
from engine.core.models import ModelFile, ModelShape, Precision
from runtime.builders.options import BuildOptions
from runtime.builders.rtx_builder import build, read_chips
from runtime.bundle import Bundle
from runtime.engine_cache import read_packed
from runtime.tensorrt_build import EngineRequest, build_engine
from runtime.tensorrt_source import engine_source
from runtime.tensorrt_versions import Flavour, rules_of

tensorrt_rtx: Any = pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT for RTX is not installed (extra rtx)"
)
RULES = rules_of(Flavour.RTX, tensorrt_rtx.__version__)
MODELS_FOLDER = Path(__file__).parents[2] / "models"
BUNDLES = [path.parent for path in sorted(MODELS_FOLDER.glob("*/manifest.json"))]
Make = Callable[[Path], Path]


def make_answer(path: Path) -> Path:
    return make_constant(path, [0.2, 0.3, 0.5])


MODELS: list[tuple[Make, ModelShape]] = [
    (make_mlp, MLP_SHAPE),
    (make_tcn, TCN_SHAPE),
    (make_answer, MLP_SHAPE),
]


def build_for(
    onnx: Path,
    shape: ModelShape,
    precision: Precision = Precision.FP32,
    buckets: tuple[int, ...] = (1, 8),
    chips: tuple[int, ...] = (86,),
) -> bytes:
    file = ModelFile(onnx, "onnx", Precision.FP32)
    rows = random_windows(shape, 64)
    with engine_source(RULES, file, precision, on_dla=False, calibration=rows) as source:
        request = EngineRequest(source.onnx, shape, buckets, precision, chips=chips)
        return build_engine(tensorrt_rtx, RULES, request)


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize(("make", "shape"), MODELS, ids=["mlp", "tcn", "constant"])
def test_every_model_is_built_in_every_precision(
    tmp_path: Path, make: Make, shape: ModelShape, precision: Precision
) -> None:
    assert len(build_for(make(tmp_path / "m.onnx"), shape, precision)) > 1000


def test_one_engine_is_built_for_several_chips(tmp_path: Path) -> None:
    onnx = make_tcn(tmp_path / "m.onnx")
    one = build_for(onnx, TCN_SHAPE)
    assert len(build_for(onnx, TCN_SHAPE, chips=(86, 89, 120))) > len(one)


def test_chip_of_a_jetson_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"SM87, only for .*SM86"):
        build_for(make_mlp(tmp_path / "m.onnx"), MLP_SHAPE, chips=(87,))


def test_what_is_no_model_is_told_in_the_parsers_words(tmp_path: Path) -> None:
    broken = tmp_path / "m.onnx"
    broken.write_bytes(b"\x07not a model" * 40)
    with pytest.raises(BundleError, match="TensorRT cannot parse it"):
        build_for(broken, MLP_SHAPE)
    with pytest.raises(BundleError, match="cannot be read"):
        build_for(tmp_path / "none.onnx", MLP_SHAPE)


@pytest.mark.parametrize("field", ModelShape._fields)
def test_model_of_another_shape_is_refused(tmp_path: Path, field: str) -> None:
    onnx = make_tcn(tmp_path / "m.onnx")
    other = TCN_SHAPE._replace(**{field: getattr(TCN_SHAPE, field) + 1})
    with pytest.raises(BundleError, match="shape"):
        build_for(onnx, other)


def test_fixed_batch_of_another_size_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    path = make_mlp(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    for each in (model.graph.input[0], model.graph.output[0]):
        each.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, str(path))
    assert build_for(path, MLP_SHAPE, buckets=(4,))
    with pytest.raises(BundleError, match="fixed to 4"):
        build_for(path, MLP_SHAPE, buckets=(1, 4))


def test_engine_for_a_dla_has_one_batch_size(tmp_path: Path) -> None:
    onnx = make_mlp(tmp_path / "m.onnx")
    request = EngineRequest(onnx, MLP_SHAPE, (1, 4), Precision.FP16, dla_core=0)
    with pytest.raises(DeviceError, match="one batch size"):
        build_engine(tensorrt_rtx, RULES, request)


def test_calibrating_is_refused_where_it_is_gone(tmp_path: Path) -> None:
    onnx = make_mlp(tmp_path / "m.onnx")
    rows = random_windows(MLP_SHAPE, 8)
    request = EngineRequest(onnx, MLP_SHAPE, (1,), Precision.INT8, calibration=rows)
    with pytest.raises(DeviceError, match="Q/DQ"):
        build_engine(tensorrt_rtx, RULES, request)


@pytest.mark.parametrize("target", ["rtx:87", "rtx:", "rtx:86+x", "rtx:86,89"])
def test_target_names_chips_that_can_be_built_for(target: str) -> None:
    if target == "rtx:":
        assert read_chips(tensorrt_rtx, target) == read_chips(tensorrt_rtx, "rtx")
    else:
        with pytest.raises(ConfigError, match="chips are"):
            read_chips(tensorrt_rtx, target)


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_bundle_is_parsed_and_built(
    tmp_path: Path, bundle: Path, precision: Precision
) -> None:
    options = BuildOptions("rtx:86+120", precision, (1, 32))
    built = build(Bundle.open(bundle), tmp_path, options)
    assert [(file.format, file.batch) for file in built] == [("tensorrt", 1), ("tensorrt", 32)]
    for file in built:
        found = read_packed(file.path.read_bytes())
        assert found is not None
        assert found[0].chip == "SM86+SM120"
        assert found[0].precision == precision
