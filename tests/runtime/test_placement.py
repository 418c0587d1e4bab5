"""The ladder: leaves at once, returns slowly, never without a reason."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from runtime.placement import Cause, Ladder, LadderPolicy, Outcome, Standing, Transition

S = 10**9
POLICY = LadderPolicy(probe_interval_ns=S, hold_ns=5 * S, hold_max_ns=60 * S)


def make_ladder(*rungs: str, policy: LadderPolicy = POLICY) -> Ladder:
    ladder = Ladder(rungs or ("dla:0", "gpu", "cpu"), policy)
    for rung in ladder.rungs:
        ladder.start(0, rung, "loaded")
    return ladder


def fail(ladder: Ladder, at_ns: int, rung: str, outcome: Outcome = Outcome.FAILED) -> Transition:
    for _ in range(POLICY.failures - 1):
        assert ladder.note(at_ns, rung, outcome) is None
    transition = ladder.note(at_ns, rung, outcome, "it broke")
    assert transition is not None
    return transition


def test_the_first_device_that_started_serves() -> None:
    ladder = Ladder(("gpu", "cpu"), POLICY)
    assert ladder.current == ""
    first = ladder.start(1, "cpu", "fp32")
    assert first == Transition(1, "", "cpu", Cause.STARTED, "cpu: fp32")
    better = ladder.start(2, "gpu", "fp16")
    assert better is not None
    assert (better.before, better.after) == ("cpu", "gpu")


def test_three_failures_leave_a_device_for_the_next() -> None:
    ladder = make_ladder()
    transition = fail(ladder, 7, "dla:0")
    assert transition == Transition(7, "dla:0", "gpu", Cause.FAILED, "dla:0: it broke")
    assert ladder.standing("dla:0") is Standing.LEFT


def test_invalid_answers_leave_a_device_under_their_own_name() -> None:
    assert fail(make_ladder(), 7, "dla:0", Outcome.INVALID).cause is Cause.INVALID


def test_failures_far_apart_are_forgiven() -> None:
    ladder = make_ladder()
    for _ in range(20):
        assert ladder.note(1, "dla:0", Outcome.FAILED) is None
        for _ in range(2 * POLICY.window):
            ladder.note(1, "dla:0", Outcome.OK)
    assert ladder.current == "dla:0"


def test_lateness_leaves_a_device_once_half_are_late() -> None:
    ladder = make_ladder()
    made = [ladder.note(n, "dla:0", (Outcome.OK, Outcome.LATE)[n % 2]) for n in range(POLICY.least)]
    assert [one for one in made if one] == [
        Transition(POLICY.least - 1, "dla:0", "gpu", Cause.LATE, "dla:0: late")
    ]


def test_lateness_alone_never_leaves_the_last_device() -> None:
    ladder = make_ladder("cpu")
    for at in range(1000):
        assert ladder.note(at, "cpu", Outcome.LATE) is None
    assert ladder.current == "cpu"


def test_a_lost_device_is_left_at_once_and_with_none_left_nobody_serves() -> None:
    ladder = make_ladder("cpu")
    transition = ladder.leave(3, "cpu", Cause.LOST, "no answer for 1 s")
    assert transition == Transition(3, "cpu", "", Cause.LOST, "cpu: no answer for 1 s")
    assert ladder.current == ""


def test_what_returns_from_a_device_that_was_left_changes_nothing() -> None:
    ladder = make_ladder()
    fail(ladder, 7, "dla:0")
    assert ladder.note(8, "dla:0", Outcome.FAILED) is None
    assert ladder.current == "gpu"


def test_a_device_returns_after_its_probes_passed_and_the_hold_is_over() -> None:
    ladder = make_ladder()
    fail(ladder, 0, "dla:0")
    assert ladder.due(S - 1) == []
    made = []
    for second in range(1, 6):
        assert ladder.due(second * S) == ["dla:0"]
        assert ladder.due(second * S) == []
        made.append(ladder.probed(second * S, "dla:0"))
    assert made[:4] == [None] * 4
    assert made[4] == Transition(5 * S, "gpu", "dla:0", Cause.RECOVERED, "dla:0: 5 probes passed")


def test_a_probe_that_fails_starts_the_count_again() -> None:
    ladder = make_ladder()
    fail(ladder, 0, "dla:0")
    for second in range(1, 7):
        ladder.due(second * S)
        assert ladder.probed(second * S, "dla:0", "still broken") is None
    ladder.due(7 * S)
    assert ladder.probed(7 * S, "dla:0") is None
    ladder.due(8 * S)
    assert ladder.probed(8 * S, "dla:0") is not None


def test_the_hold_doubles_while_a_device_disappoints_again_and_again() -> None:
    ladder = make_ladder("gpu", "cpu")
    at, away = 0, []
    for _ in range(6):
        fail(ladder, at, "gpu")
        left = at
        while ladder.current != "gpu":
            at += S
            for rung in ladder.due(at):
                ladder.probed(at, rung)
        away.append((at - left) // S)
    assert away == [5, 10, 20, 40, 60, 60]


def test_a_device_that_served_long_enough_starts_with_a_short_hold_again() -> None:
    ladder = make_ladder("gpu", "cpu")
    for at in (0, 100 * S, 300 * S):
        fail(ladder, at, "gpu")
        for second in range(1, 6):
            for rung in ladder.due(at + second * S):
                ladder.probed(at + second * S, rung)
        assert ladder.current == "gpu"


def test_to_be_unloaded_does_not_make_a_failed_device_look_new() -> None:
    ladder = make_ladder()
    fail(ladder, 0, "dla:0")
    assert ladder.leave(1, "dla:0", Cause.UNLOADED, "it would not load") is None
    assert ladder.cause("dla:0") is Cause.FAILED


def test_a_device_given_up_is_never_probed() -> None:
    ladder = make_ladder()
    ladder.drop(1, "dla:0", "no such device here")
    assert ladder.current == "gpu"
    assert ladder.due(10**18) == []
    told = ladder.told(0)[0]
    assert told["standing"] == "absent"
    assert told["detail"] == "no such device here"


steps = st.lists(
    st.tuples(
        st.integers(0, 3 * S),
        st.sampled_from(["dla:0", "gpu", "cpu"]),
        st.sampled_from([*Outcome, Cause.LOST, Cause.DRIFT, "probe passes", "probe fails"]),
    ),
    max_size=300,
)


def walk(ladder: Ladder, taken: list[tuple[int, str, str]]) -> list[Transition]:
    at, made = 0, []
    for wait_ns, rung, what in taken:
        at += wait_ns
        if what in list(Outcome):
            one = ladder.note(at, rung, Outcome(what))
        elif what in list(Cause):
            one = ladder.leave(at, rung, Cause(what), "seen")
        else:
            due = ladder.due(at)
            results = [
                ladder.probed(at, name, "" if what == "probe passes" else "no") for name in due
            ]
            made += [result for result in results if result]
            one = None
        if one:
            made.append(one)
    return made


@given(steps)
def test_whatever_happens_every_change_has_a_reason_and_follows_from_the_one_before(
    taken: list[tuple[int, str, str]],
) -> None:
    ladder = make_ladder()
    current = "dla:0"
    made = walk(ladder, taken)
    for transition in made:
        assert transition.before == current != transition.after
        assert transition.cause
        assert transition.detail
        current = transition.after
    assert ladder.current == current


@given(steps)
def test_whatever_happens_no_device_is_back_within_the_hold(
    taken: list[tuple[int, str, str]],
) -> None:
    ladder = make_ladder()
    left_ns: dict[str, int] = {}
    at = 0
    for wait_ns, rung, what in taken:
        at += wait_ns
        before = {name: ladder.standing(name) for name in ladder.rungs}
        walk(ladder, [(at, rung, what)])
        for name, standing in before.items():
            if standing is not Standing.LEFT and ladder.standing(name) is Standing.LEFT:
                left_ns[name] = at
            elif standing is Standing.LEFT and ladder.standing(name) is Standing.READY:
                assert at - left_ns[name] >= POLICY.hold_ns


@given(steps)
def test_whatever_happens_the_first_ready_device_serves(
    taken: list[tuple[int, str, str]],
) -> None:
    ladder = make_ladder()
    walk(ladder, taken)
    ready = [rung for rung in ladder.rungs if ladder.standing(rung) is Standing.READY]
    assert ladder.current == (ready[0] if ready else "")


def test_a_device_that_cannot_be_loaded_is_tried_less_and_less_often() -> None:
    ladder = make_ladder("cpu")
    ladder.leave(0, "cpu", Cause.UNLOADED, "no room")
    tried_s = []
    for second in range(400):
        if ladder.due(second * S):
            tried_s.append(second)
            ladder.probed(second * S, "cpu", "no room")
    gaps = [later - sooner for sooner, later in itertools.pairwise(tried_s)]
    assert gaps[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(gaps[7:]) == {60}
    ladder.start(400 * S, "cpu", "loaded")
    ladder.leave(500 * S, "cpu", Cause.UNLOADED, "no room")
    assert ladder.due(501 * S) == ["cpu"]
    ladder.probed(501 * S, "cpu", "no room")
    assert ladder.due(502 * S) == ["cpu"]


def test_it_is_told_for_how_long_each_device_has_stood_as_it_does() -> None:
    ladder = Ladder(("dla:0", "gpu", "cpu"), POLICY)
    ladder.start(0, "gpu", "loaded")
    ladder.start(2 * S, "cpu", "loaded")
    fail(ladder, 10 * S, "gpu")
    told = {rung["rung"]: rung["for_s"] for rung in ladder.told(13 * S)}
    assert told == {"dla:0": None, "gpu": 3.0, "cpu": 3.0}
    ladder.start(14 * S, "dla:0", "loaded")
    assert [rung["for_s"] for rung in ladder.told(20 * S)] == [6.0, 10.0, 18.0]
