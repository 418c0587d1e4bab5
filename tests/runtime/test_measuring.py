"""Measuring forms: every figure is there and hangs together; what fails is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from inference_cases import make_bundle

from engine.core.errors import DeviceError
from engine.core.models import DeviceFact, LoadOptions, ModelFile, ModelShape
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.measuring import LEAST_RUNS, devices_of, measure_form, measure_forms, time_calls
from runtime.parity import check_loaded

BRIEF_S = 0.002


class Refusing(OnnxRuntimeBackend):
    """A backend whose device fails when a model is loaded."""

    def load(self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions) -> Any:
        raise DeviceError("out of order")


class Absent(OnnxRuntimeBackend):
    """A backend that finds no device."""

    def devices(self) -> Sequence[DeviceFact]:
        return ()


def test_form_is_measured_at_every_batch_size(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    times = measure_form(bundle, OnnxRuntimeBackend(), "cpu", bundle.reference, 4, BRIEF_S)
    assert times.problem == ""
    assert [one.batch for one in times.calls] == [one.batch for one in times.bare] == [1, 2, 4]
    assert all(0 < one.p50_us <= one.p99_us for one in [*times.calls, *times.bare])
    assert all(one.runs >= LEAST_RUNS for one in times.calls)
    assert times.best is not None
    assert times.best.rows_per_s == max(one.rows_per_s for one in times.calls)
    assert times.load_ms > 0
    assert times.reload_ms > 0
    assert times.warm_up_ms > 0
    assert times.memory_bytes > 0
    assert times.graphs == 0


def test_batcher_is_measured_alone_and_saturated(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    times = measure_form(bundle, OnnxRuntimeBackend(), "cpu", bundle.reference, 4, BRIEF_S)
    assert times.request is not None
    assert times.request.runs >= LEAST_RUNS
    assert times.saturated_rows_per_s > times.request.rows_per_s / 2


def test_device_that_fails_is_told_and_the_others_are_measured(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    places = [(Refusing(), "cpu"), (OnnxRuntimeBackend(), "cpu")]
    refused, measured = measure_forms(bundle, places, 2, BRIEF_S)
    assert refused.problem == "out of order"
    assert (refused.calls, refused.request) == ([], None)
    assert measured.problem == ""


def test_form_that_is_not_a_model_is_told(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    bundle.reference.path.write_bytes(b"no model")
    times = measure_form(bundle, OnnxRuntimeBackend(), "cpu", bundle.reference, 2, BRIEF_S)
    assert str(bundle.reference.path) in times.problem


def test_only_backends_that_read_the_bundle_and_have_a_device_are_places(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    other = OnnxRuntimeBackend()
    other.formats = ("rknn",)
    found = devices_of(bundle, [OnnxRuntimeBackend(), other, Absent()])
    assert [(backend.name, device) for backend, device in found] == [("onnxruntime", "cpu")]


def test_calls_are_counted_and_timed() -> None:
    made: list[int] = []
    times = time_calls(lambda: made.append(1), batch=8, seconds=0.0)
    assert times.runs == len(made) == LEAST_RUNS
    assert times.rows_per_s == pytest.approx(8 * 1e6 / times.p50_us, rel=0.99)


def test_bare_call_computes_what_run_returns(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    loaded = OnnxRuntimeBackend().load(bundle.reference, bundle.shape, "cpu", LoadOptions((1,)))
    check_loaded(bundle, loaded)
    expected = loaded.run(1).copy()
    loaded.run(1)[:] = 0.0
    loaded.bare_call(1)()
    assert (loaded.run(1) == expected).all()
    with pytest.raises(DeviceError):
        loaded.bare_call(2)
    loaded.close()
