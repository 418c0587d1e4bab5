"""Two sessions compared: beyond the threshold and beyond the noise, or no regression."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.core.errors import CheckFailedError, ConfigError, InputFileError, UserError
from replay.lab.compare import (
    JUDGED,
    Change,
    Comparison,
    compare_results,
    judge_ratios,
    noise_band,
    parse_threshold,
)
from replay.lab.results import read_result

STAGES = ("end_to_end", "wire", "ingest", "compute", "gate", "publish", "total")
NOISE = (1.0, 1.03, 0.98, 1.01, 0.99)


def result_of(factors: tuple[float, ...] = NOISE, speeds: tuple[float, ...] = (1.0,)) -> Any:
    """Return a session whose p50 is 100 us and p99 1 ms, each run by its factor."""
    runs = []
    for speed in speeds:
        for repeat, factor in enumerate(factors, 1):
            one = {"count": 5_000, "mean_ns": 1e5 * factor, "max_ns": 9e6 * factor}
            times = {"p50": 1e5, "p90": 5e5, "p99": 1e6, "p99_9": 2e6, "p99_99": 3e6}
            one |= {f"{name}_ns": value * factor for name, value in times.items()}
            latency = {stage: dict(one) for stage in STAGES}
            runs.append({"speed": speed, "repeat": repeat, "void": "", "latency": latency})
    settings = {
        "clients": 1, "slot_ns": 0, "longest_gap_ns": 1, "warm_up_ns": 1, "length_ns": 1,
        "market_times": False,
    }  # fmt: skip
    return {
        "format": 1,
        "log": {"path": "a.hql", "sha256": "1"},
        "settings": settings,
        "host": {"machine": "m", "heqis": "1"},
        "config_sha256": "2",
        "runs": runs,
        "max_sustainable": None,
    }


def compared(base: Any, new: Any, threshold: float = 0.1) -> Comparison:
    return compare_results(base, new, threshold, JUDGED)


def change_of(comparison: Comparison, metric: str = "end_to_end.p99") -> Change:
    return next(change for change in comparison.changes if change.metric == metric)


def test_a_session_compared_with_itself_is_the_same() -> None:
    comparison = compared(result_of(), result_of())
    assert comparison.regressions == []
    assert {change.ratio for change in comparison.changes} == {1.0}
    assert comparison.notes == ()


def test_slower_beyond_threshold_and_noise_is_a_regression() -> None:
    slower = result_of(tuple(1.3 * f for f in (1.02, 0.99, 1.0, 1.01, 0.98)))
    comparison = compared(result_of(), slower)
    change = change_of(comparison)
    assert change.verdict == "slower"
    assert change.ratio == pytest.approx(1.3, rel=0.05)
    assert 1 < change.low <= change.ratio <= change.high
    assert len(comparison.regressions) == 2, "p50 and p99 are judged"


def test_slower_within_the_threshold_is_none() -> None:
    slower = result_of(tuple(1.05 * f for f in NOISE))
    assert compared(result_of(), slower).regressions == []
    assert compared(result_of(), slower, 0.01).regressions != []


def test_what_may_as_well_be_noise_is_none() -> None:
    wild = result_of((0.4, 2.5, 1.3, 0.7, 1.9))
    comparison = compared(result_of(), wild)
    change = change_of(comparison)
    assert change.ratio > 1.1
    assert change.low < 1 < change.high
    assert comparison.regressions == []


def test_faster_is_said_and_passes() -> None:
    comparison = compared(result_of(), result_of(tuple(0.5 * f for f in NOISE)))
    assert change_of(comparison).verdict == "faster"
    assert comparison.regressions == []


def test_runs_are_paired_by_repeat_so_that_a_common_drift_cancels() -> None:
    drift = (1.0, 2.0, 4.0, 8.0, 16.0)
    comparison = compared(result_of(drift), result_of(tuple(1.2 * f for f in drift)))
    assert change_of(comparison).ratio == pytest.approx(1.2)
    assert change_of(comparison).low == pytest.approx(1.2)
    assert comparison.regressions


def test_void_runs_are_left_out_and_told() -> None:
    base, new = result_of(), result_of((50.0, *NOISE[1:]))
    new["runs"][0]["void"] = "late"
    comparison = compared(base, new)
    assert change_of(comparison).pairs == 4
    assert comparison.regressions == []
    assert comparison.notes == ("1 runs of the second session are void and left out",)


def test_too_few_pairs_are_refused_not_passed() -> None:
    with pytest.raises(
        UserError, match=r"without 3 pairs .*p99 at speed 1 \(2 pairs\): make them with --repeats 5"
    ):
        compared(result_of((1.0, 1.0)), result_of((9.0, 9.0)))


def test_a_judged_percentile_without_values_enough_is_refused_not_passed() -> None:
    few = result_of()
    for run in few["runs"]:
        run["latency"]["end_to_end"]["count"] = 99
    with pytest.raises(UserError, match=r"too few for end_to_end\.p99 at speed 1 \(0 pairs\): "):
        compared(result_of(), few)
    comparison = compare_results(result_of(), few, 0.1, ["end_to_end.p50"])
    assert [change.metric for change in comparison.changes if change.judged] == ["end_to_end.p50"]


def test_a_speed_whose_runs_are_void_is_refused_not_passed() -> None:
    base, new = result_of(speeds=(1.0, 50.0)), result_of(speeds=(1.0, 50.0))
    for run in new["runs"]:
        if run["speed"] == 50.0:
            run["void"] = "1,000 of 2,000 ticks were not taken"
    told = r"p50 at speed 50 \(0 pairs\), .*second session at speed 50 is void: 1,000 of 2,000"
    with pytest.raises(UserError, match=told):
        compared(base, new)


def test_a_regression_is_one_whatever_else_cannot_be_judged() -> None:
    base = result_of(speeds=(1.0, 50.0))
    new = result_of(tuple(1.5 * f for f in NOISE), speeds=(1.0, 50.0))
    for run in new["runs"]:
        if run["speed"] == 50.0:
            run["void"] = "late"
    comparison = compared(base, new)
    assert comparison.regressions
    assert "not judged: end_to_end.p99 at speed 50 (0 pairs)" in comparison.notes


def test_sessions_of_other_ticks_or_options_are_refused() -> None:
    other = result_of()
    other["log"]["sha256"] = "x"
    with pytest.raises(UserError, match="replayed different ticks"):
        compared(result_of(), other)
    other = result_of()
    other["settings"]["clients"] = 2
    with pytest.raises(UserError, match="different options: clients was 1 and is 2"):
        compared(result_of(), other)
    with pytest.raises(UserError, match="no speed in common, 1 and 2,10; make both"):
        compared(result_of(), result_of(speeds=(2.0, 10.0)))
    with pytest.raises(UserError, match="max-sustainable alone and max-sustainable alone; make"):
        compared(result_of(speeds=()), result_of(speeds=()))


def test_another_machine_and_configuration_are_told() -> None:
    other = result_of()
    other["host"]["machine"], other["config_sha256"] = "n", "y"
    assert compared(result_of(), other).notes == (
        "the sessions were run on different machines or systems",
        "the sessions were run with different configurations",
    )
    newer = result_of()
    newer["host"]["heqis"] = "2"
    assert compared(result_of(), newer).notes == (), "another version is what is compared"


def test_a_metric_that_is_none_is_refused_with_those_there_are() -> None:
    for metric in ("nowhere.p99", "end_to_end.p98", "end_to_end"):
        with pytest.raises(ConfigError, match="--metric"):
            compare_results(result_of(), result_of(), 0.1, [metric])


@pytest.mark.parametrize(("text", "value"), [("10%", 0.1), ("0.1", 0.1), ("0", 0.0), ("150%", 1.5)])
def test_thresholds_are_shares(text: str, value: float) -> None:
    assert parse_threshold(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "%", "x", "-1%", "nan", "inf", "2000%"])
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--threshold"):
        parse_threshold(text)


@given(st.lists(st.floats(0.5, 2.0), min_size=3, max_size=12))
def test_the_band_holds_the_median_and_lies_within_the_ratios(ratios: list[float]) -> None:
    low, high = noise_band(ratios)
    verdict, middle, *_ = judge_ratios(ratios, 0.1)
    assert min(ratios) <= low <= middle <= high <= max(ratios)
    assert noise_band(ratios) == (low, high)
    assert verdict in ("slower", "faster", "same")


def test_noise_alone_is_rarely_called_a_regression() -> None:
    draws = np.random.default_rng(3).lognormal(0, 0.2, (400, 5))
    slower = sum(judge_ratios(row.tolist(), 0.1)[0] == "slower" for row in draws)
    assert slower < 40


def write(path: Path, result: Any) -> Path:
    path.mkdir()
    (path / "result.json").write_bytes(orjson.dumps(result))
    return path


def test_the_command_passes_on_noise_and_fails_on_a_regression(tmp_path: Path) -> None:
    base = write(tmp_path / "a", result_of())
    slow = write(tmp_path / "b", result_of(tuple(1.5 * f for f in NOISE)))
    invoke = CliRunner().invoke
    done = invoke(make_app(), ["latency", "compare", str(base), str(base)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "no regression beyond 10%" in done.stdout
    with pytest.raises(
        CheckFailedError, match=r"slower by more than 20%: end_to_end\.p50 at speed 1"
    ):
        invoke(make_app(), ["latency", "compare", str(base), str(slow), "--threshold", "20%"],
               catch_exceptions=False)  # fmt: skip
    done = invoke(make_app(), ["latency", "compare", str(slow), str(base), "--json"],
                  catch_exceptions=False)  # fmt: skip
    fields = orjson.loads(done.stdout)
    assert fields["regressions"] == []
    assert fields["changes"][0]["verdict"] == "faster"


def test_what_is_no_result_is_the_users_to_mend(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    with pytest.raises(InputFileError, match="cannot be read"):
        read_result(file)
    for text, problem in (("{", "is no JSON"), ("[]", "no result"), ('{"runs": []}', "no result")):
        file.write_text(text)
        with pytest.raises(InputFileError, match=problem):
            read_result(file)
    for part in ("log", "settings", "host", "config_sha256"):
        cut = {name: value for name, value in result_of().items() if name != part}
        file.write_bytes(orjson.dumps(cut))
        with pytest.raises(InputFileError, match="not all of one"):
            read_result(file)
    file.write_bytes(orjson.dumps(result_of() | {"runs": [{"speed": 1.0}]}))
    with pytest.raises(InputFileError, match="not all of one"):
        read_result(file)
    newer = copy.deepcopy(result_of())
    newer["format"] = 2
    file.write_bytes(orjson.dumps(newer))
    with pytest.raises(InputFileError, match="has format 2; this program reads 1"):
        read_result(file)
