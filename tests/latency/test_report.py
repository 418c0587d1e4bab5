"""The report says what the histograms hold, in units people read."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from latency.counts import StageSummary
from latency.report import format_count, format_ns, percentile_table, summary_fields

FAST = StageSummary(20_000, 1_500.5, 1_200, 1_900, 2_700, 4_200, 20_000_000, 20_500_000)
EMPTY = StageSummary(0, 0.0, 0, 0, 0, 0, 0, 0)


def rendered(summaries: dict[str, StageSummary], width: int = 140) -> str:
    page = io.StringIO()
    Console(width=width, file=page).print(percentile_table(summaries))
    return page.getvalue()


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (0, "0 ns"), (999, "999 ns"), (1_000, "1.00 µs"), (12_345, "12.3 µs"),
        (99_960, "100 µs"), (123_456, "123 µs"), (2_500_000, "2.50 ms"), (61e9, "61.0 s"),
    ],
)  # fmt: skip
def test_duration_has_three_digits_and_the_unit_that_suits(value_ns: float, text: str) -> None:
    assert format_ns(value_ns) == text


def test_large_count_is_short() -> None:
    assert [format_count(n) for n in (0, 999_999, 1_234_567, 98_700_000_000)] == [
        "0", "999,999", "1.23 M", "98.7 G",
    ]  # fmt: skip


def test_table_shows_every_stage_with_its_percentiles() -> None:
    text = rendered({"compute": FAST, "gate": EMPTY})
    assert "20,000" in text
    assert "20.5 ms" in text
    assert "gate" in text
    assert "clock faults" not in text


def test_table_fits_a_narrow_terminal() -> None:
    text = rendered({"compute": FAST, "publish": replace(FAST, count=999_999)}, width=80)
    assert "publish" in text
    assert "999,999" in text
    assert "20.5 ms" in text


def names_of(*stages: str) -> dict[str, StageSummary]:
    wide = replace(FAST, count=999_999, mean=123_456.0, max=999_000_000)
    return dict.fromkeys(stages, wide)


@pytest.mark.parametrize(
    "summaries",
    [
        names_of("compute", "inference:tcn@cpu", "queue:tcn@cpu"),
        names_of("inference:tcn/reference@openvino@cpu", "total"),
        names_of("inference:" + "a_name_as_long_as_any_may_be_" * 2 + "@cpu"),
        dict.fromkeys(["wire"], replace(FAST, clock_faults=1_234, out_of_range=7)),
    ],
    ids=["models", "long name", "longest name", "faults"],
)
def test_nothing_is_cut_at_80_columns(summaries: dict[str, StageSummary]) -> None:
    text = rendered(summaries, width=80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for heading in ("count", "p50", "p99", "p99.9", "max"):
        assert heading in text.partition("─")[0]
    for name in summaries:
        assert name[:30] in text
    for number in ("4.20 µs", "2.70 µs", "1.20 µs"):
        assert number in text


def test_what_is_missed_least_goes_first() -> None:
    few = names_of("inference:tcn@cpu")
    assert "p99.99" in rendered(few, width=100)
    assert all(name in rendered(few, width=80) for name in ("p90", "p50", "max"))
    assert "p99.99" not in rendered(few, width=80)
    assert "mean" not in rendered(names_of("inference:tcn/reference@openvino@cpu"), width=80)


def test_clock_faults_are_shown_when_there_are_any() -> None:
    faulty = StageSummary(1, 5.0, 5, 5, 5, 5, 5, 5, clock_faults=1_234, out_of_range=7)
    text = rendered({"wire": faulty})
    assert "1,234" in text
    assert "clock faults" in text


def test_fields_carry_their_unit() -> None:
    fields = summary_fields({"compute": FAST})["compute"]
    assert fields["count"] == 20_000
    assert fields["p99_9_ns"] == 4_200
    assert set(fields) == {
        "count", "mean_ns", "p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "p99_99_ns", "max_ns",
        "clock_faults", "out_of_range",
    }  # fmt: skip
