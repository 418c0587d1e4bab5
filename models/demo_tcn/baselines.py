"""Forecasts that any model must beat, learned from the training span alone.

Each is made once from training rows and then asked for probabilities, shape (N, 3).
"""

from typing import Final

import numpy as np

from models.demo_tcn.metrics import Classes, Floats

N_CLASSES: Final = 3
_RIDGE: Final = 1e-6
_STEPS: Final = 30


class Prior:
    """How often each class happened, whatever the market does.

    Args:
        classes: Of the training span, shape (N,).
    """

    def __init__(self, classes: Classes) -> None:
        self.shares = np.bincount(classes, minlength=N_CLASSES) / len(classes)

    def probability(self, count: int) -> Floats:
        """Return the same row ``count`` times."""
        return np.tile(self.shares, (count, 1))


class LastMove:
    """What followed moves like the last one: class shares by the class of the move before.

    Args:
        before: Class of the move that had just ended, shape (N,).
        classes: Class of the move that followed, shape (N,).
    """

    def __init__(self, before: Classes, classes: Classes) -> None:
        counts = np.ones((N_CLASSES, N_CLASSES))
        np.add.at(counts, (before, classes), 1.0)
        self.shares = counts / counts.sum(axis=1, keepdims=True)

    def probability(self, before: Classes) -> Floats:
        """Return the shares that belong to each last move."""
        return np.asarray(self.shares[before], np.float64)


class Logistic:
    """Multinomial logistic regression on one row of numbers.

    Böhning (1992), Multinomial Logistic Regression Algorithm: the fixed bound of the Hessian makes
    every step of Newton's method a descent, so no step size is needed.

    Args:
        rows: Of the training span, shape (N, F).
        classes: Shape (N,).
    """

    def __init__(self, rows: Floats, classes: Classes) -> None:
        self.mean, self.sd = rows.mean(axis=0), rows.std(axis=0) + 1e-12
        x = self._design(rows)
        wanted = np.eye(N_CLASSES)[classes]
        self.weights = np.zeros((x.shape[1], N_CLASSES))
        bound = np.linalg.inv(0.5 * (x.T @ x) / len(x) + _RIDGE * np.eye(x.shape[1]))
        for _ in range(_STEPS):
            self.weights += bound @ (x.T @ (wanted - _softmax(x @ self.weights)) / len(x))

    def probability(self, rows: Floats) -> Floats:
        """Return the forecasts for rows, shape (N, F)."""
        return _softmax(self._design(rows) @ self.weights)

    def _design(self, rows: Floats) -> Floats:
        return np.concatenate([(rows - self.mean) / self.sd, np.ones((len(rows), 1))], axis=1)


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)
