"""LiteRT keeps the backend contract on the CPU, with forms that its builder made."""

from pathlib import Path

import pytest
from backend_battery import BackendBattery

from engine.core.errors import BundleError
from engine.core.models import Backend, LoadOptions, ModelFile, ModelShape, Precision
from runtime.backends.litert_backend import LiteRtBackend

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
FORMS = Path(__file__).with_name("forms")


def tiny_form(name: str, batch: int) -> ModelFile:
    """Name a committed form: onnx2tf 2.6.9 made it from the model of ``tiny_models``."""
    return ModelFile(FORMS / f"{name}.b{batch}.tflite", "litert", Precision.FP32, batch)


class TestLiteRtOnCpu(BackendBattery):
    def backend(self) -> Backend:
        return LiteRtBackend()

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        return tiny_form(onnx.stem, bucket)


def test_only_bucket_is_the_batch_of_the_form() -> None:
    shape = ModelShape(8, 4, 3)
    model = LiteRtBackend().load(tiny_form("mlp", 4), shape, "cpu", LoadOptions((1, 8)))
    assert model.buckets == (4,)


def test_form_of_another_batch_is_refused() -> None:
    file = tiny_form("mlp", 4)._replace(batch=8)
    with pytest.raises(BundleError, match=r"input has shape \(4, 8, 4\), expected \(8, 8, 4\)"):
        LiteRtBackend().load(file, ModelShape(8, 4, 3), "cpu", LoadOptions())


def test_form_that_states_no_batch_is_refused() -> None:
    file = tiny_form("mlp", 4)._replace(batch=0)
    with pytest.raises(BundleError, match="a fixed batch"):
        LiteRtBackend().load(file, ModelShape(8, 4, 3), "cpu", LoadOptions())
