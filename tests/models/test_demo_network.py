"""Training on one thread, seeded: what comes out is what was trained, and the same every time."""

import demo_rows
import numpy as np
import pytest

from models.demo_tcn.export import forward
from models.demo_tcn.outcomes import UNKNOWN, choose
from models.demo_tcn.recipe import FEATURES, LEVELS
from models.demo_tcn.stretches import Stretches, cut

torch = pytest.importorskip("torch", reason="training needs the extra train")

from models.demo_tcn import network  # noqa: E402 - imports torch

SMALL = network.Schedule(channels=8, epochs=3, batch=4)
ONES = np.ones(len(FEATURES))


def stretches_of(seed: int) -> Stretches:
    return cut(choose(demo_rows.random_rows(300, 3, seed)), 0.0 * ONES, ONES)


def trained(seed: int) -> bytes:
    network.set_deterministic(seed)
    made = network.make_network(len(FEATURES), LEVELS, 3, SMALL)
    network.train(made, stretches_of(1), stretches_of(2), SMALL, lambda *_: None)
    layers = network.layers_of(made)
    return b"".join(part.tobytes() for part in (*layers.kernels, *layers.biases, layers.head))


def test_a_seed_gives_the_same_weights_again_and_another_seed_others() -> None:
    assert trained(5) == trained(5)
    assert trained(5) != trained(6)


def test_exported_weights_answer_as_the_network_at_every_row() -> None:
    examples = choose(demo_rows.random_rows(300, 3))
    stretches = cut(examples, 0.0 * ONES, ONES)
    network.set_deterministic(1)
    made = network.make_network(len(FEATURES), LEVELS, 3, SMALL).eval()
    with torch.no_grad():
        logits = made(torch.from_numpy(stretches.features))
        answers = torch.softmax(logits, dim=1).numpy().transpose(0, 2, 1)
    expected = forward(network.layers_of(made), examples.windows(examples.ends))
    assert answers[stretches.classes != UNKNOWN] == pytest.approx(expected, abs=1e-6)


def test_the_epoch_with_the_least_validation_loss_is_kept() -> None:
    held_out = stretches_of(2)
    losses = []
    network.set_deterministic(1)
    made = network.make_network(len(FEATURES), LEVELS, 3, SMALL)
    best = network.train(
        made, stretches_of(1), held_out, SMALL, lambda _, __, loss: losses.append(loss)
    )
    assert len(losses) == SMALL.epochs
    assert best == min(losses)
    assert network.validation_loss(made, held_out) == pytest.approx(best)
