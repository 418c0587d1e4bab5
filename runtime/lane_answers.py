"""What a lane says of a request it has served, and whom it tells."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from engine.core.models import Failure, Floats
from runtime.executors import Job
from runtime.request_queue import Request

LOST: Final = "lost"
RETURNED: Final = "returned"


class BatchFacts(msgspec.Struct, frozen=True, gc=False):
    """How one request was served.

    Attributes:
        batch: Requests in its batch; 0 if it was in none.
        bucket: Rows computed.
        queue_ns: From its submission to the start of the run, or to its failure.
        service_ns: The run.
        device: Which.
    """

    batch: int
    bucket: int
    queue_ns: int
    service_ns: int
    device: str


Gather = Callable[[int, list[Request], Floats], Sequence[bool]]
"""Fills the first rows of the buffer, float32 (bucket, W, F), with the windows of these requests
of a model; says for each whether its window was still there."""
OnDone = Callable[[Request, Floats | None, Failure | None, BatchFacts], None]
"""Takes a request's answer: its row, float32 (O,), valid during the call, or why there is none."""
OnRows = Callable[[list[Request], Floats, Job], None]
"""Takes the answers of a whole batch at once: requests, their rows first in float32 (N, O), valid
during the call, and how the batch went."""
OnHealth = Callable[[str, str], None]
"""Hears of a device, by name, that it is ``lost`` or has ``returned``."""


def no_health(device: str, event: str) -> None:
    """Hear and forget."""
