"""When memory is given back: after a peak, once, and never without one."""

from engine.tidy import SLACK_BYTES, Tidy

BASE = 200 << 20


def given_back(readings: list[int], after: int) -> list[int]:
    """Return at which looks memory was given back; then so much is resident."""
    now, given, looks = [BASE], list[int](), list[int]()

    def give_back() -> None:
        given.append(len(looks))
        now[0] = after

    tidy = Tidy(lambda: now[0], give_back)
    for reading in readings:
        now[0] = reading
        tidy.look()
        looks.append(reading)
    return given


def test_without_a_peak_nothing_is_given_back() -> None:
    assert given_back([BASE, BASE + SLACK_BYTES, BASE + SLACK_BYTES // 2, BASE] * 3, BASE) == []


def test_a_peak_that_goes_by_itself_is_left_alone() -> None:
    peak = BASE + 9 * SLACK_BYTES
    assert given_back([BASE, peak, BASE, peak, BASE], BASE) == []


def test_what_a_peak_leaves_is_given_back_once_though_some_of_it_stays() -> None:
    kept = BASE + 5 * SLACK_BYTES
    assert given_back([BASE, *[kept] * 6], kept) == [2]
    assert given_back([kept, kept, BASE, kept, kept, kept], BASE) == [1, 4]


def test_growth_is_counted_from_the_least_there_was() -> None:
    falling = [BASE - n * SLACK_BYTES for n in range(4)]
    grown = falling[-1] + SLACK_BYTES + 1
    assert given_back([*falling, grown, grown], BASE) == [5]
