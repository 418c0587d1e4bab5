"""Other futures: nothing before the cut changes, everything after it does."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_cases import market_instruments, market_ticks

from engine.config import Config
from engine.core.errors import InputFileError
from engine.core.records import ALL_INSTRUMENTS, Schema, TickKind, empty_bars
from feeds.log_reader import LogReader
from feeds.log_writer import LogWriter
from replay.analysis.lookahead import analyze_lookahead
from replay.analysis.lookahead_compare import Places, first_differences
from replay.analysis.lookahead_cuts import choose_cuts
from replay.analysis.lookahead_futures import FUTURES, mirrored, moved, only, shifted, truncated
from replay.analysis.lookahead_report import LookaheadOptions
from replay.analysis.lookahead_run import SIGNAL, Proposal
from replay.analysis.lookahead_tape import Tape, load_tape
from replay.analysis.lookahead_write import write_tape

BUNDLE = Path(__file__).resolve().parents[2] / "models" / "demo-tcn"
DAY_NS = 86_400 * 10**9


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "market.hql"
    ticks = market_ticks(6_000)
    bars = empty_bars(40)
    bars["open"] = bars["high"] = bars["low"] = bars["close"] = 100.0 + np.arange(40)
    bars["high"] += 1.0
    bars["instrument"] = np.arange(40) % 4
    bars["ts_open"] = bars["ts_event"] = bars["ts_recv"] = ticks["ts_event"][-1] + np.arange(40)
    with LogWriter(path, market_instruments(), epoch=5) as writer:
        writer.write_ticks(ticks[:3_000])
        writer.next_seq += 7
        writer.define(market_instruments())
        writer.write_ticks(ticks[3_007:])
        writer.write_bars(bars)
    return path


@pytest.fixture(scope="module")
def tape(log: Path) -> Tape:
    return load_tape([log], 1024)


def test_a_tape_holds_what_the_decoder_makes_of_the_log(log: Path, tape: Tape) -> None:
    with LogReader(log) as reader:
        ticks = np.concatenate([batch.ticks.copy() for batch in reader.batches()])
    assert tape.ticks.tobytes() == ticks.tobytes()
    assert (len(tape.bars), len(tape)) == (40, len(ticks) + 40)
    assert tape.symbols == ("S0.X", "S1.X", "S2.X", "S3.X")
    assert [span.schema for span in tape.spans].count(Schema.INSTRUMENTS) == 2


@pytest.mark.parametrize("name", FUTURES)
@pytest.mark.parametrize("cut", [1, 2_999, 3_001, 5_500, 6_010])
def test_nothing_before_the_cut_changes(tape: Tape, name: str, cut: int) -> None:
    made = FUTURES[name](tape, cut)
    ticks, bars = tape.split(cut)
    assert ticks + bars == cut
    assert made.ticks[:ticks].tobytes() == tape.ticks[:ticks].tobytes()
    assert made.bars[:bars].tobytes() == tape.bars[:bars].tobytes()


def test_a_truncated_tape_ends_at_the_cut(tape: Tape) -> None:
    made = truncated(tape, 6_010)
    assert (len(made.ticks), len(made.bars)) == tape.split(6_010)
    assert made.ticks.base is None


def test_a_shifted_future_has_each_instruments_next_values(tape: Tape) -> None:
    made = shifted(tape, 4_000)
    for instrument in range(4):
        own = (tape.ticks["instrument"] == instrument) & (tape.ticks["kind"] == TickKind.TRADE)
        own[:4_000] = False
        was, now = tape.ticks[own], made.ticks[own]
        assert now["price"][:-1].tolist() == was["price"][1:].tolist()
        assert now["price"][-1] == was["price"][-1]
        assert now["ts_event"].tolist() == was["ts_event"].tolist()
    bars = tape.bars["instrument"] == 1
    assert made.bars["close"][bars][:-1].tolist() == tape.bars["close"][bars][1:].tolist()


def test_a_mirrored_future_turns_every_move_and_keeps_the_book_in_order(tape: Tape) -> None:
    made = mirrored(tape, 4_000)
    own = (tape.ticks["instrument"] == 2) & (tape.ticks["kind"] == TickKind.TRADE)
    own[:4_000] = False
    was, now = np.log(tape.ticks["price"][own]), np.log(made.ticks["price"][own])
    np.testing.assert_allclose(np.diff(now), -np.diff(was), atol=1e-12)
    assert (np.abs(now - was) > 1e-6).all()
    quotes = made.ticks[4_000:][made.ticks["kind"][4_000:] == TickKind.QUOTE]
    assert (quotes["bid"] < quotes["ask"]).all()
    assert (made.bars["low"] <= made.bars["close"]).all()
    assert (made.bars["high"] >= made.bars["open"]).all()


def test_a_moved_tape_differs_in_its_times_only(tape: Tape) -> None:
    made = moved(tape, 364 * DAY_NS)
    assert (made.ticks["ts_event"] - tape.ticks["ts_event"] == 364 * DAY_NS).all()
    assert (made.bars["session"] - tape.bars["session"] == 364).all()
    np.testing.assert_array_equal(made.ticks["price"], tape.ticks["price"])


def test_one_instrument_alone_keeps_its_records_and_the_shared_ones(tape: Tape) -> None:
    made = only(tape, 3)
    assert set(np.unique(made.ticks["instrument"])) == {3, ALL_INSTRUMENTS}
    assert set(np.unique(made.bars["instrument"])) == {3}
    kept = np.isin(tape.ticks["instrument"], (3, ALL_INSTRUMENTS))
    assert made.tick_origins["seq"].tolist() == tape.tick_origins["seq"][kept].tolist()
    last = [span for span in made.spans if span.schema == Schema.TICK][-1]
    assert last.stop == len(made.ticks)


def test_a_tape_written_as_a_log_reads_as_the_same_tape(tape: Tape, tmp_path: Path) -> None:
    write_tape(tape, tmp_path / "again.hql")
    again = load_tape([tmp_path / "again.hql"], 1024)
    assert again.ticks.tobytes() == tape.ticks.tobytes()
    assert again.bars.tobytes() == tape.bars.tobytes()
    assert again.tick_origins["seq"].tolist() == tape.tick_origins["seq"].tolist()
    assert again.bar_origins["seq"].tolist() == tape.bar_origins["seq"].tolist()


def test_a_limit_keeps_the_first_records(log: Path, tape: Tape) -> None:
    part = load_tape([log], 1024, 2_500)
    assert part.ticks.tobytes() == tape.ticks[:2_500].tobytes()


def test_a_log_too_long_to_be_kept_is_refused(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.analysis.lookahead_tape.MAX_RECORDS", 1_000)
    with pytest.raises(InputFileError, match="take a part with --limit"):
        load_tape([log], 1024)
    assert len(load_tape([log], 1024, 900)) == 900


def proposal(tape: Tape, place: int, strategy: str = "s", price: float = 1.0) -> Proposal:
    seq = int(tape.tick_origins["seq"][place])
    nan = float("nan")
    return Proposal(5, seq, strategy, "S0.X", f"{strategy}{seq}", "BUY", 0.5, 0.5, price, nan, 1,
                    SIGNAL)  # fmt: skip


def test_the_place_of_a_proposal_is_that_of_its_record(tape: Tape) -> None:
    places = Places(tape)
    for place in (0, 17, 2_999, 3_001, 5_900):
        assert places.of(proposal(tape, place)) == place


def test_the_first_difference_of_each_strategy_is_told(tape: Tape) -> None:
    places = Places(tape)
    base = [proposal(tape, 10), proposal(tape, 20, "t"), proposal(tape, 30), proposal(tape, 40)]
    other = [proposal(tape, 10), proposal(tape, 30, price=2.0), proposal(tape, 50)]
    told = first_differences(base, other, places)
    assert (told[0].strategy, told[0].seq) == ("t", proposal(tape, 20).seq)
    assert told[0].problem == "it proposes BUY only on the log as it is"
    assert told[1].problem == "price 1.0 becomes 2.0"
    assert first_differences(base, base, places) == []
    (new,) = first_differences(base[:1], [base[0], base[2]], places)
    assert "which it does not" in new.problem


@settings(max_examples=50)
@given(cuts=st.integers(1, 30), rows=st.lists(st.integers(0, 5_900), max_size=30))
def test_cuts_lie_within_the_log_and_behind_proposals(
    tape: Tape, cuts: int, rows: list[int]
) -> None:
    places = Places(tape)
    made = [proposal(tape, row, f"s{row % 3}") for row in sorted(rows)]
    chosen = choose_cuts(len(tape), cuts, made, places)
    assert chosen == sorted(set(chosen))
    assert all(0 < cut < len(tape) for cut in chosen)
    assert 1 <= len(chosen) <= cuts + 3
    for name in {one.strategy for one in made}:
        behind = {places.of(one) + 1 for one in made if one.strategy == name}
        assert behind & set(chosen)


@pytest.mark.slow
def test_strategies_with_models_pass(log: Path) -> None:
    tree = {
        "bars": [{"name": "1s", "interval": "1s"}],
        "models": [{"name": "tcn", "bundle": str(BUNDLE), "on": "1s"}],
        "strategies": [
            {"name": "alone", "model": "tcn", "params": {"min_probability": 0.34}},
            {"name": "z", "rule": "zscore_reversion", "on": "1s", "confirm": "tcn",
             "params": {"length": 5, "entry": 1.0}},
        ],
    }  # fmt: skip
    report = analyze_lookahead([log], Config.model_validate(tree), LookaheadOptions(cuts=6))
    assert report.findings == []
    assert report.proposals["alone"] > 20
    assert report.proposals["z"] > 5
