"""Which class is it, by a straight line? Logistic regression on a few thousand rows, without a random start.

Features are brought to mean zero and one standard deviation (of the training rows), weights are punished by their
squares, and the loss is convex, so that the weights follow from the data alone. `choose` is its conditional form: for each
question one of several candidates is right [@clark2019].
Limits: full batches in memory; the strength of the penalty is given, not searched for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STEPS = 60


@dataclass(frozen=True)
class Linear:
    """Scores of classes: `(rows - mean) / scale @ weight + bias`.

    Attributes:
        weight: [feature, class].
        bias: [class].
        mean: [feature] of the training rows.
        scale: [feature] their standard deviation.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor

    def scores(self, rows: NDArray) -> NDArray[np.float64]:
        """[row, class]."""
        values = (torch.as_tensor(rows, dtype=torch.float64) - self.mean) / self.scale
        return (values @ self.weight + self.bias).numpy()

    def predict(self, rows: NDArray) -> NDArray[np.int64]:
        """[row] the class with the largest score."""
        return self.scores(rows).argmax(axis=1)


def classify(rows: NDArray, labels: NDArray, classes: int, penalty: float = 1e-3, steps: int = STEPS) -> Linear:
    """Train on rows [row, feature] with labels [row] in 0 … classes - 1.

    Args:
        rows: features.
        labels: the class of each row.
        classes: how many there are.
        penalty: of the squares of the weights, beside the mean loss.
        steps: of the optimiser at most.
    """
    values, mean, scale = _standard(rows)
    wanted = torch.as_tensor(labels, dtype=torch.long)
    weight = torch.zeros(values.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        fit = torch.nn.functional.cross_entropy(values @ weight + bias, wanted)
        return fit + penalty * weight.square().sum()

    _minimise(loss, [weight, bias], steps)
    return Linear(weight.detach(), bias.detach(), mean, scale)


def choose(rows: NDArray, question: NDArray, right: NDArray, penalty: float = 1e-3, steps: int = STEPS) -> Linear:
    """Train to give the right candidate of each question the largest score.

    Args:
        rows: [candidate, feature].
        question: [candidate] which question it belongs to, from 0 and in ascending order.
        right: [question] the row of its right candidate.
        penalty: as in `classify`.
        steps: as in `classify`.
    """
    values, mean, scale = _standard(rows)
    group, wanted = torch.as_tensor(question, dtype=torch.long), torch.as_tensor(right, dtype=torch.long)
    count = int(group.max()) + 1
    weight = torch.zeros(values.shape[1], 1, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        scores = (values @ weight)[:, 0]
        top = torch.full((count,), -torch.inf, dtype=torch.float64).scatter_reduce(0, group, scores.detach(), "amax")
        total = torch.zeros(count, dtype=torch.float64).scatter_add(0, group, (scores - top[group]).exp())
        return (total.log() + top - scores[wanted]).mean() + penalty * weight.square().sum()

    _minimise(loss, [weight], steps)
    return Linear(weight.detach(), torch.zeros(1, dtype=torch.float64), mean, scale)


def best_candidates(scores: NDArray, question: NDArray) -> NDArray[np.int64]:
    """The row of the candidate with the largest score of each question; the first one where several have it."""
    order = np.lexsort((np.arange(len(scores)), -scores, question))
    first = np.concatenate([[True], question[order][1:] != question[order][:-1]])
    return order[first]


def _standard(rows: NDArray) -> tuple[Tensor, Tensor, Tensor]:
    values = torch.as_tensor(np.asarray(rows), dtype=torch.float64)
    mean = values.mean(dim=0)
    scale = values.std(dim=0, correction=0)
    scale = torch.where(scale > 1e-12, scale, 1.0)
    return (values - mean) / scale, mean, scale


def _minimise(loss: Callable[[], Tensor], weights: list[Tensor], steps: int) -> None:
    optimiser = torch.optim.LBFGS(weights, max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
