"""What each TensorRT wants is known, and its names are in the bindings that are installed."""

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tensorrt_names import names_missing

from engine.core.errors import DeviceError
from runtime.tensorrt_versions import (
    RUN_NAMES,
    Flavour,
    Int8,
    int8_way,
    missing_names,
    profile_batches,
    profile_index,
    rules_of,
    scratch_bytes,
)

BINDINGS = ("tensorrt", "tensorrt_lean", "tensorrt_rtx")
WHEELS = Path(__file__).parents[2] / "var" / "tensorrt-bindings"
ONLY_IN_FULL = {"EngineInspector.get_engine_information"}


@pytest.mark.parametrize(
    ("version", "explicit", "flags", "calibrator", "shares"),
    [
        ("8.6.1", True, True, True, False),
        ("8.6.2.3", True, True, True, False),
        ("10.3.0.30", False, True, True, True),
        ("10.16.1.11", False, True, True, True),
        ("11.4.0.106", False, False, False, True),
        ("12.0", False, False, False, True),
    ],
)
def test_versions_want_what_their_notes_say(
    version: str, explicit: bool, flags: bool, calibrator: bool, shares: bool
) -> None:
    rules = rules_of(Flavour.TENSORRT, version)
    found = (rules.explicit_batch, rules.precision_flags, rules.calibrator, rules.shares_profiles)
    assert found == (explicit, flags, calibrator, shares)
    assert rules.dla
    assert not rules.built_for_chips


def test_rtx_is_strongly_typed_and_has_no_dla() -> None:
    rules = rules_of(Flavour.RTX, "1.7.1.116")
    assert rules[2:6] == (False, False, False, False)
    assert not rules.dla
    assert rules.built_for_chips


@pytest.mark.parametrize("version", ["8.5.3", "7.1", "", "new"])
def test_version_that_is_too_old_or_none_is_refused(version: str) -> None:
    with pytest.raises(DeviceError):
        rules_of(Flavour.TENSORRT, version)


@pytest.mark.parametrize(
    ("version", "on_dla", "way"),
    [
        ("8.6.1", False, Int8.CALIBRATOR),
        ("8.6.1", True, Int8.CALIBRATOR),
        ("10.3.0", False, Int8.QDQ),
        ("10.3.0", True, Int8.CALIBRATOR),
        ("11.4.1", False, Int8.QDQ),
        ("11.4.1", True, Int8.QDQ),
    ],
)
def test_int8_is_calibrated_only_where_it_has_to_be(version: str, on_dla: bool, way: Int8) -> None:
    assert int8_way(rules_of(Flavour.TENSORRT, version), on_dla=on_dla) is way


def test_every_slot_has_a_profile_of_its_own_before_version_10() -> None:
    old = profile_batches(rules_of(Flavour.TENSORRT, "8.6.1"), (1, 8), 2)
    assert old == (1, 8, 1, 8)
    assert [profile_index(old, bucket, slot) for bucket in (1, 8) for slot in (0, 1)] == [
        0, 2, 1, 3,
    ]  # fmt: skip


def test_slots_share_a_profile_from_version_10_on() -> None:
    new = profile_batches(rules_of(Flavour.TENSORRT, "10.3.0"), (1, 8), 2)
    assert new == (1, 8)
    assert [profile_index(new, 8, slot) for slot in (0, 1)] == [1, 1]
    assert profile_index(new, 4, 0) == -1


def test_scratch_memory_is_read_from_either_name() -> None:
    class Old:
        device_memory_size = 100

    class New:
        device_memory_size_v2 = 200

    assert (scratch_bytes(Old()), scratch_bytes(New())) == (100, 200)


def binding(module: str) -> Any:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return importlib.import_module(module)


@pytest.mark.parametrize("module", BINDINGS)
def test_installed_binding_has_the_names_to_run(module: str) -> None:
    missing = set(missing_names(binding(module), RUN_NAMES))
    assert missing <= (ONLY_IN_FULL if module == "tensorrt_lean" else set())


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_rtx"])
def test_installed_binding_has_the_names_to_build(module: str) -> None:
    tensorrt = binding(module)
    rules = rules_of(Flavour(module), tensorrt.__version__)
    assert missing_names(tensorrt, rules.build_names) == []


@pytest.mark.parametrize("major", [8, 10, 11])
def test_real_bindings_have_the_names_to_build_and_to_run(major: int) -> None:
    wheels = list(WHEELS.glob(f"tensorrt*bindings-{major}.*.whl"))
    if not wheels:
        pytest.skip(f"no bindings of TensorRT {major} in {WHEELS}; docs/hardware.md says how")
    for wheel in wheels:
        version, missing = names_missing(wheel)
        assert version.startswith(f"{major}.")
        assert missing == []


def test_missing_names_are_told_by_class() -> None:
    class Binding:
        class Runtime:
            num_DLA_cores = 0  # noqa: N815 # the library's own name

    found = missing_names(Binding, {"Runtime": ("num_DLA_cores", "other"), "None": ("x",)})
    assert found == ["Runtime.other", "None.x"]
