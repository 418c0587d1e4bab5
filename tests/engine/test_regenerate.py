"""What becomes of a signal made once more: recognised, overruled, late, expired, untold."""

import msgspec

from engine.core.signals import Signal
from engine.journal_schema import Decision
from engine.regenerate import Fate, Ledger

NOW = 1_000


def signal(tick_seq: int, *, epoch: int = 7, valid_until: int = 2_000, model: str = "") -> Signal:
    made = Signal(
        f"id{epoch}-{tick_seq}", 1, 1, "S0.X", "BUY", 1.0, 1.0, 1.0, None, "s", "1", epoch,
        tick_seq, 1, 1, 1, valid_until, 0, (),
    )  # fmt: skip
    return msgspec.structs.replace(made, model=model or None)


def decided(*seqs: int, ts: int = 500, epoch: int = 7) -> list[Decision]:
    return [Decision(f"id{epoch}-{seq}", epoch, seq, ts) for seq in seqs]


def test_what_is_journaled_is_recognised_and_what_lies_beyond_is_late_or_expired() -> None:
    ledger = Ledger(decided(10, 20))
    fates = [ledger.fate(signal(seq), NOW) for seq in (10, 15, 20, 21)]
    assert fates == [Fate.RECOGNISED, Fate.OVERRULED, Fate.RECOGNISED, Fate.LATE]
    assert ledger.fate(signal(21, valid_until=NOW), NOW) is Fate.EXPIRED
    assert ledger.fate(signal(1, epoch=8), NOW) is Fate.LATE


def test_a_score_may_have_been_waited_for_when_later_ticks_were_decided() -> None:
    ledger = Ledger(decided(20, ts=1_500))
    assert ledger.fate(signal(15, valid_until=1_500, model="m"), NOW) is Fate.OVERRULED
    assert ledger.fate(signal(15, valid_until=1_501, model="m"), NOW) is Fate.LATE


def test_before_the_first_decision_that_is_known_nothing_is_missing_if_there_were_more() -> None:
    ledger = Ledger(decided(10, 20), cut=True)
    fates = [ledger.fate(signal(seq), NOW) for seq in (5, 10, 12, 30)]
    assert fates == [Fate.UNTOLD, Fate.RECOGNISED, Fate.OVERRULED, Fate.LATE]


def test_a_score_is_not_published_again_where_its_signal_may_have_been_removed() -> None:
    ledger = Ledger(decided(10, 20, ts=500), cut=True)
    fates = [ledger.fate(signal(seq, model="m"), NOW) for seq in (10, 15, 21)]
    assert fates == [Fate.RECOGNISED, Fate.UNTOLD, Fate.LATE]


def test_nothing_is_missing_of_what_the_journal_never_knew() -> None:
    ledger = Ledger(decided(10))
    ledger.warming = True
    assert [ledger.fate(signal(seq), NOW) for seq in (10, 30)] == [Fate.RECOGNISED, Fate.UNTOLD]


def test_an_older_snapshot_tells_how_far_all_was_decided() -> None:
    ledger = Ledger(decided(10), [(7, 30, 0), (8, 5, 0)])
    fates = [ledger.fate(signal(seq), NOW) for seq in (30, 31)]
    assert fates == [Fate.OVERRULED, Fate.LATE]
    assert ledger.fate(signal(5, epoch=8), NOW) is Fate.OVERRULED
