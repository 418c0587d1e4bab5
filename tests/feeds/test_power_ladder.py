"""Against a silent engine: ask, then the command, then its power, and never out of turn."""

from hypothesis import given
from hypothesis import strategies as st

from feeds.power_ladder import PowerLadder, PowerRule, PowerStep

S = 1_000_000_000
RULE = PowerRule(
    silent_ns=30 * S,
    ask_wait_ns=30 * S,
    command_wait_ns=120 * S,
    boot_ns=180 * S,
    most_cycles=2,
    window_ns=3600 * S,
)
ASK, COMMAND, CYCLE = PowerStep.ASK, PowerStep.COMMAND, PowerStep.CYCLE


def run(ladder: PowerLadder, start_s: int, seconds: int, **how: bool) -> list[tuple[int, str]]:
    """Look once a second; return what was decided, and when."""
    found = []
    for at in range(start_s, start_s + seconds):
        decision = ladder.look(at * S, **{"alive": False, "parted": False, **how})
        if decision.step is not None:
            found.append((at, decision.step.value))
        if decision.event:
            found.append((at, decision.event))
    return found


def alive_at_first() -> PowerLadder:
    ladder = PowerLadder(RULE, 0)
    assert run(ladder, 0, 10, alive=True) == []
    return ladder


def test_each_step_is_given_its_time_before_the_next() -> None:
    ladder = alive_at_first()
    assert run(ladder, 10, 380) == [(40, "ask"), (70, "command"), (190, "cycle"), (370, "ask")]


def test_two_cycles_an_hour_and_then_only_words() -> None:
    ladder = alive_at_first()
    told = run(ladder, 10, 3600)
    assert [what for _, what in told].count("cycle") == 2
    assert told[-1][1] == "exhausted"
    later = run(ladder, 3610, 400)
    assert later[0] == (190 + 3600, "cycle"), "the window has passed"


def test_an_engine_that_comes_back_ends_it_and_is_told() -> None:
    ladder = alive_at_first()
    assert run(ladder, 10, 40) == [(40, "ask")]
    assert run(ladder, 50, 5, alive=True) == [(50, "recovered")]
    assert run(ladder, 55, 31) == [(85, "ask")], "from the softest step again"


def test_one_that_recovers_after_a_cycle_is_told_too() -> None:
    ladder = alive_at_first()
    run(ladder, 10, 185)
    assert ladder.last is CYCLE
    assert run(ladder, 300, 1, alive=True) == [(300, "recovered")]


def test_after_a_goodbye_it_begins_with_the_softest_step_again() -> None:
    ladder = alive_at_first()
    assert run(ladder, 10, 70) == [(40, "ask"), (70, "command")]
    assert run(ladder, 80, 5, parted=True) == []
    assert run(ladder, 85, 61) == [(115, "ask"), (145, "command")]


def test_one_that_parted_is_left_alone() -> None:
    ladder = alive_at_first()
    assert run(ladder, 10, 10_000, parted=True) == []


def test_a_board_that_never_came_up_is_given_its_boot_first() -> None:
    assert run(PowerLadder(RULE, 0), 0, 220) == [(180, "ask"), (210, "command")]


def test_no_cycle_is_made_where_none_is_allowed() -> None:
    rule = PowerRule(30 * S, 30 * S, 120 * S, 180 * S, 0, 3600 * S)
    told = run(PowerLadder(rule, 0), 0, 20_000)
    assert [what for _, what in told] == ["ask", "command", "exhausted"]


@given(
    st.lists(
        st.tuples(st.integers(1, 200), st.sampled_from(["silent", "silent", "alive", "parted"])),
        max_size=200,
    )
)
def test_power_is_never_touched_before_both_softer_steps_failed(
    looks: list[tuple[int, str]],
) -> None:
    ladder, now = PowerLadder(RULE, 0), 0
    since: list[tuple[int, PowerStep]] = []
    cycles: list[int] = []
    for apart_s, how in looks:
        now += apart_s * S
        decision = ladder.look(now, alive=how == "alive", parted=how == "parted")
        if how == "alive":
            since.clear()
        assert how == "silent" or decision.step is None
        if decision.step is CYCLE:
            assert [step for _, step in since[-2:]] == [ASK, COMMAND]
            assert since[-1][0] - since[-2][0] >= RULE.ask_wait_ns
            assert now - since[-1][0] >= RULE.command_wait_ns
            cycles.append(now)
            since.clear()
        elif decision.step is not None:
            since.append((now, decision.step))
    for at in cycles:
        assert sum(at - RULE.window_ns < other <= at for other in cycles) <= RULE.most_cycles
