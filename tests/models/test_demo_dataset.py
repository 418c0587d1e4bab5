"""The recipe is honest, fits the demo's configuration, and gives the same rows every time."""

import itertools
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from feeds.simulator.source import Simulator, parse_start_ns
from models.demo_tcn import recipe
from models.demo_tcn.dataset import digest_of, load_examples, ticks_of
from models.demo_tcn.outcomes import HORIZON_NS, Examples
from models.demo_tcn.recipe import NS, Span, market

ROOT = Path(__file__).parents[2]
SHORT = Span(5, 60, 180)


@cache
def short() -> Examples:
    return load_examples(SHORT)


def test_spans_follow_each_other_in_time_with_more_than_a_horizon_between() -> None:
    spans = (recipe.TRAIN, recipe.VALIDATION, recipe.TEST)
    for before, after in itertools.pairwise(spans):
        assert after.start_s - before.stop_s >= recipe.PURGE_S > recipe.HORIZON_S
    assert len({span.seed for span in spans}) == 1
    assert recipe.DEMO.seed not in {span.seed for span in spans}


def test_the_market_is_the_demos_but_for_its_seed() -> None:
    demo = tomllib.loads((ROOT / "configs" / "demo.toml").read_text())
    source = demo["gateway"]["source"]
    made = market(recipe.DEMO)
    for key in ("universe", "instruments", "rate", "effect_bps_per_s", "seed"):
        assert getattr(made, key) == source[key]
    assert set(source) <= {"kind", "universe", "instruments", "rate", "effect_bps_per_s", "seed"}
    given = market(recipe.TRAIN).model_dump()
    assert {key for key in given if given[key] != made.model_dump()[key]} == {"seed", "duration"}


def test_a_span_gives_the_same_rows_again() -> None:
    assert digest_of(short()) == digest_of(load_examples(SHORT))
    assert digest_of(short()) != digest_of(load_examples(SHORT._replace(seed=6)))


def test_rows_and_outcomes_lie_within_the_span() -> None:
    made = short()
    start_ns = parse_start_ns(market(SHORT).start)
    ts_ns = made.rows.ts_ns[made.ends]
    assert ts_ns.min() > start_ns + SHORT.start_s * NS
    assert ts_ns.max() + HORIZON_NS <= start_ns + SHORT.stop_s * NS
    assert np.isfinite(made.rows.features).all()
    assert np.isfinite(made.move_bps[made.ends]).all()
    assert len(np.unique(made.rows.instrument)) == 20


def test_ticks_of_a_span_are_those_of_the_whole_market_in_that_time() -> None:
    whole = Span(SHORT.seed, 0, SHORT.stop_s)
    all_ticks = np.concatenate([t.copy() for t in ticks_of(Simulator(market(whole)), whole)])
    own = np.concatenate([t.copy() for t in ticks_of(Simulator(market(SHORT)), SHORT)])
    first_ns = parse_start_ns(market(SHORT).start) + SHORT.start_s * NS
    later = all_ticks[all_ticks["ts_event"] >= first_ns]
    for name in ("ts_event", "instrument", "kind", "price", "bid", "ask"):
        assert np.array_equal(own[name], later[name], equal_nan=name in ("price", "bid", "ask"))


@pytest.mark.parametrize("feature", recipe.FEATURES)
def test_features_are_of_a_size_whatever_the_instrument(feature: recipe.Feature) -> None:
    made = short()
    column = made.rows.features[:, recipe.FEATURES.index(feature)]
    spread = [column[made.rows.instrument == one].std() for one in (0, 9, 19)]
    assert min(spread) > 0.05
    assert max(spread) < 2.0
    assert max(spread) < 5 * min(spread)
