"""How long an answer counts, and who goes first, as the desk asks for scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from bundle_cases import make_bundle
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import WallClock
from engine.composition import resolve
from engine.config import Config
from engine.core.candidates import Candidate
from engine.model_desk import ModelDesk, Pending, Reading
from engine.model_setup import reading_of
from latency.histogram import StageHistograms
from runtime.asking import Answer, Ask
from strategies.score_rule import ScoreRule

MS = 10**6
NOW_NS = 5_000 * MS
RULE = ScoreRule(("down", "flat", "up"), (), 0.5, 0.0)


class Asked:
    """Keeps what it was asked and answers nothing yet."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []

    def ask(self, asks: Sequence[Ask]) -> Sequence[Answer | None]:
        self.asks += asks
        return [None] * len(asks)

    def histograms(self) -> Mapping[tuple[str, str], StageHistograms]:
        return {}


class Aged(WallClock):
    """Says of every tick that it came some time ago."""

    def __init__(self, age_ns: int) -> None:
        super().__init__()
        self.age_ns = age_ns

    def wall_ns(self, ts_recv_ns: int, ts_send_ns: int) -> int:
        return ts_recv_ns + self.age_ns


def candidate(**changes: int) -> Candidate:
    zeros = dict.fromkeys(Candidate.__struct_fields__, 0)
    return Candidate(**{**zeros, "window": 40, **changes})


def ask_one(deadline_ns: int, valid_for_ns: int, age_ns: int, priority: int = 5) -> Ask:
    asked = Asked()
    reading = Reading(RULE, False, 0.0, deadline_ns, valid_for_ns, priority, "tiny@1-0")
    desk = ModelDesk(asked, {0: reading}, Aged(age_ns), lambda: NOW_NS)
    desk.ask([Pending(candidate(), (1, 1, 0, 0))])
    (ask,) = asked.asks
    return ask


@given(
    deadline_ms=st.integers(1, 1_000), valid_ms=st.integers(1, 1_000), age_ms=st.integers(0, 2_000)
)
def test_an_answer_counts_until_its_deadline_and_no_longer_than_the_signal(
    deadline_ms: int, valid_ms: int, age_ms: int
) -> None:
    ask = ask_one(deadline_ms * MS, valid_ms * MS, age_ms * MS)
    assert ask.deadline_ns <= NOW_NS + deadline_ms * MS
    assert ask.deadline_ns - NOW_NS + age_ms * MS <= valid_ms * MS
    tight = {NOW_NS + deadline_ms * MS, NOW_NS + (valid_ms - age_ms) * MS}
    assert ask.deadline_ns in tight


def resolved(tmp_path: Path, **strategy: object) -> Reading:
    make_bundle(tmp_path / "b")
    tree = {
        "bars": [{"name": "1s", "interval": "1s"}],
        "models": [{"name": "tiny", "bundle": tmp_path / "b", "on": "1s", "priority": 3}],
        "strategies": [{"name": "one", "model": "tiny", **strategy}],
    }
    blueprint = resolve(Config.model_validate(tree))
    return reading_of(blueprint.config.strategies[0], blueprint.models[0])


def test_a_strategy_has_its_models_priority_unless_it_has_its_own(tmp_path: Path) -> None:
    assert resolved(tmp_path).priority == 3
    assert ask_one(MS, MS, 0, resolved(tmp_path, priority=8).priority).priority == 8


def test_a_priority_without_a_model_is_refused() -> None:
    tree = {"strategies": [{"name": "a", "rule": "macd_cross", "on": "tick", "priority": 1}]}
    with pytest.raises(ValueError, match="`priority` goes with `model` or `confirm`"):
        resolve(Config.model_validate(tree))
