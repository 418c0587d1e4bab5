"""A lane batches, answers every request once, and counts what it decided; on one thread."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lane_cases import MS, SHAPE, HandClock, Rig, SumModel, make_rig
from tiny_models import MLP_SHAPE, make_mlp, onnx_file, random_windows, reference_outputs

from engine.core.errors import DeviceError
from engine.core.models import Failure, Floats, LoadOptions
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.executors import Inline
from runtime.lane import Lane
from runtime.lane_answers import BatchFacts
from runtime.planner import Planner
from runtime.request_queue import Request

WINDOW_VALUES = SHAPE.window * SHAPE.features


def place_of(request: Request) -> int:
    assert isinstance(request.context, int)
    return request.context


def served(clock: HandClock, model: SumModel, planner: Planner | None = None) -> Rig:
    rig = make_rig(clock, planner=planner)
    rig.lane.attach(0, model, name="sum")
    return rig


def test_requests_of_one_turn_share_a_batch_and_are_answered_in_their_own_name() -> None:
    clock = HandClock()
    model = SumModel()
    rig = served(clock, model)
    for value in (3.0, 1.0, 2.0):
        assert rig.ask(clock.now_ns + 10 * MS, value) is None
    assert rig.done == []
    rig.lane.pump()
    assert model.runs == [4]
    assert rig.sums() == [3.0 * WINDOW_VALUES, 1.0 * WINDOW_VALUES, 2.0 * WINDOW_VALUES]
    assert {(one.facts.batch, one.facts.bucket) for one in rig.done} == {(3, 4)}
    assert rig.lane.idle


def test_queue_and_service_times_are_told_apart() -> None:
    clock = HandClock()
    rig = served(clock, SumModel(before_run=lambda bucket: clock.turn(2 * MS)))
    rig.ask(clock.now_ns + 50 * MS)
    clock.turn(3 * MS)
    rig.lane.pump()
    facts = rig.done[0].facts
    assert (facts.queue_ns, facts.service_ns, facts.device) == (3 * MS, 2 * MS, "cpu")
    summary = {s: one.total for s, one in rig.lane.histograms()["sum"].cumulative().items()}
    assert summary == {"queue": 1, "inference": 1}


def test_answer_after_its_deadline_is_late_and_carries_no_row() -> None:
    clock = HandClock()
    rig = served(clock, SumModel(before_run=lambda bucket: clock.turn(20 * MS)))
    rig.ask(clock.now_ns + 10 * MS)
    rig.ask(clock.now_ns + 30 * MS)
    rig.lane.pump()
    assert rig.failures() == [Failure.LATE, None]
    assert rig.done[0].row is None


def test_window_that_is_gone_is_superseded_and_its_neighbours_are_not() -> None:
    clock = HandClock()
    model = SumModel()
    rig = served(clock, model)
    for value in (1.0, None, 2.0):
        rig.ask(clock.now_ns + 10 * MS, value)
    rig.lane.pump()
    assert rig.failures() == [None, Failure.SUPERSEDED, None]
    rig.ask(clock.now_ns + 10 * MS, None)
    rig.lane.pump()
    assert rig.failures()[3:] == [Failure.SUPERSEDED]
    assert len(model.runs) == 1, "nothing is run for windows that are all gone"


def test_not_a_number_passes_through_as_data() -> None:
    clock = HandClock()
    rig = served(clock, SumModel())
    rig.ask(clock.now_ns + 10 * MS, float("nan"))
    rig.ask(clock.now_ns + 10 * MS, 1.0)
    rig.lane.pump()
    assert rig.failures() == [None, None]
    assert np.isnan(rig.sums()[0] or 0.0)
    assert rig.sums()[1] == WINDOW_VALUES


@pytest.mark.parametrize("error", [DeviceError("gone"), ValueError("odd"), MemoryError()])
def test_model_that_raises_fails_its_batch_and_nothing_else(error: Exception) -> None:
    clock = HandClock()
    model = SumModel()
    rig = served(clock, model)

    def break_once(bucket: int) -> None:
        model.before_run = lambda bucket: None
        raise error

    model.before_run = break_once
    rig.ask(clock.now_ns + 10 * MS)
    rig.lane.pump()
    rig.ask(clock.now_ns + 10 * MS)
    rig.lane.pump()
    assert rig.failures() == [Failure.FAILED, None]


def test_output_of_another_shape_is_a_failure() -> None:
    class Odd(SumModel):
        def run(self, bucket: int, slot: int = 0) -> Floats:
            return super().run(bucket, slot)[:, :2]

    clock = HandClock()
    rig = served(clock, Odd())
    rig.ask(clock.now_ns + 10 * MS)
    rig.lane.pump()
    assert rig.failures() == [Failure.FAILED]


def test_closed_model_fails_its_requests() -> None:
    clock = HandClock()
    model = SumModel()
    rig = served(clock, model)
    model.close()
    rig.ask(clock.now_ns + 10 * MS)
    rig.lane.pump()
    assert rig.failures() == [Failure.FAILED]


def test_request_that_would_be_late_is_refused_at_once() -> None:
    clock = HandClock()
    rig = served(clock, SumModel(before_run=lambda bucket: clock.turn(5 * MS)))
    rig.ask(clock.now_ns + 50 * MS)
    rig.lane.pump()
    assert rig.ask(clock.now_ns + 4 * MS) is Failure.REFUSED
    assert rig.ask(clock.now_ns + 6 * MS) is None
    assert rig.lane.counts()["sum"]["failures"] == {"MODEL_REFUSED": 1}


def test_full_queue_refuses_and_says_so() -> None:
    clock = HandClock()
    rig = served(clock, SumModel(), planner=Planner(max_queued=2))
    told = [rig.ask(clock.now_ns + 50 * MS) for _ in range(3)]
    assert told == [None, None, Failure.REFUSED]
    assert rig.lane.planner.refused_full == 1


def test_unknown_model_is_unavailable() -> None:
    clock = HandClock()
    assert served(clock, SumModel()).ask(clock.now_ns + MS, model=7) is Failure.UNAVAILABLE


def test_waiting_requests_go_to_the_form_that_replaces_theirs() -> None:
    clock = HandClock()
    old, new = SumModel(), SumModel((1, 8))
    rig = served(clock, old)
    rig.ask(clock.now_ns + 10 * MS)
    rig.ask(clock.now_ns + 10 * MS)
    rig.lane.attach(0, new, name="sum")
    rig.lane.pump()
    assert (old.runs, new.runs) == ([], [8])
    assert rig.lane.counts()["sum"]["asked"] == 2


def test_detached_model_gives_back_what_waited() -> None:
    clock = HandClock()
    rig = served(clock, SumModel())
    rig.ask(clock.now_ns + 10 * MS, 4.0)
    assert [request.context for request in rig.lane.detach(0)] == [4.0]
    assert rig.lane.idle
    assert rig.ask(clock.now_ns + 10 * MS) is Failure.UNAVAILABLE


def test_times_of_a_model_that_left_are_kept_and_go_on_when_it_is_back() -> None:
    clock = HandClock()
    rig = served(clock, SumModel())
    for runs in (1, 2):
        rig.ask(clock.now_ns + 10 * MS)
        rig.lane.pump()
        rig.lane.detach(0)
        totals = {s: one.total for s, one in rig.lane.histograms()["sum"].cumulative().items()}
        assert totals == {"queue": runs, "inference": runs}
        rig.lane.attach(0, SumModel(), name="sum")
    assert rig.lane.counts()["sum"]["answered"] == 2


def test_who_is_answered_may_ask_again() -> None:
    clock = HandClock()
    left = [3]
    model = SumModel()

    def on_done(
        request: Request, row: Floats | None, failure: Failure | None, facts: BatchFacts
    ) -> None:
        if left[0]:
            left[0] -= 1
            assert lane.submit(Request(0, clock.now_ns + 10 * MS, clock.now_ns)) is None
            lane.pump()

    lane = Lane("cpu", Inline(clock), Planner(), lambda m, r, out: [True] * len(r), on_done, clock)
    lane.attach(0, model)
    lane.submit(Request(0, clock.now_ns + 10 * MS, clock.now_ns))
    lane.pump()
    assert (left, model.runs) == ([0], [1, 1, 1, 1])


def test_batches_padding_and_sizes_are_counted() -> None:
    clock = HandClock()
    rig = served(clock, SumModel((1, 4)))
    for _ in range(3):
        rig.ask(clock.now_ns + 10 * MS)
    rig.lane.pump()
    rig.ask(clock.now_ns + 10 * MS)
    rig.lane.pump()
    assert rig.lane.counts()["sum"] == {
        "asked": 4, "answered": 4, "failures": {}, "batches": 2, "inline_batches": 2,
        "rows": 4, "padding_rows": 1, "batch_sizes": {"1": 1, "3": 1},
        "errors": 0, "last_error": "", "slow_inline": 0,
    }  # fmt: skip


def test_what_the_library_says_is_counted_kept_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = HandClock()

    def out_of_memory(bucket: int) -> None:
        raise DeviceError("CUDA error 2: out of memory")

    rig = served(clock, SumModel(before_run=out_of_memory))
    for _ in range(100):
        rig.ask(clock.now_ns + 10 * MS)
        rig.lane.pump()
        clock.turn(1_000 * MS)
    told = rig.lane.counts()["sum"]
    assert (told["errors"], told["answered"]) == (100, 0)
    assert told["last_error"] == "DeviceError: CUDA error 2: out of memory"
    assert rig.lane.error_of(0) == told["last_error"]
    assert [record.message for record in caplog.records] == [
        f"model sum on cpu failed, {times} times so far: DeviceError: CUDA error 2: out of memory"
        for times in (1, 61)
    ]


def test_a_text_without_end_is_cut() -> None:
    clock = HandClock()

    def rant(bucket: int) -> None:
        raise DeviceError("no " * 100_000)

    rig = served(clock, SumModel(before_run=rant))
    rig.ask(clock.now_ns + 10 * MS)
    rig.lane.pump()
    assert len(rig.lane.error_of(0)) == 500


@given(
    turns=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=12),
            st.integers(0, 8),
        ),
        max_size=12,
    )
)
def test_every_request_taken_is_answered_exactly_once(
    turns: list[tuple[list[tuple[int, bool]], int]],
) -> None:
    clock = HandClock()
    rig = served(clock, SumModel(before_run=lambda bucket: clock.turn(bucket * MS // 2)))
    taken = 0
    for asked, pause in turns:
        for slack, there in asked:
            value = 1.0 if there else None
            taken += rig.ask(clock.now_ns + slack * MS, value) is None
        clock.turn(pause * MS)
        rig.lane.pump()
    assert len(rig.done) == taken
    assert len({id(one.request) for one in rig.done}) == taken
    counted = rig.lane.counts()["sum"]
    refused = counted["failures"].get("MODEL_REFUSED", 0)
    assert counted["asked"] == taken + refused
    assert counted["answered"] + sum(counted["failures"].values()) == counted["asked"]


def test_real_model_answers_each_window_with_its_own_row(tmp_path: Path) -> None:
    path = make_mlp(tmp_path / "mlp.onnx")
    loaded = OnnxRuntimeBackend().load(
        onnx_file(path), MLP_SHAPE, "cpu", LoadOptions((1, 4, 16), slots=1)
    )
    windows = random_windows(MLP_SHAPE, 11)
    rows = np.zeros((11, MLP_SHAPE.outputs), np.float32)

    def gather(model: int, requests: list[Request], out: Floats) -> list[bool]:
        for place, request in enumerate(requests):
            out[place] = windows[place_of(request)]
        return [True] * len(requests)

    def on_done(
        request: Request, row: Floats | None, failure: Failure | None, facts: BatchFacts
    ) -> None:
        rows[place_of(request)] = row

    clock = HandClock()
    lane = Lane("cpu", Inline(), Planner(), gather, on_done, clock)
    lane.attach(0, loaded)
    for place in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7, 10):
        assert lane.submit(Request(0, clock.now_ns + MS, clock.now_ns, 5, place)) is None
        if place in {4, 9}:
            lane.pump()
    lane.pump()
    np.testing.assert_allclose(rows, reference_outputs(path, windows), atol=1e-6)
    loaded.close()
