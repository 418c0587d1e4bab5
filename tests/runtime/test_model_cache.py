"""Who stays in memory and who has to go."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.models import Floats, ModelShape, Precision
from runtime.model_cache import ModelCache

SHAPE = ModelShape(2, 1, 1)


class Sized:
    """A loaded model that is nothing but its size."""

    backend, device, precision, shape = "none", "cpu", Precision.FP32, SHAPE
    buckets: tuple[int, ...] = (1,)

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes

    def staging(self, bucket: int, slot: int = 0) -> Floats:
        return np.zeros((bucket, 2, 1), np.float32)

    def run(self, bucket: int, slot: int = 0) -> Floats:
        return np.zeros((bucket, 1), np.float32)

    def close(self) -> None:
        pass


def test_the_least_recently_used_goes_first() -> None:
    cache = ModelCache(100)
    for key in "abc":
        assert cache.admit(key, Sized(30)).admitted
    cache.touch("a")
    admission = cache.admit("d", Sized(30))
    assert admission.admitted
    assert [key for key, _ in admission.evicted] == ["b"]
    assert all(key in cache for key in "acd")


def test_only_as_many_go_as_must() -> None:
    cache = ModelCache(100)
    for key in "abc":
        cache.admit(key, Sized(30))
    assert [key for key, _ in cache.admit("d", Sized(40)).evicted] == ["a"]
    assert cache.used_bytes == 100


def test_what_is_in_use_never_goes() -> None:
    cache = ModelCache(100)
    cache.admit("a", Sized(60))
    cache.pin("a")
    admission = cache.admit("b", Sized(50))
    assert not admission.admitted
    assert "60 of the budget of 100" in admission.problem
    cache.unpin("a")
    assert [key for key, _ in cache.admit("b", Sized(50)).evicted] == ["a"]


def test_a_model_greater_than_the_budget_is_refused_and_nothing_goes_for_it() -> None:
    cache = ModelCache(100)
    cache.admit("a", Sized(60))
    admission = cache.admit("b", Sized(101))
    assert not admission.admitted
    assert admission.evicted == []
    assert "needs 101 bytes" in admission.problem
    assert "a" in cache
    assert cache.refusals == 1


def test_a_model_forgotten_gives_its_room_back() -> None:
    cache = ModelCache(100)
    model = Sized(60)
    cache.admit("a", model)
    assert cache.discard("a") is model
    assert cache.discard("a") is None
    assert cache.used_bytes == 0


def test_one_key_is_one_model() -> None:
    cache = ModelCache(100)
    cache.admit("a", Sized(1))
    with pytest.raises(ValueError, match="loaded already"):
        cache.admit("a", Sized(1))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 60), st.booleans())))
def test_the_books_always_balance(steps: list[tuple[int, int, bool]]) -> None:
    cache, kept = ModelCache(100), dict[int, Sized]()
    for key, size, pinned in steps:
        if key in kept:
            cache.touch(key)
            continue
        admission = cache.admit(key, Sized(size))
        for old, _ in admission.evicted:
            del kept[int(str(old))]
        if admission.admitted:
            kept[key] = Sized(size)
            if pinned:
                cache.pin(key)
        assert len(cache) == len(kept)
        assert cache.used_bytes == sum(model.memory_bytes for model in kept.values()) <= 100
