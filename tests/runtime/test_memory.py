"""How much memory models may take: measured while they are loaded, bounded while they compute."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_eat_by_row

from runtime.memory import MemoryMark

pytest.importorskip("onnxruntime", reason="the bound is ONNX Runtime's")

MIB = 1 << 20
BOUNDED = """
import sys
from pathlib import Path
import numpy as np
from engine.core.errors import DeviceError
from engine.core.models import LoadOptions, ModelFile, ModelShape, Precision
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend, bound_memory

assert bound_memory(64 << 20) and not bound_memory(1 << 30)
file = ModelFile(Path(sys.argv[1]), "onnx", Precision.FP32)
shape = ModelShape(8, 4, 3)
small = OnnxRuntimeBackend().load(file, shape, "cpu", LoadOptions((1, 4)))
assert np.isfinite(small.run(4)).all()
try:
    OnnxRuntimeBackend().load(file, shape, "cpu", LoadOptions((1, 64)))
except Exception as error:
    print(type(error).__name__, error)
assert np.isfinite(small.run(4)).all()
"""


def test_growth_is_seen_while_it_lasts_and_after() -> None:
    mark = MemoryMark()
    assert mark.grown_bytes() < 16 * MIB
    taken = np.ones(64 * MIB, np.uint8)
    assert 60 * MIB < mark.grown_bytes() < 160 * MIB
    assert len(taken) == 64 * MIB


def test_a_model_that_computes_in_more_than_the_process_may_fails_and_others_go_on(
    tmp_path: Path,
) -> None:
    model = make_eat_by_row(tmp_path / "eats.onnx", 1_000_000)
    told = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(model)], capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith("BundleError")
    assert "memory" in told.stdout.lower()
