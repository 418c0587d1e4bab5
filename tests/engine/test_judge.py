"""What the judge numbers: every proposal has an id of its own, in whatever order they come."""

from pipeline_cases import make_pipeline, market_ticks, origins_of

from engine.core.candidates import Candidate, candidates_of
from engine.core.signals import Refusal
from engine.judge import COUNTED_TICKS, Judge
from replay.digest import Collector


class Refusals(Collector):
    """Keeps the ids of what was refused."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def on_refusal(self, refusal: Refusal) -> None:
        super().on_refusal(refusal)
        self.ids.append(refusal.id)


def judge_and_candidate() -> tuple[Judge, Refusals, Candidate]:
    pipeline, _ = make_pipeline()
    ticks = market_ticks(200)
    pipeline.run_ticks(ticks, origins_of(len(ticks)), 0, len(ticks))
    pipeline.judge.sink = sink = Refusals()
    pipeline.judge._late = True
    (candidate,) = candidates_of(pipeline.kernel.candidate_bytes, 1)
    return pipeline.judge, sink, candidate


def ids_on(*seqs: int) -> list[str]:
    """Return the ids of one strategy's proposals on these ticks, in this order."""
    judge, sink, candidate = judge_and_candidate()
    for seq in seqs:
        judge.refuse(candidate, (7, seq, 0, 0), "TEST")
    return sink.ids


def test_two_proposals_on_one_tick_have_two_ids() -> None:
    assert len(set(ids_on(1, 1))) == 2


def test_an_answer_that_comes_after_later_ticks_has_an_id_of_its_own() -> None:
    first, second, third = ids_on(1, 2, 1)
    assert len({first, second, third}) == 3
    assert [first, third] == ids_on(1, 1)


def test_only_so_many_ticks_are_counted() -> None:
    judge, _, candidate = judge_and_candidate()
    for seq in range(COUNTED_TICKS + 50):
        judge.refuse(candidate, (7, seq, 0, 0), "TEST")
    assert len(judge._ticks) == COUNTED_TICKS
