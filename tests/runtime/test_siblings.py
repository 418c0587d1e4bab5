"""Forms of one batch each make one model that takes every batch they have."""

from pathlib import Path

import numpy as np
import pytest
from bundle_cases import make_bundle
from tiny_models import MLP_SHAPE

from engine.core.errors import DeviceError
from engine.core.models import LoadOptions, ModelFile, Precision
from runtime.backends.litert_backend import LiteRtBackend
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.bundle import Bundle
from runtime.bundle_writer import add_forms
from runtime.executors import learn_latency
from runtime.loading import load_form
from runtime.parity import check_loaded
from runtime.siblings import load_with_siblings, siblings_of

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")

FORMS = Path(__file__).parent / "forms"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Return a bundle with LiteRT forms of batch 1 and 4."""
    made = [ModelFile(FORMS / f"mlp.b{batch}.tflite", "litert", Precision.FP32, batch)
            for batch in (4, 1)]  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    copies = [file._replace(path=out / file.path.name) for file in made]
    for file, copy in zip(made, copies, strict=True):
        copy.path.write_bytes(file.path.read_bytes())
    return add_forms(make_bundle(tmp_path / "b"), copies, out)


def test_one_model_answers_in_every_batch_as_the_reference(bundle: Bundle) -> None:
    (four, _one) = bundle.forms("litert")
    model = load_with_siblings(bundle, LiteRtBackend(), four, "cpu", LoadOptions((1, 2, 4, 8)))
    assert model.buckets == (1, 4)
    assert (model.backend, model.device, model.precision) == ("litert", "cpu", "fp32")
    assert check_loaded(bundle, model).passed
    alone = LiteRtBackend().load(four, MLP_SHAPE, "cpu", LoadOptions())
    assert model.memory_bytes > alone.memory_bytes > 0
    alone.close()
    assert learn_latency(model).predict(4) > 0
    model.close()


def test_what_is_put_on_a_lane_takes_every_batch(bundle: Bundle) -> None:
    (four, _one) = bundle.forms("litert")
    loaded = load_form(bundle, LiteRtBackend(), four, "cpu", LoadOptions((1, 2, 4)), None)
    assert loaded.model.buckets == (1, 4)
    assert loaded.learnt.latency.predict(1) > 0
    loaded.model.close()


def test_slots_of_every_batch_are_their_own(bundle: Bundle) -> None:
    (four, _one) = bundle.forms("litert")
    model = load_with_siblings(bundle, LiteRtBackend(), four, "cpu", LoadOptions((4,), slots=2))
    assert not np.shares_memory(model.staging(4, 0), model.staging(4, 1))
    model.close()


def test_after_closing_no_batch_is_run(bundle: Bundle) -> None:
    (four, _one) = bundle.forms("litert")
    model = load_with_siblings(bundle, LiteRtBackend(), four, "cpu", LoadOptions((1, 4)))
    model.close()
    model.close()
    for bucket in (1, 4):
        with pytest.raises(DeviceError, match="closed"):
            model.run(bucket)
    with pytest.raises(DeviceError, match="no form of batch 2"):
        model.run(2)


def test_a_form_beyond_the_largest_batch_is_left_out(bundle: Bundle) -> None:
    (_four, one) = bundle.forms("litert")
    model = load_with_siblings(bundle, LiteRtBackend(), one, "cpu", LoadOptions((1, 2)))
    assert model.buckets == (1,)
    model.close()


def test_a_sibling_that_does_not_load_is_left_out(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    (four, one) = bundle.forms("litert")
    one.path.write_bytes(b"no model")
    with caplog.at_level("INFO"):
        model = load_with_siblings(bundle, LiteRtBackend(), four, "cpu", LoadOptions((1, 4)))
    assert model.buckets == (4,)
    assert "mlp.b1.tflite is left out" in caplog.text
    model.close()


def test_a_form_of_any_batch_has_no_siblings(bundle: Bundle) -> None:
    assert siblings_of(bundle, bundle.reference, 64) == []
    backend = OnnxRuntimeBackend()
    model = load_with_siblings(bundle, backend, bundle.reference, "cpu", LoadOptions((1, 4)))
    assert model.buckets == (1, 4)
    model.close()
