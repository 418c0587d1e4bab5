"""The catalogue finds what serves a device here, in order of preference, and says why not."""

import re
import subprocess
import sys

import pytest

from engine.core.errors import ConfigError
from engine.core.models import Backend
from runtime.catalog import (
    BACKENDS,
    DEVICES,
    backend_named,
    check_entry,
    every_backend,
    find,
    found_devices,
    nothing_runs,
    reasons_for_none,
    why_none,
)

LIBRARIES = ("onnxruntime", "openvino", "ai_edge_litert", "ncnn", "torch", "tensorrt", "rknnlite")


def test_every_backend_has_the_name_it_is_listed_under() -> None:
    assert tuple(backend.name for backend in every_backend()) == tuple(BACKENDS)


@pytest.mark.parametrize("backend", every_backend(), ids=lambda backend: backend.name)
def test_backend_says_what_it_reads_and_what_is_missing(backend: Backend) -> None:
    assert backend.formats
    assert bool(backend.devices()) != bool(backend.missing())


def test_cpu_is_served_by_onnx_runtime_first() -> None:
    assert find("cpu", ["onnx"])[0].backend.name == "onnxruntime"


def test_entry_may_name_its_backend() -> None:
    pytest.importorskip("openvino")
    [only] = find("openvino@cpu", ["onnx"])
    assert (only.backend.name, only.device) == ("openvino", "cpu")


def test_backend_that_reads_no_form_of_the_bundle_is_left_out() -> None:
    assert find("onnxruntime@cpu", ["ncnn"]) == []
    assert why_none("onnxruntime@cpu", ["ncnn"]) == "onnxruntime does not read ncnn"
    assert why_none("cpu", ["abacus", "abacus"]) == "no backend reads abacus"


def test_device_that_is_not_here_is_explained() -> None:
    assert find("dla:9", ["onnx"]) == []
    assert "onnxruntime: it has no dla:9" in reasons_for_none("dla:9", ["onnx"])
    assert "onnxruntime: it has no dla:9" in why_none("dla:9", ["onnx"])
    assert reasons_for_none("cpu", ["onnx"]) == []
    assert why_none("cpu", ["onnx"]) == ""


def test_unknown_backend_is_an_error_that_names_all() -> None:
    with pytest.raises(ConfigError, match=r"backends are: tensorrt, rtx, .*onnxruntime"):
        backend_named("tensorflow")
    with pytest.raises(ConfigError, match="'tensorflow'"):
        find("tensorflow@cpu", ["onnx"])


@pytest.mark.parametrize("entry", [*DEVICES, "dla:7", "openvino@cpu", "rtx@gpu", "rknn@npu"])
def test_devices_that_there_are_somewhere_may_be_named(entry: str) -> None:
    assert check_entry(entry) == entry


@pytest.mark.parametrize("backend", every_backend(), ids=lambda backend: backend.name)
def test_every_device_that_is_found_may_be_named(backend: Backend) -> None:
    for fact in backend.devices():
        assert check_entry(f"{backend.name}@{fact.device}")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("gpux", "did you mean 'gpu'? devices are: cpu, cpu:1, gpu, dla:0, dla:1, npu"),
        ("GPU", "did you mean 'gpu'?"),
        ("gpu:1", "did you mean 'gpu'?"),
        ("dla", "did you mean 'dla:1' or 'dla:0'?"),
        ("tpu", "devices are: cpu"),
        ("", "devices are: cpu"),
        ("openvin@cpu", "did you mean 'openvino'? backends are: tensorrt, rtx"),
        ("@cpu", "backends are: "),
        ("openvino@cpus", "did you mean 'cpu'"),
        ("cpu@openvino", "did you mean 'openvino@cpu'?"),
        ("openvino", "is a backend: write a device behind it"),
    ],
)
def test_other_entries_are_told_what_may_stand_there(entry: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        check_entry(entry)


def test_a_model_that_ran_on_the_processor_is_not_told_to_be_put_there() -> None:
    told = nothing_runs("m", {"cpu": ["the form is damaged"]})
    assert told.splitlines()[1:3] == ["  cpu", "    the form is damaged"]
    assert "heqis model check" in told
    assert "put" not in told


def test_every_backend_is_told_with_a_device_or_a_reason() -> None:
    found = found_devices()
    assert {each.backend.name for each in found} == set(BACKENDS)
    assert all((each.fact is None) == bool(each.missing) for each in found)


def test_asking_imports_no_library() -> None:
    code = (
        "import sys; from runtime.catalog import find, found_devices; found_devices();"
        f"find('gpu', ['onnx']); print([m for m in {LIBRARIES} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
