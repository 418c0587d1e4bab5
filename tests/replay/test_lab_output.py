"""What the lab shows: the table says what matters first, the report opens offline."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lab_cases import MS, measured_of, result_of_runs, run_of, stalled
from rich.console import Console, RenderableType

from latency.hlog_reader import read_hlog
from replay.lab.campaign import judge, void_of
from replay.lab.flame import ROOT, flame_of_all, flame_of_slowest
from replay.lab.measured import LAB_STAGES
from replay.lab.report import typical_runs, write_report
from replay.lab.results import Result, read_result, write_hlog, write_result
from replay.lab.search import Search, Step
from replay.lab.table import run_table, summary_table

STALLED = measured_of(*stalled())
SMOOTH = measured_of(*stalled(stall_ns=20_000))


def text_of(shown: RenderableType, width: int = 120) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def test_the_table_names_the_stall_and_what_a_waiting_tester_misses() -> None:
    told = text_of(run_table(run_of(STALLED)))
    assert re.search(r"coordinated omission: p99\.9 is 19\d ms from intended time", told)
    assert "would report 20.0 µs" in told
    assert "stalled 1 times over 20.0 ms, 199 ms at most" in told
    assert "refused: RISK_RATE 12" in told
    lines = [line for line in told.splitlines() if line.startswith(("end to end", "queueing"))]
    assert lines[0].startswith("end to end ")
    assert any("queueing: tiny@cpu" in line for line in lines)


def test_the_table_of_a_smooth_run_accuses_nobody() -> None:
    told = text_of(run_table(run_of(SMOOTH)))
    assert "omission" not in told
    assert "void" not in told


def test_what_went_wrong_stands_below_the_table() -> None:
    status = {"input": {"frame_bad_crc": 3}, "problems": ["the risk gate is halted"]}
    told = text_of(run_table(run_of(SMOOTH, void="the injector was late", status=status)))
    assert "void: the injector was late" in told
    assert "input: frame_bad_crc 3" in told
    assert "the engine said: the risk gate is halted" in told


def test_no_signals_is_said_not_shown_as_zeros() -> None:
    due, answered = stalled(count=200)
    measured = measured_of(due, answered, from_ns=int(due[-1]) + 1)
    told = text_of(run_table(run_of(measured)))
    assert "no signal in the measured part" in told
    assert re.search(r"end to end +0 +- ", told)


def test_several_runs_end_in_a_row_each() -> None:
    result = result_of_runs(run_of(SMOOTH), run_of(STALLED, 10.0), run_of(SMOOTH, 50.0, "late"))
    told = text_of(summary_table(result), 140)
    assert [line.split()[0] for line in told.splitlines()[-3:]] == ["1", "10", "50"]
    assert told.count("valid") == 2


def searched(limit: float) -> Search:
    search = Search(1.0, most=100.0, least=0.1)
    while search.speed is not None:
        kept = search.speed <= limit
        p99_ns = 1 * MS if kept else 9 * MS
        step = Step(search.speed, search.speed * 1e3, "end_to_end", p99_ns, kept, "p99 over")
        search.tell(step)
    return search


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (20.0, "max sustainable: 19,"),
        (1e9, "with a p99 of 1.00 ms within 5.00 ms, tick to client; the log is too short"),
        (0.0, "no speed kept a p99 of 5.00 ms"),
    ],
)  # fmt: skip
def test_the_search_ends_in_a_sentence(limit: float, words: str) -> None:
    result = result_of_runs()
    result.search, result.budget_ns = searched(limit), 5 * MS
    assert words in text_of(summary_table(result), 200)


def test_a_run_is_held_against_the_budget_and_what_was_lost() -> None:
    assert judge(run_of(SMOOTH), 5 * MS).kept
    assert judge(run_of(SMOOTH), 10_000).why == "p99 over 10.0 µs"
    assert judge(run_of(STALLED), 5 * MS).why == "p99 over 5.00 ms"
    late = judge(run_of(SMOOTH, void="late"), 5 * MS)
    assert (late.kept, late.void, late.why) == (False, True, "void: late")
    refused = judge(run_of(SMOOTH, status={"refusals": {"DATA_LATE": 2}}), 5 * MS)
    assert refused.why == "2 candidates were refused as late"


def test_a_run_whose_ticks_were_not_all_taken_does_not_count() -> None:
    outcome = run_of(SMOOTH).outcome
    assert void_of(outcome, MS) == ("", False)
    lossy = replace(outcome, taken=outcome.sent - 1_000, problems=("2 clients were cut off",))
    void, late = void_of(lossy, MS)
    assert void.endswith("ticks sent were not taken in time; 2 clients were cut off")
    assert void.startswith("1,000 of ")
    assert not late
    run = replace(run_of(SMOOTH), outcome=lossy, void=void)
    assert judge(run, 5 * MS).why == "1,000 ticks were not taken in time"
    assert text_of(run_table(run)).count("were not taken in time") == 1


def test_a_run_with_few_signals_is_held_by_its_ticks() -> None:
    due, answered = stalled(count=50, stall_ns=20_000)
    step = judge(run_of(measured_of(due, answered)), 5 * MS)
    assert (step.measure, step.kept) == ("wire", True)


@pytest.mark.parametrize("flame", [flame_of_all, flame_of_slowest])
def test_the_parts_of_a_flame_fill_their_parents(flame: Callable) -> None:  # type: ignore[type-arg] # of either
    boxes = flame(run_of(STALLED))
    names = {box.name for box in boxes}
    for parent in {box.parent for box in boxes} - {""}:
        own = next(box.value for box in boxes if box.name == parent)
        assert own == pytest.approx(sum(box.value for box in boxes if box.parent == parent))
    assert boxes[0].name == ROOT
    assert all(box.parent in names for box in boxes[1:])


def test_the_report_opens_offline_and_holds_every_part(tmp_path: Path) -> None:
    result = result_of_runs(run_of(STALLED), run_of(SMOOTH, 10.0))
    result.search, result.budget_ns = searched(20.0), 5 * MS
    write_report(tmp_path / "report.html", result)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("if senders waited", "where the time goes", "over time", "coordinated omission",
                  "Highest speed that can be sustained"):  # fmt: skip
        assert words in page
    assert page.count("Plotly.newPlot") >= 9
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", page)


def test_a_report_shows_the_middle_run_of_a_speed() -> None:
    runs = [run_of(STALLED, 1.0), run_of(SMOOTH, 1.0), run_of(SMOOTH, 1.0)]
    assert [run.outcome.measured is SMOOTH for run in typical_runs(runs)] == [True]
    assert typical_runs([run_of(STALLED, void="late"), run_of(SMOOTH)])[0].void == ""


def test_the_latency_log_holds_the_engines_stages_and_the_labs(tmp_path: Path) -> None:
    run = run_of(STALLED)
    write_hlog(tmp_path / "run.hlog", run)
    totals = read_hlog(tmp_path / "run.hlog").totals()
    assert set(totals) == set(run.stages)
    assert set(LAB_STAGES) < set(totals)
    for name, counts in run.stages.items():
        assert np.array_equal(totals[name].counts, counts.counts), name


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    result: Result = result_of_runs(run_of(STALLED))
    result.search, result.budget_ns = searched(20.0), 5 * MS
    write_result(tmp_path / "result.json", result)
    fields = read_result(tmp_path)
    run = fields["runs"][0]
    assert run["latency"]["end_to_end"]["p99_9_ns"] > 190 * MS
    assert run["latency"]["naive"]["p99_9_ns"] < MS
    assert run["stalls"] == 1
    assert len(run["series"]["worst"]) == 40
    found = fields["max_sustainable"]
    assert found["best"]["speed"] <= 20 < found["crossed"]["speed"]
