"""ncnn keeps the backend contract on the CPU, with a form that its builder made."""

import shutil
from pathlib import Path

import pytest
from backend_battery import BackendBattery
from tiny_models import TCN_SHAPE

from engine.core.errors import BundleError
from engine.core.models import Backend, LoadOptions, ModelFile, ModelShape, Precision
from runtime.backends.ncnn_backend import NcnnBackend

pytest.importorskip("ncnn", reason="ncnn is not installed")
FORM = Path(__file__).with_name("forms") / "tcn.param"


class TestNcnnOnCpu(BackendBattery):
    """The form is committed: pnnx 20261020 made it from the model of ``tiny_models``."""

    models = ("tcn",)

    def backend(self) -> Backend:
        return NcnnBackend()

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        return ModelFile(FORM, "ncnn", Precision.FP32)


@pytest.fixture
def copy(tmp_path: Path) -> ModelFile:
    for suffix in (".param", ".bin"):
        shutil.copy(FORM.with_suffix(suffix), tmp_path)
    return ModelFile(tmp_path / FORM.name, "ncnn", Precision.FP32)


def load(file: ModelFile) -> None:
    NcnnBackend().load(file, TCN_SHAPE, "cpu", LoadOptions()).close()


def edit(file: ModelFile, old: str, new: str) -> ModelFile:
    text = file.path.read_text()
    assert old in text
    file.path.write_text(text.replace(old, new))
    return file


def test_missing_weights_are_told(copy: ModelFile) -> None:
    copy.path.with_suffix(".bin").unlink()
    with pytest.raises(BundleError, match=r"its weights tcn\.bin are missing"):
        load(copy)


def test_short_weights_are_told(copy: ModelFile) -> None:
    weights = copy.path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BundleError, match=r"tcn\.bin: ncnn cannot read the weights"):
        load(copy)


def test_form_that_states_no_shape_is_refused(copy: ModelFile) -> None:
    with pytest.raises(BundleError, match="must state its shape"):
        load(edit(copy, " 0=8 1=32\n", "\n"))


def test_missing_layer_is_told(copy: ModelFile) -> None:
    lines = copy.path.read_text().splitlines(keepends=True)
    copy.path.write_text("".join(lines[:-1]))
    with pytest.raises(BundleError, match="it states 22 layers and has 21"):
        load(copy)


def test_layer_ncnn_does_not_know_is_told(copy: ModelFile) -> None:
    with pytest.raises(BundleError, match="ncnn cannot read it"):
        load(edit(copy, "Softmax ", "Sortmax "))


def test_half_precision_stays_within_its_tolerance(copy: ModelFile) -> None:
    class HalfPrecision(TestNcnnOnCpu):
        precision = Precision.FP16
        tolerance = 5e-3

        def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
            return copy._replace(precision=Precision.FP16)

    half = HalfPrecision()
    half.folder, half.opened = copy.path.parent, []
    half.test_outputs_agree_with_the_reference()
    half.test_loaded_model_says_what_it_is()
