"""How much memory models may take: measured while they are loaded, bounded while they compute."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import make_eat_by_row

pytest.importorskip("onnxruntime", reason="the bound is ONNX Runtime's")

MIB = 1 << 20
GROWS = """
import resource
import numpy as np
import psutil
from runtime.memory import MemoryMark

mark = MemoryMark()
# A process begins with the highest that its parent had; go beyond it.
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
size = max(0, peak - psutil.Process().memory_info().rss) + (64 << 20)
print(size)
print(mark.grown_bytes())
taken = np.ones(size, np.uint8)
print(mark.grown_bytes())
del taken
print(mark.grown_bytes())
"""
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


@pytest.mark.slow
def test_growth_is_seen_while_it_lasts_and_after() -> None:
    """In a process of its own: one that ran other tests may give memory back meanwhile."""
    told = subprocess.run([sys.executable, "-c", GROWS], capture_output=True, text=True, check=True)
    size, before, during, after = map(int, told.stdout.split())
    assert before < 16 * MIB
    assert size - 4 * MIB < during < size + 96 * MIB
    assert size - 4 * MIB < after < size + 96 * MIB


def test_a_model_that_computes_in_more_than_the_process_may_fails_and_others_go_on(
    tmp_path: Path,
) -> None:
    model = make_eat_by_row(tmp_path / "eats.onnx", 1_000_000)
    told = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(model)], capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith("BundleError")
    assert "memory" in told.stdout.lower()
