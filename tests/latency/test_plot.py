"""The plot draws what the log holds."""

from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from latency.counts import StageCounts
from latency.hlog_reader import Hlog, Interval
from latency.plot import draw, percentile_curve, write_plot

START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000


def counts(*values_ns: int) -> StageCounts:
    histogram = HdrHistogram(1, 60 * SECOND_NS, 3)
    for value in values_ns:
        histogram.record_value(value)
    return StageCounts.of(histogram)


def log_of(stages: int, intervals: int) -> Hlog:
    made = [
        Interval(
            f"stage{stage}",
            START_NS + turn * SECOND_NS,
            START_NS + (turn + 1) * SECOND_NS,
            counts(1_000 * (stage + 1), 0, 5_000 + turn),
        )
        for turn in range(intervals)
        for stage in range(stages)
    ]
    return Hlog(START_NS, tuple(made))


@given(values=st.lists(st.integers(0, 60 * SECOND_NS), min_size=1, max_size=50))
def test_curve_passes_through_the_percentiles(values: list[int]) -> None:
    recorded = counts(*values)
    inverse, curve = percentile_curve(recorded)
    assert inverse[0] == 1.0
    assert inverse[-1] == len(values)
    assert curve[-1] == recorded.max
    assert (np.diff(inverse) >= 0).all()
    assert (np.diff(curve) >= 0).all()
    median = int(recorded.values_at([50.0])[0])
    assert median in curve[1:]


@pytest.mark.parametrize(("stages", "intervals"), [(1, 1), (2, 3), (6, 40), (8, 2)])
def test_every_stage_gets_a_curve_and_a_panel(stages: int, intervals: int) -> None:
    figure = draw(log_of(stages, intervals), "A title")
    curves, *panels = figure.axes
    assert curves.get_legend() is not None
    assert len(curves.get_lines()) == 2 * stages
    assert [panel.get_visible() for panel in panels].count(True) == stages
    assert panels[0].get_title(loc="left") == "stage0"
    assert len(np.asarray(panels[0].get_lines()[0].get_xdata())) == intervals


def test_no_two_of_many_stages_look_alike() -> None:
    curves = draw(log_of(20, 1)).axes[0]
    lines = [line for line in curves.get_lines() if str(line.get_label()).startswith("stage")]
    assert len(lines) == 20
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 20


def test_stage_without_values_is_left_out() -> None:
    empty = Hlog(START_NS, (Interval("wire", START_NS, START_NS + 1, counts()),))
    assert len(draw(empty).axes) == 1


def test_plot_is_written_as_a_png(tmp_path: Path) -> None:
    path = tmp_path / "latency.png"
    write_plot(log_of(2, 2), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Format 'xyz' is not supported"):
        write_plot(log_of(1, 1), tmp_path / "latency.xyz")
