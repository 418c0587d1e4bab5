"""From noted times to latencies: all who wait see a stall, and whoever does not look, once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab_cases import BASE, MS, measured_of, stalled

from replay.lab.measured import (
    DELIVERY,
    END_TO_END,
    INJECTOR,
    NAIVE,
    NOISE,
    Heard,
    Sent,
    counts_of,
    measure,
    naive_latency,
)


def at(counts: Any, percentile: float) -> int:
    return int(counts.values_at([percentile])[0])


def test_a_stall_is_at_p99_9_from_intended_time_and_not_if_senders_waited() -> None:
    measured = measured_of(*stalled())
    assert at(measured.stages[END_TO_END], 99.9) > 190 * MS
    assert at(measured.stages[NAIVE], 99.9) < 1 * MS
    assert measured.stages[NAIVE].max >= 199 * MS, "the one that stalled is seen by both"


def test_without_a_stall_both_agree() -> None:
    due, answered = stalled(stall_ns=20_000)
    measured = measured_of(due, answered)
    assert at(measured.stages[END_TO_END], 99.9) == at(measured.stages[NAIVE], 99.9)


def test_what_stands_beside_is_measured_beside() -> None:
    measured = measured_of(*stalled())
    assert at(measured.stages[INJECTOR], 50) == pytest.approx(5_000, rel=1e-2)
    assert at(measured.stages[NOISE], 50) == pytest.approx(40_000, rel=1e-2)
    assert at(measured.stages[DELIVERY], 50) == pytest.approx(8_000, rel=1e-2)


def test_the_warm_up_is_in_no_figure() -> None:
    due, answered = stalled()
    measured = measured_of(due, answered, from_ns=int(due[3_000]))
    assert measured.signals == 1_000
    assert {counts.total for counts in measured.stages.values()} == {1_000}
    assert measured.stages[END_TO_END].max < MS, "the stall was before"


def test_every_client_counts_and_signals_count_once() -> None:
    measured = measured_of(*stalled(), clients=3)
    assert (measured.signals, measured.received) == (4_000, 12_000)
    assert at(measured.stages[NAIVE], 99.9) < 1 * MS, "clients do not wait for one another"


def test_parts_add_up_to_end_to_end() -> None:
    measured = measured_of(*stalled())
    everything, slowest = measured.parts
    assert everything.total == pytest.approx(measured.stages[END_TO_END].mean, rel=1e-2)
    assert slowest.signals == pytest.approx(40, abs=2)
    assert slowest.before > 100 * MS
    assert everything.after == pytest.approx(8_000)


def test_series_shows_when_the_stall_was() -> None:
    measured = measured_of(*stalled())
    series = measured.series
    worst = int(np.nanargmax(series.worst))
    assert series.begin_s[worst] == pytest.approx(2.0, abs=0.1)
    assert series.p50[0] == pytest.approx(20_000, rel=1e-2)
    assert len(series.begin_s) == len(series.noise) == 40


def test_ticks_are_looked_up_by_the_frame_they_were_in() -> None:
    sent = Sent(np.array([0, 3, 4]), np.array([10, 20, 30]), np.array([10, 20, 30]), 6)
    assert sent.intended_of(np.array([1, 3, 4, 5, 6])).tolist() == [10, 10, 20, 30, 30]
    assert [sent.ticks_from(when) for when in (10, 11, 30, 31)] == [6, 3, 2, 0]


def test_several_signals_of_one_tick_count_from_one_moment() -> None:
    recv, due = np.array([110, 130, 150]), np.array([100, 100, 120])
    assert naive_latency(recv, due, np.array([1, 1, 2])).tolist() == [10, 30, 20]


@given(
    gaps=st.lists(st.integers(0, 50), min_size=1, max_size=50),
    service=st.lists(st.integers(1, 80), min_size=51, max_size=51),
)
def test_of_a_single_server_the_naive_latency_is_the_service_time(
    gaps: list[int], service: list[int]
) -> None:
    due = np.cumsum([100, *gaps])
    answered, free = [], 0
    for when, takes in zip(due.tolist(), service, strict=False):
        free = max(when, free) + takes
        answered.append(free)
    naive = naive_latency(np.array(answered), due, np.arange(len(due)))
    assert naive.tolist() == service[: len(due)]


def test_no_signal_gives_empty_stages() -> None:
    nothing = np.zeros(0, np.int64)
    due = BASE + np.arange(2_000) * MS
    sent = Sent(np.arange(2_000), due, due, 2_000)
    heard = Heard(nothing, nothing, nothing, nothing, nothing, nothing, nothing)
    measured = measure(sent, heard, {"due_ns": due, "late_ns": due - due}, BASE)
    assert measured.stages[END_TO_END].total == 0
    assert measured.signals == 0
    assert np.isnan(measured.series.worst).all()


def test_signals_of_another_stream_are_left_out(tmp_path: Path) -> None:
    one = np.array([1, 2, 3])
    np.savez(
        tmp_path / "c.npz", client=one, recv_ns=one, epoch=np.array([7, 8, 7]), tick_seq=one,
        ts_emit=one, queue_ns=one, service_ns=one,
    )  # fmt: skip
    assert Heard.load(tmp_path / "c.npz", 7).tick_seq.tolist() == [1, 3]


def test_a_negative_latency_is_a_clock_fault() -> None:
    counts = counts_of(np.array([5, -3, 7]))
    assert (counts.total, counts.clock_faults) == (2, 1)
