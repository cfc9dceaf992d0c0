"""How sure is a figure? Percentile intervals from drawing again what was sampled [@efron1979].

    resampled         any figure of the prompts that were drawn
    share_interval    a share of the words of sentences, all draws at once as a matrix product; `mean_interval` likewise

Words of one sentence are not independent, so it is sentences that are drawn, with replacement, and the share of all their
words that is computed each time. The interval holds the middle 95 % unless said otherwise.
Limits: with a handful of prompts or sentences the interval is too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 1000
MIDDLE = (0.025, 0.975)


@lru_cache(maxsize=8)
def weights(sentences: int, seed: int, draws: int = DRAWS) -> NDArray[np.float64]:
    """How often each sentence is drawn in each draw [draw, sentence]."""
    random = np.random.default_rng(seed)
    drawn = random.multinomial(sentences, np.full(sentences, 1 / sentences), size=draws).astype(np.float64)
    drawn.flags.writeable = False
    return drawn


def share_interval(right: ArrayLike, total: ArrayLike, seed: int = 0) -> tuple[float, float, float]:
    """A share and the ends of its interval: (share, low, high); NaN where there is nothing to count.

    Args:
        right: of each sentence, how many were right.
        total: of each sentence, how many there were.
        seed: draws the sentences.
    """
    right, total = np.asarray(right, dtype=np.float64), np.asarray(total, dtype=np.float64)
    if total.sum() == 0:
        return np.nan, np.nan, np.nan
    drawn = weights(len(right), seed)
    counts = drawn @ total
    low, high = np.quantile((drawn @ right)[counts > 0] / counts[counts > 0], MIDDLE)
    return float(right.sum() / total.sum()), float(low), float(high)


def mean_interval(values: ArrayLike, seed: int = 0) -> tuple[float, float, float]:
    """A mean and the ends of its interval; NaN where there are no values."""
    values = np.asarray(values, dtype=np.float64)
    return share_interval(values, np.ones(len(values)), seed)


def resampled(
    of: Callable[[NDArray[np.int_]], float], n: int, *, seed: int, times: int = 500, level: float = 0.95
) -> tuple[float, float]:
    """The interval of a figure when its `n` prompts are drawn again.

    Args:
        of: the figure of the prompts with these indices.
        n: how many prompts there are.
        seed: draws them.
        times: how often.
        level: the share of draws that the interval holds.
    """
    rng = np.random.default_rng(seed)
    drawn = np.array([of(rng.integers(n, size=n)) for _ in range(times)])
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
