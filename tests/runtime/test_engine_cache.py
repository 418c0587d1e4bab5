"""The engine cache gives back exactly what was put in, and nothing that was damaged."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine_cache import EngineCache, EngineKey, is_packed, pack, read_packed, unpack

KEY = EngineKey(
    library="tensorrt",
    version="10.3.0.30",
    sm=87,
    jetpack="36.4.3",
    chip="Orin",
    device="dla:0",
    form="0" * 64,
    precision="fp16",
    buckets=(8,),
    window=32,
    features=8,
)
OTHER = {
    "library": "tensorrt_rtx",
    "version": "10.3.0.31",
    "sm": 86,
    "jetpack": "36.4.4",
    "chip": "Orin NX",
    "device": "dla:1",
    "form": "1" * 64,
    "precision": "int8",
    "buckets": (8, 8),
    "window": 33,
    "features": 9,
}


def test_engine_comes_back_as_it_was_written(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    assert cache.read(KEY) is None
    cache.write(KEY, b"plan")
    assert cache.read(KEY) == b"plan"
    assert (cache.counts.hits, cache.counts.misses, cache.counts.written) == (1, 1, 1)


@pytest.mark.parametrize("field", OTHER)
def test_key_that_differs_in_one_field_is_another_engine(tmp_path: Path, field: str) -> None:
    cache = EngineCache(tmp_path)
    cache.write(KEY, b"plan")
    assert cache.read(msgspec.structs.replace(KEY, **{field: OTHER[field]})) is None
    assert cache.read(KEY) == b"plan"


def test_every_field_of_the_key_counts() -> None:
    assert set(OTHER) == set(KEY.__struct_fields__)


def test_file_name_says_what_it_is() -> None:
    assert KEY.file_name.startswith("tensorrt_10.3.0.30_sm87_dla-0_fp16_8_")
    assert "/" not in KEY.file_name


def test_damaged_file_is_removed_and_built_anew(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    path = cache.write(KEY, b"plan")
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.read(KEY) is None
    assert not path.exists()
    assert cache.counts.corrupt == 1
    cache.write(KEY, b"plan")
    assert cache.read(KEY) == b"plan"


def test_file_of_another_key_under_this_name_is_refused(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    other = msgspec.structs.replace(KEY, sm=86)
    cache.path(KEY).write_bytes(pack(other, b"plan"))
    assert cache.read(KEY) is None


@given(engine=st.binary(max_size=200), place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(engine: bytes, place: int, bit: int) -> None:
    content = bytearray(pack(KEY, engine))
    content[place % len(content)] ^= 1 << bit
    assert unpack(bytes(content), KEY) is None or bytes(content) == pack(KEY, engine)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_an_engine_or_none(content: bytes) -> None:
    assert read_packed(content) is None
    assert not is_packed(content) or content.startswith(b"HEQIS-ENGINE")


def test_least_recently_used_engine_goes_first(tmp_path: Path) -> None:
    size = len(pack(KEY, bytes(1000)))
    cache = EngineCache(tmp_path, max_bytes=2 * size + size // 2)
    keys = [msgspec.structs.replace(KEY, sm=sm) for sm in (80, 86, 87)]
    for age, key in enumerate(keys[:2]):
        os.utime(cache.write(key, bytes(1000)), ns=(age, age))
    assert cache.read(keys[0]) is not None
    cache.write(keys[2], bytes(1000))
    assert cache.read(keys[0]) is not None
    assert cache.read(keys[1]) is None
    assert cache.counts.evicted == 1


def test_engine_larger_than_the_bound_is_kept_alone(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, max_bytes=10)
    cache.write(KEY, bytes(100))
    assert cache.read(KEY) == bytes(100)


def test_nothing_is_left_beside_the_engine(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    path = cache.write(KEY, b"one")
    cache.write(KEY, b"two")
    assert list(tmp_path.iterdir()) == [path]
