"""Which CUDA driver is used: cuda-bindings, or pycuda where only that is installed."""

from collections.abc import Sequence
from typing import Final

from engine.core.errors import DeviceError
from runtime.cuda.cuda_bindings_driver import CudaBindingsDriver
from runtime.cuda.interface import CudaDriver
from runtime.cuda.pycuda_driver import PycudaDriver

DRIVERS: Final[tuple[CudaDriver, ...]] = (CudaBindingsDriver(), PycudaDriver())
"""In order of preference."""


def missing_drivers(drivers: Sequence[CudaDriver] = DRIVERS) -> str:
    """Return what is missing for any of them to work, "" if one is installed."""
    told = [driver.missing() for driver in drivers]
    return "" if "" in told else "; ".join(told)


def choose_driver(drivers: Sequence[CudaDriver] = DRIVERS) -> CudaDriver:
    """Return the first driver that is installed.

    Raises:
        DeviceError: none is.
    """
    for driver in drivers:
        if not driver.missing():
            return driver
    raise DeviceError(missing_drivers(drivers))
