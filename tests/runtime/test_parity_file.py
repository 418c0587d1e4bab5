"""Parity vectors are read as they were written, and nothing in their file can hurt."""

import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import BundleError
from engine.core.models import Floats, ModelShape
from runtime import parity_file
from runtime.parity_file import MAX_PARITY_ROWS, ParityVectors, read_vectors, write_vectors

SHAPE = ModelShape(8, 4, 3)


def vectors(rows: int = 5, seed: int = 1) -> dict[str, Floats]:
    random = np.random.default_rng(seed)
    return {
        "x": random.standard_normal((rows, 8, 4)).astype(np.float32),
        "y": random.standard_normal((rows, 3)).astype(np.float32),
    }


def read(path: Path) -> ParityVectors:
    return read_vectors(path, "x", "y", SHAPE)


def write_member(path: Path, header: str, data: bytes = b"") -> None:
    """Write an archive whose array "x" has this header."""
    text = header.encode().ljust(117) + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", member)


def test_what_was_written_is_read_and_is_the_same_every_time(tmp_path: Path) -> None:
    arrays = vectors()
    write_vectors(tmp_path / "a.npz", arrays)
    write_vectors(tmp_path / "b.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.inputs, arrays["x"])
    np.testing.assert_array_equal(found.outputs, arrays["y"])
    with np.load(tmp_path / "a.npz") as loaded:
        np.testing.assert_array_equal(loaded["x"], arrays["x"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_is_read(tmp_path: Path, save: Any) -> None:
    arrays = vectors()
    arrays["x"] = np.asfortranarray(arrays["x"])
    save(tmp_path / "a.npz", **arrays)
    np.testing.assert_array_equal(read(tmp_path / "a.npz").inputs, arrays["x"])


def spoil(arrays: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    return {**arrays, name: value}


NAN = vectors()["y"]
NAN[2, 1] = np.nan
INFINITE = vectors()["x"]
INFINITE[0, 0, 0] = -np.inf


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("y", NAN, "'y' holds NaN or infinity; make the vectors again"),
        ("x", INFINITE, "'x' holds NaN or infinity"),
        ("x", vectors()["x"].astype(np.float64), "'x' is float64 .* asks for float32"),
        ("x", vectors()["x"].astype(">f4"), "'x' is >f4"),
        ("x", vectors()["x"][:, :7], r"'x' is float32 \(5, 7, 4\); .* \('N', 8, 4\)"),
        ("x", vectors()["x"].reshape(5, 32), r"'x' is float32 \(5, 32\)"),
        ("x", np.float32(1), r"'x' is float32 \(\); the manifest asks for"),
        ("y", vectors(rows=4)["y"], "'x' has 5 rows, 'y' has 4"),
        ("x", vectors(rows=0)["x"], "'x' has 0 rows; 1 to 4096 are read"),
        ("x", np.array([{}], dtype=object), "object|cannot be read|no NumPy archive"),
    ],
)
def test_other_types_shapes_and_numbers_are_refused(
    tmp_path: Path, name: str, value: Any, expected: str
) -> None:
    np.savez(tmp_path / "a.npz", **spoil(vectors(), name, value))
    with pytest.raises(BundleError, match=expected):
        read(tmp_path / "a.npz")


def test_too_many_rows_are_refused(tmp_path: Path) -> None:
    write_vectors(tmp_path / "a.npz", vectors(rows=MAX_PARITY_ROWS + 1))
    with pytest.raises(BundleError, match="'x' has 4097 rows"):
        read(tmp_path / "a.npz")


def test_a_missing_array_is_named_beside_those_there(tmp_path: Path) -> None:
    write_vectors(tmp_path / "a.npz", {"x": vectors()["x"], "z": vectors()["y"]})
    with pytest.raises(BundleError, match="it has no array 'y'; it has: x, z"):
        read(tmp_path / "a.npz")


def test_a_header_that_claims_a_terabyte_takes_no_memory(tmp_path: Path) -> None:
    write_member(
        tmp_path / "a.npz",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000, 8, 4), }",
    )
    with pytest.raises(BundleError, match="'x' has 10000000000 rows"):
        read(tmp_path / "a.npz")


def test_large_windows_have_fewer_rows(tmp_path: Path) -> None:
    write_member(
        tmp_path / "a.npz",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4096, 4096, 256), }",
    )
    with pytest.raises(BundleError, match="up to 67108864 bytes"):
        read_vectors(tmp_path / "a.npz", "x", "y", ModelShape(4096, 256, 3))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 8, 4), }", "'x' is cut off"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8, 4), }", "'x' has -1 rows"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (5, 8, 4), }", "'x' is object"),
        ("{'descr': 7}", "it is no NumPy archive"),
        ("__import__('os').abort()", "it is no NumPy archive"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: str, expected: str) -> None:
    write_member(tmp_path / "a.npz", header)
    with pytest.raises(BundleError, match=expected):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"PK\x05\x06" + bytes(18), b"nonsense" * 99])
def test_what_is_no_archive_is_said_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(BundleError, match=r"it is no NumPy archive|it has: nothing"):
        read(tmp_path / "a.npz")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        read(tmp_path / "none.npz")


@given(st.data())
def test_a_spoilt_archive_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    stream = io.BytesIO()
    np.savez(stream, **vectors(rows=2))  # type: ignore[arg-type]  # its stub lacks array names
    whole = stream.getvalue()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    try:
        read(path)
    except BundleError:
        return


def test_headers_are_parsed_in_one_thread_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vectors(tmp_path / "a.npz", vectors())
    read_header = parity_file._READ_HEADER[1, 0]
    inside: list[int] = []
    most: list[int] = []
    another = threading.Event()

    def slow(stream: Any) -> Any:
        inside.append(1)
        most.append(len(inside))
        if len(inside) > 1:
            another.set()
        another.wait(0.05)
        inside.pop()
        return read_header(stream)

    monkeypatch.setitem(parity_file._READ_HEADER, (1, 0), slow)
    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(lambda _: read(tmp_path / "a.npz"), range(4)))) == 4
    assert max(most) == 1
