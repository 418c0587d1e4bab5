"""Breaks a loaded model on purpose, for tests and for showing what the engine does about it."""

import threading
from enum import StrEnum
from typing import Final

import numpy as np

from engine.core.errors import DeviceError
from engine.core.models import Floats, LoadedModel

HANG_S: Final = 10.0
LATE_S: Final = 0.2


class Fault(StrEnum):
    """What a broken device does."""

    RAISE = "raise"
    HANG = "hang"
    """It does not come back for ``HANG_S``, or until the fault is lifted."""
    LATE = "late"
    """Every run takes ``LATE_S`` longer."""
    NAN = "nan"


class FaultSwitch:
    """Breaks and mends everything behind it; any thread may turn it.

    One switch stands for one device: every model loaded there goes through it.
    """

    def __init__(self, hang_s: float = HANG_S, late_s: float = LATE_S) -> None:
        self._hang_s = hang_s
        self._late_s = late_s
        self._fault: Fault | None = None
        self._turned = threading.Event()

    @property
    def fault(self) -> Fault | None:
        """What is broken now; None if nothing."""
        return self._fault

    def turn(self, fault: Fault | None) -> None:
        """Break, or mend with None; whoever hangs is let go."""
        self._fault = fault
        self._turned.set()
        self._turned = threading.Event()

    def before_run(self) -> None:
        """Raise, hang or dawdle as the fault says.

        Raises:
            DeviceError: the fault is to raise, or a hang is over.
        """
        fault = self._fault
        if fault is Fault.RAISE:
            raise DeviceError("broken on purpose")
        if fault is Fault.HANG:
            self._turned.wait(self._hang_s)
            raise DeviceError(f"hung on purpose, for at most {self._hang_s:g} s")
        if fault is Fault.LATE:
            self._turned.wait(self._late_s)


class FaultyModel:
    """A loaded model behind a fault switch; keeps the port's contract while nothing is broken.

    Args:
        model: The model that answers; closed with this one.
        switch: Its device's switch.
    """

    def __init__(self, model: LoadedModel, switch: FaultSwitch) -> None:
        self._model = model
        self._switch = switch
        self.backend = model.backend
        self.device = model.device
        self.precision = model.precision
        self.shape = model.shape
        self.buckets = model.buckets
        self.memory_bytes = model.memory_bytes

    def staging(self, bucket: int, slot: int = 0) -> Floats:
        """Return the model's own staging buffer."""
        return self._model.staging(bucket, slot)

    def run(self, bucket: int, slot: int = 0) -> Floats:
        """Run the model, unless the switch is turned.

        Raises:
            DeviceError: the model's own, or the fault's.
        """
        self._switch.before_run()
        outputs = self._model.run(bucket, slot)
        if self._switch.fault is Fault.NAN:
            return np.full_like(outputs, np.nan)
        return outputs

    def close(self) -> None:
        """Close the model."""
        self._model.close()
