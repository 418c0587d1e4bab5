"""What the probes found, asked once a process: backends share the answers."""

import subprocess
import sys
from functools import cache

from runtime.probe import CHILD_LIMIT_S, CudaProbe, probe_cuda, probe_module


@cache
def found_cuda() -> CudaProbe:
    """Return what the CUDA driver said; the first call takes a child process."""
    return probe_cuda()


@cache
def ask_module(module: str, expression: str) -> str:
    """Evaluate an expression about a module in a child process; "" if it crashed or failed.

    Args:
        module: A top-level module, imported in the child.
        expression: What to print, such as ``",".join(m.names())``; the module is ``m``.
    """
    if not probe_module(module).present:
        return ""
    code = f"import {module} as m; print({expression})"
    command = [sys.executable, "-P", "-c", code]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CHILD_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return "" if done.returncode else done.stdout.strip().rsplit("\n", 1)[-1]
