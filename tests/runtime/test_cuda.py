"""A CUDA session copies, captures, waits and gives everything back, through either binding."""

import ctypes
import gc
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from engine.core.errors import DeviceError
from runtime.cuda.cuda_bindings_driver import CudaBindingsDriver
from runtime.cuda.interface import CudaDriver, CudaSession
from runtime.cuda.pycuda_driver import PycudaDriver
from runtime.cuda.select import DRIVERS, choose_driver, missing_drivers
from runtime.probe import probe_cuda

STANDIN = "STANDIN_TENSORRT" in os.environ
SIZE = 1024


class Absent:
    name = "absent"

    def missing(self) -> str:
        return "absent is not installed"

    def open(self, ordinal: int = 0) -> CudaSession:
        raise AssertionError


def test_cuda_bindings_come_before_pycuda() -> None:
    assert [driver.name for driver in DRIVERS] == ["cuda-bindings", "pycuda"]


def test_first_driver_that_is_installed_is_chosen() -> None:
    class Present(Absent):
        def missing(self) -> str:
            return ""

    present = Present()
    assert choose_driver([Absent(), present]) is present
    assert missing_drivers([Absent(), present]) == ""


def test_machine_without_a_binding_says_what_is_missing() -> None:
    with pytest.raises(DeviceError, match=r"absent is not installed; absent"):
        choose_driver([Absent(), Absent()])


@pytest.fixture(params=[CudaBindingsDriver, PycudaDriver])
def session(request: pytest.FixtureRequest) -> Iterator[CudaSession]:
    driver: CudaDriver = request.param()
    if driver.missing():
        pytest.skip(driver.missing())
    cuda = probe_cuda()
    if not cuda.devices:
        pytest.skip(f"no CUDA device: {cuda.problem}")
    session = driver.open()
    yield session
    session.close()


@pytest.mark.hardware
class TestSession:
    def test_bytes_go_to_the_device_and_back(self, session: CudaSession) -> None:
        with session.active():
            given, made = session.host_buffer(SIZE), session.host_buffer(SIZE)
            device = session.device_buffer(SIZE)
            given.array[:] = np.arange(SIZE) % 251
            session.upload(device, given)
            session.download(made, device)
            session.finish()
        assert np.array_equal(made.array, given.array)

    def test_graph_copies_what_is_there_when_it_is_launched(self, session: CudaSession) -> None:
        with session.active():
            given, made = session.host_buffer(SIZE), session.host_buffer(SIZE)
            device = session.device_buffer(SIZE)
            session.begin_capture()
            session.upload(device, given)
            session.download(made, device)
            graph = session.end_capture()
            for value in (3, 7):
                given.array[:] = value
                session.launch(graph)
                session.finish()
                assert (made.array == value).all()

    def test_new_memory_is_zero_and_aligned(self, session: CudaSession) -> None:
        with session.active():
            buffer = session.host_buffer(SIZE)
            assert not buffer.array.any()
            assert buffer.array.ctypes.data % 64 == 0
            assert session.device_buffer(SIZE) % 256 == 0
            assert bool(buffer.device_address) == session.integrated
            assert session.free_bytes() > 0

    def test_session_is_used_from_another_thread(self, session: CudaSession) -> None:
        with session.active():
            given, made = session.host_buffer(SIZE), session.host_buffer(SIZE)
            device = session.device_buffer(SIZE)
        given.array[:] = 9

        def work() -> None:
            with session.active():
                session.upload(device, given)
                session.download(made, device)
                session.finish()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        assert (made.array == 9).all()

    def test_host_memory_outlives_the_session(self, session: CudaSession) -> None:
        with session.active():
            array = session.host_buffer(SIZE).array
        session.close()
        session.close()
        array[:] = 5
        assert array.sum() == 5 * SIZE

    def test_call_without_the_context_is_a_device_error(self, session: CudaSession) -> None:
        if session.driver != "cuda-bindings":
            pytest.skip("pycuda raises its own error outside active(), which wraps it")
        with pytest.raises(DeviceError, match="CUDA_ERROR_INVALID_CONTEXT"):
            session.device_buffer(SIZE)

    def test_device_that_is_not_here_is_refused(self, session: CudaSession) -> None:
        with pytest.raises(DeviceError):
            CudaBindingsDriver().open(63)

    def test_nothing_is_left_behind(self, session: CudaSession) -> None:
        if not STANDIN:
            pytest.skip("only a stand-in driver counts what is alive")
        with session.active():
            buffer = session.host_buffer(SIZE)
            session.device_buffer(SIZE)
            session.begin_capture()
            session.upload(session.device_buffer(SIZE), buffer)
            session.end_capture()
        session.close()
        del buffer
        gc.collect()
        assert ctypes.CDLL("libcuda.so.1").standin_alive() == 0
