"""Which sizes and which forms of a bundle are loaded."""

import itertools
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_cases import make_bundle

from engine.core.errors import BundleError, DeviceError
from engine.core.models import LoadOptions
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.config import MAX_BATCH
from runtime.faults import Fault, FaultSwitch
from runtime.loading import buckets_of, files_for, load_form

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")


@given(st.integers(1, MAX_BATCH))
def test_sizes_double_up_to_the_greatest(max_batch: int) -> None:
    sizes = buckets_of(max_batch)
    assert sizes[0] == 1
    assert sizes[-1] == max_batch
    assert all(a < b <= 2 * a for a, b in itertools.pairwise(sizes))


def test_a_form_is_timed_and_compared_before_it_is_handed_out(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    backend = OnnxRuntimeBackend()
    (file,) = files_for(bundle, backend)
    loaded = load_form(bundle, backend, file, "cpu", LoadOptions((1, 4)), None)
    assert loaded.learnt.parity.passed
    assert loaded.learnt.latency.predict(4) > 0
    assert loaded.model.buckets == (1, 4)
    loaded.model.close()


@pytest.mark.parametrize("fault", [Fault.RAISE, Fault.NAN])
def test_a_form_on_a_broken_device_is_not_handed_out(tmp_path: Path, fault: Fault) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    switch = FaultSwitch()
    switch.turn(fault)
    with pytest.raises(DeviceError):
        load_form(bundle, OnnxRuntimeBackend(), bundle.reference, "cpu", LoadOptions((1,)), switch)


def test_a_bundle_that_was_changed_since_it_was_opened_is_not_loaded(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    other = make_bundle(tmp_path / "other", version="2", seed=99)
    shutil.copytree(other.path, bundle.path, dirs_exist_ok=True)
    with pytest.raises(BundleError, match="SHA-256"):
        load_form(bundle, OnnxRuntimeBackend(), bundle.reference, "cpu", LoadOptions((1,)), None)
