import numpy as np
import pytest

from cutaway.methods.correlation import correlation, ranks, spearman


def test_ranks_and_their_correlation() -> None:
    assert ranks([3.0, 1.0, 3.0, 7.0]).tolist() == [1.5, 0, 1.5, 3]
    assert spearman([1, 2, 3], [10, 100, 101]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 3], [1, 1, 1]) == 0


def test_the_linear_correlation_is_that_of_numpy() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, np.ones(9)) == 0
