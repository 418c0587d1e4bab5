"""Models as a replay asks them: at once, one by one, the same whatever came together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_cases import Windows, asks, config, make_bundle, make_odd_bundle
from tiny_models import TCN_SHAPE, reference_outputs

from engine.core.models import Failure
from runtime.asking import Ask
from runtime.bundle import Bundle
from runtime.direct import DirectInference

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("models") / "tiny")


def direct(bundle: Bundle, windows: Windows, bucket: int = 1) -> DirectInference:
    return DirectInference([config(bundle)], [bundle], gather=windows.gather, bucket=bucket)


@pytest.fixture(scope="module")
def windows() -> Windows:
    return Windows()


@pytest.fixture(scope="module")
def inference(bundle: Bundle, windows: Windows) -> Iterator[DirectInference]:
    made = direct(bundle, windows)
    yield made
    made.close()


def test_every_request_is_answered_in_its_place(
    bundle: Bundle, windows: Windows, inference: DirectInference
) -> None:
    answers = inference.ask(asks([5, 0, 63]))
    expected = reference_outputs(bundle.reference.path, windows.rows[[5, 0, 63]])
    assert [answer.context for answer in answers] == [5, 0, 63]
    for answer, row in zip(answers, expected, strict=True):
        assert answer.failure is None
        assert answer.score is not None
        np.testing.assert_allclose(answer.score.values, row, atol=1e-6)


def test_a_score_says_who_gave_it(bundle: Bundle, inference: DirectInference) -> None:
    (answer,) = inference.ask(asks([1]))
    score = answer.score
    assert score is not None
    assert (score.model, score.bundle) == ("tiny", bundle.identity)
    assert (score.backend, score.device, score.precision) == ("onnxruntime", "cpu", "fp32")
    assert (score.batch, score.queue_ns, score.service_ns) == (1, 0, 0)


@given(st.lists(st.integers(0, 63), min_size=1, max_size=40), st.data())
@settings(max_examples=50)
def test_answers_do_not_depend_on_what_was_asked_together(
    inference: DirectInference, contexts: list[int], data: st.DataObject
) -> None:
    together = inference.ask(asks(contexts))
    cut = data.draw(st.integers(0, len(contexts)))
    apart = inference.ask(asks(contexts[:cut])) + inference.ask(asks(contexts[cut:]))
    assert together == apart


def test_nor_with_more_than_one_window_a_call(bundle: Bundle, windows: Windows) -> None:
    inference = direct(bundle, windows, bucket=8)
    alone = [inference.ask(asks([context]))[0] for context in range(20)]
    assert inference.ask(asks(range(20))) == alone
    inference.close()


def test_a_window_that_is_gone_gives_no_score(bundle: Bundle) -> None:
    windows = Windows()
    windows.gone.add(1)
    inference = direct(bundle, windows, bucket=4)
    failures = [answer.failure for answer in inference.ask(asks([0, 1, 2]))]
    assert failures == [None, Failure.SUPERSEDED, None]
    assert inference.status()["tiny"]["failures"] == {"MODEL_SUPERSEDED": 1}
    inference.close()


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_window_with_nan_fails_alone(bundle: Bundle, odd: float) -> None:
    windows = Windows()
    windows.rows[1, 3, 2] = odd
    inference = direct(bundle, windows, bucket=4)
    failures = [answer.failure for answer in inference.ask(asks([0, 1, 2]))]
    assert failures == [None, Failure.INVALID, None]
    inference.close()


@pytest.mark.parametrize("values", [(np.nan, 0.5, 0.5), (2.0, 0.0, 0.0), (0.5, 0.5, 0.5)])
def test_a_model_that_answers_nonsense_gives_no_score(
    tmp_path: Path, windows: Windows, values: tuple[float, ...]
) -> None:
    bundle = make_odd_bundle(tmp_path / "odd", values, (0.2, 0.3, 0.5))
    inference = direct(bundle, windows)
    (answer,) = inference.ask(asks([0]))
    assert answer.failure is Failure.INVALID
    assert answer.score is None
    inference.close()


def test_after_it_is_closed_requests_fail(bundle: Bundle, windows: Windows) -> None:
    inference = direct(bundle, windows)
    inference.close()
    inference.close()


def test_two_models_are_asked_side_by_side(tmp_path: Path, bundle: Bundle) -> None:
    other = make_bundle(tmp_path / "other", name="other", seed=9)
    windows = Windows()
    inference = DirectInference(
        [config(bundle), config(other, name="other")], [bundle, other], gather=windows.gather
    )
    mixed = [Ask(n % 2, 10**18, n) for n in range(6)]
    scores = [answer.score for answer in inference.ask(mixed)]
    assert [score.model for score in scores if score] == ["tiny", "other"] * 3
    assert set(inference.histograms()) == {("tiny", "cpu"), ("other", "cpu")}
    counts = inference.histograms()["tiny", "cpu"].cumulative()["inference"]
    assert counts.summary().count == 3
    inference.close()


def test_bundles_of_other_shapes_work_too(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "wide", shape=TCN_SHAPE)
    windows = Windows(TCN_SHAPE)
    inference = direct(bundle, windows)
    assert inference.ask(asks([3]))[0].score is not None
    inference.close()
