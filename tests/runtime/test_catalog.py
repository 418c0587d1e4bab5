"""The catalogue finds what serves a device here, in order of preference, and says why not."""

import subprocess
import sys

import pytest

from engine.core.errors import ConfigError
from engine.core.models import Backend
from runtime.catalog import (
    BACKENDS,
    backend_named,
    every_backend,
    find,
    found_devices,
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


def test_device_that_is_not_here_is_explained() -> None:
    assert find("dla:9", ["onnx"]) == []
    assert "onnxruntime: it has no dla:9" in why_none("dla:9", ["onnx"])
    assert why_none("cpu", ["onnx"]) == ""


def test_unknown_backend_is_an_error_that_names_all() -> None:
    with pytest.raises(ConfigError, match=r"backends are: tensorrt, rtx, .*onnxruntime"):
        backend_named("tensorflow")
    with pytest.raises(ConfigError, match="'tensorflow'"):
        find("tensorflow@cpu", ["onnx"])


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
