"""One batch on an NVIDIA GPU through PyTorch: copied in, computed and copied out as one graph.

Rows are staged in page-locked memory, so that the graph's copies run without the processor. The
owner thread waits in an event that sleeps instead of spinning; torch lets go of the interpreter
meanwhile.
"""

from collections.abc import Callable
from typing import Any, Final

from engine.core.models import ModelShape
from runtime.prepared import Call

_WARM_UP_RUNS: Final = 3


def prepare_graph(
    torch: Any, forward: Callable[[Any], Any], shape: ModelShape, bucket: int
) -> Call:
    """Capture a batch size as a CUDA graph with buffers of its own.

    Args:
        torch: The module.
        forward: Computes a batch that lies on the device.
        shape: Of one request.
        bucket: The batch size.

    Raises:
        RuntimeError: torch or the device failed; torch's own errors are of this kind.
    """
    staged = torch.zeros(bucket, shape.window, shape.features, pin_memory=True)
    answer = torch.zeros(bucket, shape.outputs, pin_memory=True)
    stream = torch.cuda.Stream(device=0)
    with torch.inference_mode(), torch.cuda.stream(stream):
        source = torch.zeros_like(staged, device="cuda:0")

        def step() -> None:
            source.copy_(staged, non_blocking=True)
            answer.copy_(forward(source), non_blocking=True)

        for _ in range(_WARM_UP_RUNS):
            step()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # What other threads ask of CUDA meanwhile, for a DLA as it may be, is none of this graph.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            step()
    done = torch.cuda.Event(blocking=True)

    def compute() -> None:
        with torch.cuda.stream(stream):
            graph.replay()
            done.record(stream)
        done.synchronize()

    return Call(staged.numpy(), answer.numpy(), compute)
