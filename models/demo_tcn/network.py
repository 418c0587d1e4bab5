"""The network in torch: dilated causal convolutions without padding, and how it is trained.

While it is trained it runs over long stretches at once and gives a forecast at every row, so that
no row is computed twice. What is exported gives the last forecast of one window only, by a tree of
strided convolutions with the very same weights: ``models.demo_tcn.export``.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from models.demo_tcn.export import Layers
from models.demo_tcn.outcomes import UNKNOWN
from models.demo_tcn.stretches import Stretches


class Schedule(NamedTuple):
    """How long and how hard it is trained."""

    channels: int = 32
    epochs: int = 12
    batch: int = 32
    """Stretches a step."""
    rate: float = 3e-3
    """Highest learning rate; it rises, then falls to nothing along a cosine."""
    decay: float = 1e-3
    dropout: float = 0.1


def set_deterministic(seed: int) -> None:
    """Make torch give the same weights on every run on this kind of machine: one thread, seeded."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)


def make_network(features: int, levels: int, outputs: int, schedule: Schedule) -> nn.Sequential:
    """Return the network: float32 (B, F, rows) to (B, outputs, rows - 2 ** levels + 1), logits."""
    layers: list[nn.Module] = []
    wide = features
    for level in range(levels):
        layers += [
            nn.Conv1d(wide, schedule.channels, 2, dilation=2**level),
            nn.ReLU(),
            nn.Dropout(schedule.dropout),
        ]
        wide = schedule.channels
    return nn.Sequential(*layers, nn.Conv1d(wide, outputs, 1))


def train(
    network: nn.Sequential,
    training: Stretches,
    validation: Stretches,
    schedule: Schedule,
    report: Callable[[int, float, float], None],
) -> float:
    """Train, in place, and keep the weights of the epoch with the least validation loss.

    Args:
        network: As made.
        training: Normalised features and classes to learn from.
        validation: The same of a later span, to choose the epoch by.
        schedule: How.
        report: Told the epoch and both losses.

    Returns:
        The least validation loss, nats.
    """
    steps = schedule.epochs * -(-len(training.features) // schedule.batch)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=schedule.rate, weight_decay=schedule.decay
    )
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.rate, total_steps=steps)
    best, kept = np.inf, network.state_dict()
    for epoch in range(schedule.epochs):
        network.train()
        losses = []
        for features, classes in _batches(training, schedule.batch):
            optimiser.zero_grad()
            loss: Any = _loss(network, features, classes)  # torch gives `backward` no type
            loss.backward()
            optimiser.step()
            rates.step()
            losses.append(loss.item())
        held_out = validation_loss(network, validation)
        report(epoch, float(np.mean(losses)), held_out)
        if held_out < best:
            best, kept = held_out, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    return float(best)


def validation_loss(network: nn.Sequential, stretches: Stretches) -> float:
    """Return the mean log loss, nats, without dropout."""
    network.eval()
    features, classes = _tensors(stretches)
    with torch.no_grad():
        return float(_loss(network, features, classes).item())


def layers_of(network: nn.Sequential) -> Layers:
    """Return the weights as arrays."""
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv1d)]
    kernels = [layer.weight.detach().numpy().copy() for layer in convolutions]
    biases = [
        layer.bias.detach().numpy().copy() for layer in convolutions if layer.bias is not None
    ]
    return Layers(tuple(kernels[:-1]), tuple(biases[:-1]), kernels[-1][:, :, 0], biases[-1])


def _loss(network: nn.Sequential, features: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(network(features), classes, ignore_index=UNKNOWN)


def _tensors(stretches: Stretches) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(stretches.features), torch.from_numpy(stretches.classes)


def _batches(stretches: Stretches, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    features, classes = _tensors(stretches)
    order = torch.randperm(len(features))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield features[chosen], classes[chosen]
