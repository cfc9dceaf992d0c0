"""How far do two lists of numbers agree? Linear and rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's linear correlation; 0 where one side does not vary."""
    x, y = (np.asarray(side, dtype=np.float64).reshape(-1) for side in (a, b))
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / size) if size > 0 else 0.0


def ranks(values: ArrayLike) -> Floats:
    """The rank of each value, from 0; equal values share the mean of theirs."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    _, place, counts = np.unique(flat, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    found: Floats = ((ends - counts + ends - 1) / 2)[place.reshape(-1)]
    return found


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation; 0 where one side has no order."""
    return correlation(ranks(a), ranks(b))
