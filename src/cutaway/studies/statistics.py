"""How sure is a figure? Correlations, and intervals from drawing the prompts again.

What is drawn again (`cutaway.methods.bootstrap`) is the prompt, or whatever was sampled, never the cell of a map.
Limits: with few prompts an interval is too narrow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cutaway.core.claim import Figure
from cutaway.methods.bootstrap import resampled as resampled
from cutaway.methods.correlation import ranks

Floats = NDArray[np.float64]


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Linear correlation of two equally long arrays; missing where one of them does not vary."""
    x, y = np.asarray(a, float).ravel(), np.asarray(b, float).ravel()
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / size) if size > 0 else float("nan")


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation of two equally long arrays."""
    return pearson(ranks(a), ranks(b))


def slope(a: ArrayLike, b: ArrayLike) -> float:
    """The factor through the origin that takes `b` closest to `a`."""
    x, y = np.asarray(a, float).ravel(), np.asarray(b, float).ravel()
    return float((x * y).sum() / max(float((y**2).sum()), 1e-30))


def overlap(a: ArrayLike, b: ArrayLike, top: int) -> int:
    """How many of the `top` largest (by size) are the same in both."""
    x, y = (set(np.argsort(-np.abs(np.asarray(v, float).ravel()), kind="stable")[:top].tolist()) for v in (a, b))
    return len(x & y)


def mean_figure(
    values: ArrayLike, *, seed: int, control: float | None = None, control_is: str = "", note: str = ""
) -> Figure:
    """The mean of one number a prompt, with its interval."""
    array = np.asarray(values, float).ravel()
    low, high = resampled(lambda chosen: float(array[chosen].mean()), len(array), seed=seed)
    return Figure(float(array.mean()), low, high, len(array), control, control_is, note)
