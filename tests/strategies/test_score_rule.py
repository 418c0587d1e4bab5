"""What a score proposes and confirms, over all that a model can answer."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strategies.score_rule import SCORE, ScoreRule
from strategies.spec import resolve_params

THREE = ("down", "flat", "up")
MOVES = (-4.0, 0.5, 3.0)
shares = st.floats(0.0, 1.0, allow_subnormal=False)
bounds = st.floats(0.0, 1.0)


def probabilities(count: int) -> st.SearchStrategy[list[float]]:
    sizes = st.lists(st.floats(0.0, 1.0), min_size=count, max_size=count)
    return sizes.filter(sum).map(lambda one: [size / sum(one) for size in one])


def rule(**params: float) -> ScoreRule:
    return ScoreRule(THREE, MOVES, **params)


def test_probable_direction_is_proposed_with_its_lead_its_probability_and_its_edge() -> None:
    up = rule().decide([0.1, 0.2, 0.7])
    assert up == pytest.approx((1, 0.6, 0.7, -0.4 + 0.1 + 2.1))
    down = rule().decide([0.7, 0.2, 0.1])
    assert down == pytest.approx((-1, 0.6, 0.7, 2.8 - 0.1 - 0.3))


@pytest.mark.parametrize(
    ("values", "params", "side"),
    [
        ([0.1, 0.4, 0.5], {}, 1),
        ([0.1, 0.41, 0.49], {}, 0),
        ([0.5, 0.1, 0.4], {}, -1),
        ([0.5, 0.0, 0.5], {}, 0),
        ([0.0, 0.5, 0.5], {}, 0),
        ([0.0, 1.0, 0.0], {}, 0),
        ([0.2, 0.4, 0.4], {"min_probability": 0.4}, 0),
        ([0.2, 0.35, 0.45], {"min_probability": 0.45}, 1),
        ([0.25, 0.25, 0.5], {"min_margin": 0.25}, 1),
        ([0.25, 0.25, 0.5], {"min_margin": 0.26}, 0),
        ([0.5, 0.25, 0.25], {"min_margin": 0.25}, -1),
        ([0.4, 0.0, 0.6], {"min_margin": 0.25}, 0),
        ([0.0, 0.0, 1.0], {"min_probability": 1.0, "min_margin": 1.0}, 1),
        ([0.3, 0.3, 0.4], {"min_probability": 0.0}, 1),
    ],
)
def test_direction_needs_its_probability_and_its_lead(
    values: list[float], params: dict[str, float], side: int
) -> None:
    found = rule(**params).decide(values)
    assert (found.side if found else 0) == side


def test_edge_is_negative_where_the_rare_moves_against_it_are_larger() -> None:
    found = ScoreRule(THREE, (-30.0, 0.0, 2.0)).decide([0.3, 0.1, 0.6])
    assert found is not None
    assert found.edge_bps == pytest.approx(1.2 - 9.0)


def test_model_without_moves_gives_no_edge() -> None:
    found = ScoreRule(THREE).decide([0.1, 0.2, 0.7])
    assert found is not None
    assert math.isnan(found.edge_bps)


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_answer_that_is_no_number_proposes_and_confirms_nothing(at: int, odd: float) -> None:
    values = [0.1, 0.2, 0.7]
    values[at] = odd
    assert rule(min_probability=0.0).decide(values) is None
    assert rule().confirm(1, values, 0.0) is None
    assert rule().confirm(-1, values, 0.0) is None
    assert math.isnan(rule().slack(values))


@given(probabilities(3), bounds, bounds)
def test_opinion_is_what_its_definition_says(
    values: list[float], least: float, margin: float
) -> None:
    found = rule(min_probability=least, min_margin=margin).decide(values)
    down, flat, up = values
    expected = 0
    if up > max(down, flat) and up >= least and up - max(down, flat) >= margin:
        expected = 1
    if down > max(up, flat) and down >= least and down - max(up, flat) >= margin:
        expected = -1
    assert (found.side if found else 0) == expected
    if found:
        assert 0.0 <= found.strength <= 1.0
        assert 0.0 <= found.confidence <= 1.0
        assert found.confidence == (up if expected > 0 else down)


@given(probabilities(3), bounds, bounds)
def test_mirrored_answer_gives_the_mirrored_opinion(
    values: list[float], least: float, margin: float
) -> None:
    one = ScoreRule(THREE, (-3.0, 0.0, 3.0), least, margin)
    there, back = one.decide(values), one.decide(values[::-1])
    assert (there is None) == (back is None)
    assert back is None or there is None or back == pytest.approx(there._replace(side=-there.side))


@given(probabilities(3))
def test_order_of_the_labels_changes_nothing(values: list[float]) -> None:
    other = ScoreRule(("up", "down", "flat"), (MOVES[2], MOVES[0], MOVES[1]))
    there, here = rule().decide(values), other.decide([values[2], values[0], values[1]])
    assert (there is None) == (here is None)
    assert here is None or here == pytest.approx(there)


@given(probabilities(3), st.sampled_from([1, -1]), bounds)
def test_model_confirms_a_side_that_is_probable_enough_and_more_than_the_opposite(
    values: list[float], side: int, least: float
) -> None:
    mine, other = (values[2], values[0]) if side > 0 else (values[0], values[2])
    found = rule().confirm(side, values, least)
    assert found == (mine if mine >= least and mine > other else None)


@given(probabilities(3), st.sampled_from([1, -1]))
def test_model_never_confirms_both_sides(values: list[float], side: int) -> None:
    one, other = rule().confirm(side, values, 0.0), rule().confirm(-side, values, 0.0)
    assert one is None or other is None


def test_two_classes_are_enough() -> None:
    found = ScoreRule(("up", "down"), (2.0, -2.0)).decide([0.75, 0.25])
    assert found == (1, 0.5, 0.75, 1.0)


@pytest.mark.parametrize(
    ("labels", "moves", "told"),
    [
        (("down", "flat"), (), "must have 'up' and 'down'"),
        ((), (), "must have"),
        (("up", "down", "up"), (), "each once"),
        (THREE, (1.0, 2.0), "2 moves for 3 labels"),
    ],
)
def test_labels_without_directions_are_refused(
    labels: tuple[str, ...], moves: tuple[float, ...], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        ScoreRule(labels, moves)


@pytest.mark.parametrize("values", [[], [0.5, 0.5], [0.1, 0.2, 0.3, 0.4]])
def test_other_number_of_values_is_an_error(values: list[float]) -> None:
    for ask in (
        lambda: rule().decide(values),
        lambda: rule().confirm(1, values, 0.5),
        lambda: rule().slack(values),
    ):
        with pytest.raises(ValueError, match="values for the labels down, flat, up"):
            ask()


def side_of(one: ScoreRule, values: list[float]) -> int:
    found = one.decide(values)
    return found.side if found else 0


@given(probabilities(3), bounds, bounds, st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3))
def test_decision_stays_while_no_value_moves_further_than_the_slack(
    values: list[float], least: float, margin: float, moves: list[float]
) -> None:
    one = rule(min_probability=least, min_margin=margin)
    room = one.slack(values)
    assume(room > 1e-9)
    moved = [value + 0.999 * room * move for value, move in zip(values, moves, strict=True)]
    assert side_of(one, moved) == side_of(one, values)


@pytest.mark.parametrize(
    ("values", "params", "room"),
    [
        ([0.1, 0.2, 0.7], {}, 0.2),
        ([0.1, 0.36, 0.54], {}, 0.04),
        ([0.1, 0.44, 0.46], {"min_probability": 0.2}, 0.01),
        ([0.1, 0.5, 0.4], {"min_probability": 0.2}, 0.05),
        ([0.3, 0.3, 0.4], {"min_probability": 0.45}, 0.05),
        ([0.2, 0.2, 0.6], {"min_margin": 0.5}, 0.05),
    ],
)
def test_slack_is_the_way_to_the_nearest_threshold(
    values: list[float], params: dict[str, float], room: float
) -> None:
    assert rule(**params).slack(values) == pytest.approx(room)


def test_parameters_have_defaults_and_bounds() -> None:
    assert resolve_params(SCORE.params, {}) == {
        "min_probability": 0.5,
        "min_margin": 0.0,
        "every": 1,
    }
    for name, value in (("every", 0), ("min_probability", 1.1), ("min_margin", -0.1)):
        with pytest.raises(ValueError, match=f"parameter '{name}'"):
            resolve_params(SCORE.params, {name: value})


def test_answer_a_little_above_one_is_a_confidence_of_one() -> None:
    rule = ScoreRule(("down", "flat", "up"))
    opinion = rule.decide((-0.01, 0.0, 1.03))
    assert opinion is not None
    assert (opinion.strength, opinion.confidence) == (1.0, 1.0)
    assert rule.confirm(1, (-0.01, 0.0, 1.03), 0.5) == 1.0
