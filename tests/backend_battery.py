"""The contract that every backend keeps; a test file a backend inherits it and says how it loads.

Subclasses name themselves ``Test…`` and set ``backend``, ``device`` and ``form``. Windows and
expected outputs come from ONNX models made on the spot and computed by onnx's own evaluator.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import pytest
from tiny_models import (
    MLP_SHAPE,
    TCN_SHAPE,
    make_mlp,
    make_tcn,
    random_windows,
    reference_outputs,
)

from engine.core.errors import BundleError, DeviceError
from engine.core.models import (
    Backend,
    Floats,
    LoadedModel,
    LoadOptions,
    ModelFile,
    ModelShape,
    Precision,
)

LIMIT_S = 20.0
T = TypeVar("T")


class BackendBattery:
    """Every test loads for real; nothing is faked.

    Attributes:
        device: Device under test.
        precision: Of the forms.
        tolerance: Greatest absolute difference from the reference.
        buckets: Batch sizes tried; one where forms have a fixed batch.
        models: Which tiny models there are forms of.
        bitwise: Whether a row's answer is the same to the last bit whatever stands beside it.
    """

    device: ClassVar[str] = "cpu"
    precision: ClassVar[Precision] = Precision.FP32
    tolerance: ClassVar[float] = 2e-6
    buckets: ClassVar[tuple[int, ...]] = (1, 4)
    models: ClassVar[tuple[str, ...]] = ("mlp", "tcn")
    bitwise: ClassVar[bool] = True

    def backend(self) -> Backend:
        raise NotImplementedError

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        """Return the form of an ONNX model that this backend reads, for a batch size."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _in(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        self.opened: list[LoadedModel] = []
        yield
        for model in self.opened:
            model.close()

    def onnx(self, name: str) -> tuple[Path, ModelShape]:
        path = self.folder / f"{name}.onnx"
        return (make_mlp(path), MLP_SHAPE) if name == "mlp" else (make_tcn(path), TCN_SHAPE)

    def load(self, name: str, bucket: int, slots: int = 2) -> LoadedModel:
        onnx, shape = self.onnx(name)
        return self.load_form(self.form(onnx, shape, bucket), shape, bucket, slots)

    def load_form(
        self, file: ModelFile, shape: ModelShape, bucket: int, slots: int = 2
    ) -> LoadedModel:
        options = LoadOptions((bucket,), slots, self.folder / "cache")
        model = self.backend().load(file, shape, self.device, options)
        self.opened.append(model)
        return model

    def any_model(self) -> LoadedModel:
        return self.load(self.models[0], self.buckets[-1])

    def test_backend_runs_here(self) -> None:
        assert self.backend().missing() == ""
        assert self.device in {fact.device for fact in self.backend().devices()}

    def test_outputs_agree_with_the_reference(self) -> None:
        for name in self.models:
            onnx, shape = self.onnx(name)
            for bucket in self.buckets:
                model = self.load(name, bucket)
                windows = random_windows(shape, bucket)
                expected = reference_outputs(onnx, windows)
                assert np.abs(ask(model, windows) - expected).max() <= self.tolerance

    def test_loaded_model_says_what_it_is(self) -> None:
        model = self.any_model()
        assert model.backend == self.backend().name
        assert model.device == self.device
        assert model.precision == self.precision
        assert model.shape == self.onnx(self.models[0])[1]
        assert model.buckets == (self.buckets[-1],)
        assert model.memory_bytes > 0

    def test_staging_has_the_shape_and_is_written_in_place(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        staging = model.staging(bucket)
        assert staging.shape == (bucket, model.shape.window, model.shape.features)
        assert staging.dtype == np.float32
        assert staging.flags.c_contiguous
        assert staging.flags.writeable
        assert np.shares_memory(staging, model.staging(bucket))

    def test_answer_follows_every_write_to_the_staging_buffer(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        onnx, shape = self.onnx(self.models[0])
        for seed in range(3):
            windows = random_windows(shape, bucket, seed)
            expected = reference_outputs(onnx, windows)
            assert np.abs(ask(model, windows) - expected).max() <= self.tolerance

    def test_outputs_have_the_shape_and_type(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        outputs = model.run(bucket)
        assert outputs.shape == (bucket, model.shape.outputs)
        assert outputs.dtype == np.float32

    def test_slots_do_not_disturb_each_other(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        first, second = (random_windows(model.shape, bucket, seed) for seed in (1, 2))
        alone = ask(model, first).copy()
        answer = model.run(bucket, 0)
        ask(model, second, slot=1)
        assert np.array_equal(answer, alone)
        assert np.array_equal(model.staging(bucket, 0), first)
        assert np.array_equal(model.run(bucket, 0), alone)

    def test_same_rows_give_the_same_answer_twice(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        windows = random_windows(model.shape, bucket)
        assert np.array_equal(ask(model, windows).copy(), ask(model, windows))

    def test_row_does_not_depend_on_its_neighbours(self) -> None:
        for name in self.models:
            model, bucket = self.load(name, self.buckets[-1]), self.buckets[-1]
            windows = random_windows(model.shape, bucket, 3)
            before = ask(model, windows)[0].copy()
            windows[1:] = random_windows(model.shape, bucket, 4)[1:]
            after = ask(model, windows)[0]
            if self.bitwise:
                assert np.array_equal(before, after)
            assert np.abs(before - after).max() <= self.tolerance

    def test_nan_in_one_row_leaves_the_others_alone(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        windows = random_windows(model.shape, bucket)
        expected = ask(model, windows).copy()
        windows[-1] = np.nan
        answer = ask(model, windows)
        assert np.abs(answer[:-1] - expected[:-1]).max(initial=0.0) <= self.tolerance

    def test_infinite_and_huge_input_does_not_crash(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        for value in (np.inf, -np.inf, 3e38, 1e-45):
            model.staging(bucket)[...] = value
            assert model.run(bucket).shape == (bucket, model.shape.outputs)

    def test_two_models_are_loaded_at_once(self) -> None:
        loaded = [self.load(name, self.buckets[0]) for name in (*self.models, *self.models)]
        for model, name in zip(loaded, (*self.models, *self.models), strict=True):
            windows = random_windows(model.shape, self.buckets[0])
            expected = reference_outputs(self.onnx(name)[0], windows)
            assert np.abs(ask(model, windows) - expected).max() <= self.tolerance

    def test_closing_one_model_leaves_the_other(self) -> None:
        first, second = (self.load(self.models[0], self.buckets[0]) for _ in range(2))
        windows = random_windows(second.shape, self.buckets[0])
        expected = ask(first, windows).copy()
        first.close()
        assert np.array_equal(ask(second, windows), expected)

    def test_model_is_used_from_another_thread(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        windows = random_windows(model.shape, bucket)
        expected = ask(model, windows).copy()
        assert np.array_equal(in_thread(lambda: ask(model, windows).copy()), expected)

    def test_model_loaded_in_a_thread_is_used_and_closed_in_another(self) -> None:
        bucket, backend = self.buckets[0], self.backend()
        assert backend.missing() == ""
        model = in_thread(lambda: self.load(self.models[0], bucket))
        windows = random_windows(model.shape, bucket)
        assert ask(model, windows).shape == (bucket, model.shape.outputs)
        in_thread(model.close)

    def test_closed_model_refuses(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        model.close()
        model.close()
        with pytest.raises(DeviceError):
            model.run(bucket)
        with pytest.raises(DeviceError):
            model.staging(bucket)

    def test_staging_outlives_the_model(self) -> None:
        model, bucket = self.any_model(), self.buckets[-1]
        staging = model.staging(bucket)
        model.close()
        staging[...] = 1.0
        assert staging.sum() == staging.size

    def test_bucket_that_was_not_loaded_is_refused(self) -> None:
        model = self.any_model()
        with pytest.raises(DeviceError):
            model.run(self.buckets[-1] + 1)
        with pytest.raises(DeviceError):
            model.staging(self.buckets[-1], 2)

    def test_corrupt_file_is_refused(self) -> None:
        onnx, shape = self.onnx(self.models[0])
        file = self.form(onnx, shape, self.buckets[0])
        broken = self.folder / f"broken{file.path.suffix}"
        broken.write_bytes(b"\x07not a model" * 40)
        with pytest.raises(BundleError):
            self.load_form(file._replace(path=broken), shape, self.buckets[0])

    def test_truncated_file_is_refused(self) -> None:
        onnx, shape = self.onnx(self.models[0])
        file = self.form(onnx, shape, self.buckets[0])
        broken = self.folder / f"truncated{file.path.suffix}"
        broken.write_bytes(file.path.read_bytes()[: file.path.stat().st_size // 2])
        with pytest.raises(BundleError):
            self.load_form(file._replace(path=broken), shape, self.buckets[0])

    def test_missing_file_is_refused(self) -> None:
        onnx, shape = self.onnx(self.models[0])
        file = self.form(onnx, shape, self.buckets[0])
        gone = file._replace(path=self.folder / f"none{file.path.suffix}")
        with pytest.raises(BundleError):
            self.load_form(gone, shape, self.buckets[0])

    @pytest.mark.parametrize("field", ModelShape._fields)
    def test_model_of_another_shape_is_refused(self, field: str) -> None:
        onnx, shape = self.onnx(self.models[0])
        file = self.form(onnx, shape, self.buckets[0])
        other = shape._replace(**{field: getattr(shape, field) + 1})
        with pytest.raises(BundleError):
            self.load_form(file, other, self.buckets[0])

    def test_form_of_another_format_is_refused(self) -> None:
        onnx, shape = self.onnx(self.models[0])
        file = self.form(onnx, shape, self.buckets[0])
        with pytest.raises(BundleError):
            self.load_form(file._replace(format="other"), shape, self.buckets[0])

    def test_device_that_is_not_here_is_refused(self) -> None:
        onnx, shape = self.onnx(self.models[0])
        file = self.form(onnx, shape, self.buckets[0])
        with pytest.raises(DeviceError):
            self.backend().load(file, shape, "dla:7", LoadOptions())


def ask(model: LoadedModel, windows: Floats, slot: int = 0) -> Floats:
    """Write windows into a slot of their own bucket and run it."""
    bucket = len(windows)
    model.staging(bucket, slot)[...] = windows
    return model.run(bucket, slot)


def in_thread(work: Callable[[], T]) -> T:
    """Do something in a thread of its own."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(LIMIT_S)
    assert results, "the thread failed or did not come back"
    return results[0]
