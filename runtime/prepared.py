"""A loaded model whose every call was prepared beforehand: one call a bucket and slot."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from engine.core.errors import DeviceError
from engine.core.models import Floats, LoadedModel, ModelShape, Precision

_WARM_UP_RUNS: Final = 3


class Call(NamedTuple):
    """One prepared computation, from its staging buffer into its output buffer."""

    staging: Floats
    """Shape (bucket, W, F)."""
    output: Floats
    """Shape (bucket, O)."""
    compute: Callable[[], object]


class PreparedModel:
    """A ``LoadedModel`` made of prepared calls; what a backend's ``load`` returns.

    Args:
        backend: Name of the backend.
        device: Name of the device.
        precision: What it computes in.
        shape: Of one request.
        calls: By bucket and slot.
        memory_bytes: About what it takes.
        errors: What the library raises when it fails.
        release: Gives back what the calls do not own, once.

    Attributes:
        fallback: What of it runs elsewhere than on its device, for people; "" if nothing.
        graphs: Calls that replay a CUDA graph.
    """

    fallback: str = ""
    graphs: int = 0

    def __init__(
        self,
        *,
        backend: str,
        device: str,
        precision: Precision,
        shape: ModelShape,
        calls: Mapping[tuple[int, int], Call],
        memory_bytes: int,
        errors: tuple[type[Exception], ...],
        release: Callable[[], None] | None = None,
    ) -> None:
        self.backend = backend
        self.device = device
        self.precision = precision
        self.shape = shape
        self.buckets = tuple(sorted({bucket for bucket, _ in calls}))
        self.memory_bytes = memory_bytes
        self._calls = dict(calls)
        self._errors = errors
        self._release = release

    def staging(self, bucket: int, slot: int = 0) -> Floats:
        """Return the buffer a batch is gathered into: C-contiguous (bucket, window, features).

        Raises:
            DeviceError: there is no such bucket and slot, or the model is closed.
        """
        call = self._calls.get((bucket, slot))
        if call is None:
            raise self._no_call(bucket, slot)
        return call.staging

    def run(self, bucket: int, slot: int = 0) -> Floats:
        """Compute a slot's rows; return (bucket, outputs), valid until the slot's next run.

        Raises:
            DeviceError: the library failed, there is no such bucket, or the model is closed.
        """
        call = self._calls.get((bucket, slot))
        if call is None:
            raise self._no_call(bucket, slot)
        try:
            call.compute()
        except self._errors as error:
            raise DeviceError(f"{self.backend} on {self.device}: {error}") from error
        return call.output

    def bare_call(self, bucket: int, slot: int = 0) -> Callable[[], object]:
        """Return a slot's prepared computation itself, to be measured: a graph's replay, if any.

        Raises:
            DeviceError: there is no such bucket, or the model is closed.
        """
        call = self._calls.get((bucket, slot))
        if call is None:
            raise self._no_call(bucket, slot)
        return call.compute

    def warm_up(self) -> None:
        """Run every call some times, so that the first real one pays for nothing.

        Raises:
            DeviceError: the library failed.
        """
        for bucket, slot in self._calls:
            for _ in range(_WARM_UP_RUNS):
                self.run(bucket, slot)

    def close(self) -> None:
        """Give everything back; closing twice does nothing."""
        self._calls = {}
        release, self._release = self._release, None
        if release is not None:
            release()

    def _no_call(self, bucket: int, slot: int) -> DeviceError:
        what = f"has no slot {slot} of bucket {bucket}" if self._calls else "is closed"
        return DeviceError(f"{self.backend} on {self.device}: the model {what}")


def fallback_of(loaded: LoadedModel) -> str:
    """Return what of a loaded model runs elsewhere than on its device, "" if nothing is known."""
    told: str = getattr(loaded, "fallback", "")
    return told
