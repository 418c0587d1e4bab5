"""The fault switch: what a broken device does, and that a whole one is not touched."""

import threading

import numpy as np
import pytest
from lane_cases import SumModel

from engine.core.errors import DeviceError
from runtime.faults import Fault, FaultSwitch, FaultyModel


def make(hang_s: float = 20.0, late_s: float = 20.0) -> tuple[FaultyModel, FaultSwitch, SumModel]:
    model, switch = SumModel((1, 2)), FaultSwitch(hang_s, late_s)
    return FaultyModel(model, switch), switch, model


def test_while_nothing_is_broken_the_model_answers_as_ever() -> None:
    faulty, switch, model = make()
    faulty.staging(2)[:] = 1.0
    assert faulty.staging(2) is model.staging(2)
    np.testing.assert_array_equal(faulty.run(2)[:, 0], [8.0, 8.0])
    assert (faulty.backend, faulty.device, faulty.buckets) == ("sum", "cpu", (1, 2))
    assert switch.fault is None
    faulty.close()
    assert model.closed == 1


def test_a_device_told_to_raise_does() -> None:
    faulty, switch, model = make()
    switch.turn(Fault.RAISE)
    with pytest.raises(DeviceError, match="on purpose"):
        faulty.run(1)
    assert model.runs == []


def test_a_device_told_so_answers_nan() -> None:
    faulty, switch, _ = make()
    switch.turn(Fault.NAN)
    assert np.isnan(faulty.run(2)).all()


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.LATE])
def test_who_hangs_or_is_late_is_let_go_when_the_device_is_mended(fault: Fault) -> None:
    faulty, switch, _ = make()
    switch.turn(fault)
    done = threading.Event()
    errors: list[DeviceError] = []

    def work() -> None:
        try:
            faulty.run(1)
        except DeviceError as error:
            errors.append(error)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    assert not done.wait(0.1)
    switch.turn(None)
    assert done.wait(10)
    assert len(errors) == (fault is Fault.HANG)


def test_a_hang_ends_by_itself_after_its_time() -> None:
    faulty, switch, _ = make(hang_s=0.01)
    switch.turn(Fault.HANG)
    with pytest.raises(DeviceError, match="hung"):
        faulty.run(1)
