"""An .hlog is the standard one: the HdrHistogram library's reader reads the same numbers."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.counts import StageCounts
from latency.histogram import StageHistograms
from latency.hlog import HlogWriter
from latency.hlog_reader import UNTAGGED, HlogError, read_hlog
from latency.stages import STAGES, Stage

START_NS = 1_700_000_000_123_000_000
SECOND_NS = 1_000_000_000


def recorded(*values_ns: int) -> StageCounts:
    histogram = HdrHistogram(1, 60 * SECOND_NS, 3)
    for value in values_ns:
        histogram.record_value(value)
    return StageCounts.of(histogram)


def library_reads(path: Path) -> list[HdrHistogram]:
    reader = HistogramLogReader(str(path), HdrHistogram(1, 60 * SECOND_NS, 3))
    try:
        return list(iter(reader.get_next_interval_histogram, None))
    finally:
        reader.close()


@settings(max_examples=20)
@given(parts=st.lists(st.lists(st.integers(0, 60 * SECOND_NS), min_size=1), max_size=4))
def test_library_reads_back_every_interval(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]]
) -> None:
    path = tmp_path_factory.mktemp("hlog") / "live.hlog"
    histograms = StageHistograms()
    with HlogWriter(path, START_NS) as writer:
        for turn, part in enumerate(parts):
            for value in part:
                histograms.record_value(Stage.GATE, value)
            begin = START_NS + turn * SECOND_NS
            writer.append_all(histograms.take_interval(), begin, begin + SECOND_NS)
    intervals = library_reads(path)
    assert len(intervals) == len(parts)
    for turn, (interval, part) in enumerate(zip(intervals, parts, strict=True)):
        expected = recorded(*part).to_histogram()
        assert interval.get_tag() == "gate"
        assert interval.get_total_count() == len(part)
        for percentile in (50.0, 99.0, 99.9, 100.0):
            assert interval.get_value_at_percentile(percentile) == (
                expected.get_value_at_percentile(percentile)
            )
        assert interval.get_start_time_stamp() == pytest.approx(START_NS / 1e6 + turn * 1e3)
        assert interval.get_end_time_stamp() == pytest.approx(START_NS / 1e6 + turn * 1e3 + 1e3)


def test_what_was_written_is_read_back_with_its_times(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    with HlogWriter(path, START_NS) as writer:
        writer.append("wire", recorded(10, 2_000_000), START_NS, START_NS + SECOND_NS)
        writer.append("total", recorded(7), START_NS + SECOND_NS, START_NS + 3 * SECOND_NS)
    log = read_hlog(path)
    assert log.start_wall_ns == START_NS
    assert log.stages == ("wire", "total")
    wire, total = log.intervals
    assert (wire.start_wall_ns, wire.end_wall_ns) == (START_NS, START_NS + SECOND_NS)
    assert (total.start_wall_ns - START_NS, total.end_wall_ns - START_NS) == (10**9, 3 * 10**9)
    assert wire.counts.summary() == recorded(10, 2_000_000).summary()


def test_header_says_version_and_times_as_the_standard_does(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    HlogWriter(path, START_NS).close()
    lines = path.read_text().splitlines()
    assert lines[1] == "#[Histogram log format version 1.3]"
    assert lines[2] == (
        "#[StartTime: 1700000000.123 (seconds since epoch), Tue Nov 14 22:13:20 UTC 2023]"
    )
    assert lines[3] == "#[BaseTime: 1700000000.123 (seconds since epoch)]"
    assert lines[4].startswith('"StartTimestamp","Interval_Length"')


def test_totals_add_up_the_intervals_of_each_stage(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    with HlogWriter(path, START_NS) as writer:
        for value in (10, 20, 30):
            writer.append("wire", recorded(value), START_NS, START_NS + 1)
    expected = recorded(10, 20, 30)
    total = read_hlog(path).totals()["wire"]
    np.testing.assert_array_equal(total.indices, expected.indices)
    np.testing.assert_array_equal(total.counts, expected.counts)


def test_clock_faults_survive_the_file_even_with_nothing_else_recorded(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    histograms = StageHistograms()
    histograms.record_repeat(Stage.WIRE, -5, 3)
    histograms.record_value(Stage.GATE, 10**15)
    with HlogWriter(path, START_NS) as writer:
        writer.append_all(histograms.take_interval(), START_NS, START_NS + 1)
    assert read_hlog(path).totals()["wire"].clock_faults == 3
    assert read_hlog(path).totals()["gate"].out_of_range == 1
    assert len(library_reads(path)) == 2


def test_stage_that_recorded_nothing_takes_no_line(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    with HlogWriter(path, START_NS) as writer:
        writer.append_all(StageHistograms().take_interval(), START_NS, START_NS + 1)
        assert writer.lines == 0
    with pytest.raises(HlogError, match="no histogram interval"):
        read_hlog(path)


def test_every_append_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    with HlogWriter(path, START_NS) as writer:
        for count in range(1, 4):
            writer.append("wire", recorded(5), START_NS, START_NS + 1)
            assert len(read_hlog(path).intervals) == count


def test_full_file_is_kept_once_and_a_new_one_begins(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    with HlogWriter(path, START_NS, max_bytes=1_000) as writer:
        for turn in range(100):
            writer.append("wire", recorded(turn), START_NS + turn * SECOND_NS, START_NS)
        assert writer.rotations > 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["live.hlog", "live.hlog.1"]
    older, newer = read_hlog(tmp_path / "live.hlog.1"), read_hlog(path)
    assert newer.intervals[0].start_wall_ns == older.intervals[-1].start_wall_ns + SECOND_NS
    assert path.stat().st_size < 2_000


def test_log_of_an_earlier_run_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    for value in (1, 2):
        with HlogWriter(path, START_NS) as writer:
            writer.append("wire", recorded(value), START_NS, START_NS + 1)
    assert read_hlog(tmp_path / "live.hlog.1").totals()["wire"].max == 1
    assert read_hlog(path).totals()["wire"].max == 2


@pytest.mark.parametrize("tag", ["", "a,b", "a b", "µ"])
def test_stage_that_cannot_be_a_tag_is_refused(tmp_path: Path, tag: str) -> None:
    with (
        HlogWriter(tmp_path / "live.hlog", START_NS) as writer,
        pytest.raises(ValueError, match="cannot be a tag"),
    ):
        writer.append(tag, recorded(1), START_NS, START_NS + 1)


def test_device_name_can_be_a_tag(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    with HlogWriter(path, START_NS) as writer:
        writer.append("inference[tcn@dla:0]", recorded(1), START_NS, START_NS + 1)
    assert read_hlog(path).stages == ("inference[tcn@dla:0]",)


def test_torn_last_line_is_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "live.hlog"
    with HlogWriter(path, START_NS) as writer:
        writer.append("wire", recorded(1), START_NS, START_NS + 1)
    with path.open("a") as file:
        file.write("Tag=wire,1.000,1.0")
    log = read_hlog(path)
    assert (len(log.intervals), log.torn_bytes) == (1, 18)


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_untagged_absolute_stamps_of_other_tools_are_read(tmp_path: Path) -> None:
    payload = recorded(4_000).to_histogram().encode().decode()
    path = write_lines(tmp_path / "x.hlog", f"1441812279.474,1.007,2.769,{payload}")
    log = read_hlog(path)
    assert log.stages == (UNTAGGED,)
    assert log.intervals[0].start_wall_ns == log.start_wall_ns == 1_441_812_279_474_000_000


def test_stamps_far_before_the_start_are_relative_to_it(tmp_path: Path) -> None:
    payload = recorded(4_000).to_histogram().encode().decode()
    start = "#[StartTime: 1441812279.474 (seconds since epoch), Wed Sep 09 08:24:39 PDT 2015]"
    log = read_hlog(write_lines(tmp_path / "x.hlog", start, f"0.127,1.007,2.769,{payload}"))
    assert log.intervals[0].start_wall_ns == 1_441_812_279_601_000_000


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("hello", "not an interval line"),
        ("0.1,1.0,2.0,AAAA", "damaged histogram"),
        ("0.1,1.0,2.0,HISTFAAAAEV42pNpmSz", "damaged histogram"),
        ("-1,1.0,2.0,AAAA", "not an interval line"),
    ],
)
def test_damaged_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = write_lines(tmp_path / "x.hlog", "#[Histogram log format version 1.3]", line)
    with pytest.raises(HlogError, match=f"x.hlog:2: {problem}"):
        read_hlog(path)


@given(noise=st.binary(max_size=200))
def test_bytes_that_are_no_log_give_one_kind_of_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("noise") / "x.hlog"
    path.write_bytes(noise + b"\n")
    with pytest.raises(HlogError):
        read_hlog(path)


@settings(max_examples=50)
@given(place=st.integers(0, 10**6), byte=st.integers(33, 126))
def test_changed_byte_in_a_payload_never_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    payload = bytearray(recorded(1, 1_000, 10**6).to_histogram().encode())
    payload[place % len(payload)] = byte
    path = tmp_path_factory.mktemp("flip") / "x.hlog"
    write_lines(path, f"0.1,1.0,2.0,{payload.decode()}")
    with contextlib.suppress(HlogError):
        assert read_hlog(path).intervals


def test_stages_are_tags_of_their_own() -> None:
    assert STAGES == ("wire", "ingest", "compute", "gate", "publish", "total")
