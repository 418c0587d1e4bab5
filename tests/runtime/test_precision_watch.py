"""The precision watch: which inputs are checked, when an alarm begins and ends."""

import math

from hypothesis import given
from hypothesis import strategies as st

from runtime.watch import ALARM_ENDS_AFTER, DriftVerdict, PrecisionWatch, Sampler


def test_a_share_of_the_inputs_is_chosen_and_the_same_ones_every_time() -> None:
    first, second = Sampler(0.1), Sampler(0.1)
    chosen = [first.chooses() for _ in range(20_000)]
    assert chosen == [second.chooses() for _ in range(20_000)]
    assert 1_800 < sum(chosen) < 2_200


def test_no_instrument_is_overlooked_however_regularly_it_asks() -> None:
    sampler = Sampler(0.01)
    checked = {n % 200 for n in range(200 * 2_000) if sampler.chooses()}
    assert len(checked) == 200


def test_shares_of_nothing_and_everything_mean_that() -> None:
    assert not any(Sampler(0.0).chooses() for _ in range(1000))
    assert all(Sampler(1.0).chooses() for _ in range(1000))


def test_the_first_check_outside_the_tolerance_raises_one_alarm() -> None:
    watch = PrecisionWatch(0.01)
    assert watch.note(0.01) is DriftVerdict.NONE
    assert watch.note(0.02) is DriftVerdict.ALARM
    assert watch.note(0.02) is DriftVerdict.NONE
    assert watch.told() == {
        "checks": 3, "outside": 2, "alarm": True, "max_abs": 0.02, "tolerance": 0.01,
    }  # fmt: skip


def test_the_third_of_the_newest_64_outside_gives_the_form_up() -> None:
    watch = PrecisionWatch(0.01)
    verdicts = [watch.note(0.02 if n % 20 == 0 else 0.0) for n in range(41)]
    assert verdicts[0] is DriftVerdict.ALARM
    assert verdicts[40] is DriftVerdict.DEMOTE


def test_rare_ones_outside_do_not_give_the_form_up() -> None:
    watch = PrecisionWatch(0.01)
    verdicts = {watch.note(0.02 if n % 40 == 0 else 0.0) for n in range(2_000)}
    assert DriftVerdict.DEMOTE not in verdicts


def test_an_alarm_ends_after_enough_calm() -> None:
    watch = PrecisionWatch(0.01)
    watch.note(1.0)
    verdicts = [watch.note(0.0) for _ in range(ALARM_ENDS_AFTER)]
    assert verdicts[-1] is DriftVerdict.OVER
    assert set(verdicts[:-1]) == {DriftVerdict.NONE}
    assert not watch.alarmed


def test_what_is_not_a_number_is_outside() -> None:
    watch = PrecisionWatch(0.01)
    assert watch.note(math.nan) is DriftVerdict.ALARM
    assert watch.note(math.inf) is DriftVerdict.NONE
    assert watch.outside == 2


@given(st.lists(st.floats(0, 1)))
def test_alarms_begin_and_end_in_turn(differences: list[float]) -> None:
    watch = PrecisionWatch(0.9)
    alarmed = False
    for difference in differences:
        verdict = watch.note(difference)
        if verdict is DriftVerdict.ALARM:
            assert not alarmed
            alarmed = True
        elif verdict is DriftVerdict.OVER:
            assert alarmed
            alarmed = False
        elif verdict is DriftVerdict.DEMOTE:
            alarmed = True
        assert watch.alarmed == alarmed
