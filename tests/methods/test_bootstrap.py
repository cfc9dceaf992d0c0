"""Intervals from drawing again: the quick way and the obvious one, and what they say where there is nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cutaway.methods.bootstrap import mean_interval, resampled, share_interval
from cutaway.studies import statistics


def test_resampled_is_the_percentiles_of_the_figure_of_each_draw() -> None:
    values = np.random.default_rng(1).normal(size=12)
    found = resampled(lambda chosen: float(np.median(values[chosen])), 12, seed=4, times=50, level=0.8)
    drawn, rng = [], np.random.default_rng(4)
    for _ in range(50):
        drawn.append(float(np.median([values[index] for index in rng.integers(12, size=12)])))
    assert found == (pytest.approx(np.quantile(drawn, 0.1)), pytest.approx(np.quantile(drawn, 0.9)))


def test_both_ways_agree_on_a_share() -> None:
    rng = np.random.default_rng(0)
    total = rng.integers(3, 12, size=60)
    right = rng.binomial(total, 0.7)
    share, low, high = share_interval(right, total, seed=2)
    other = resampled(lambda chosen: float(right[chosen].sum() / total[chosen].sum()), 60, seed=3, times=1000)
    assert share == pytest.approx(right.sum() / total.sum())
    assert (low, high) == (pytest.approx(other[0], abs=0.01), pytest.approx(other[1], abs=0.01))
    assert low < share < high


def test_draws_without_a_figure_are_left_out() -> None:
    assert resampled(lambda chosen: 1.0 if chosen[0] else math.nan, 3, seed=0) == (1.0, 1.0)
    assert all(math.isnan(end) for end in resampled(lambda chosen: math.nan, 3, seed=0))
    assert all(math.isnan(end) for end in mean_interval([]))


def test_studies_draw_by_the_same_function() -> None:
    assert statistics.resampled is resampled
