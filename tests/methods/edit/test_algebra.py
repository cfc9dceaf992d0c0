"""The laws of the two formulas, on drawn matrices."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cutaway.methods.edit import algebra

seeds = st.integers(0, 10_000)


def drawn(seed: int, out: int = 5, neurons: int = 7) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Weights, bias, key, value, and a moment of many keys."""
    generator = torch.Generator().manual_seed(seed)
    weight, bias, key, value = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((out, neurons), out, neurons, out)
    )
    keys = torch.randn(50, neurons, generator=generator, dtype=torch.float64)
    return weight, bias, key, value, keys.T @ keys / 50


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_the_key_gets_its_value_exactly_by_a_change_of_rank_one(seed: int) -> None:
    weight, bias, key, value, moment = drawn(seed)
    change = algebra.rank_one(weight, bias, key, value, moment)
    torch.testing.assert_close((weight + change) @ key + bias, value)
    assert int(torch.linalg.matrix_rank(change)) == 1


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_keys_that_are_orthogonal_under_the_inverse_moment_stay(seed: int) -> None:
    weight, bias, key, value, moment = drawn(seed)
    other = drawn(seed + 1)[2]
    direction = torch.linalg.solve(moment, key)
    other = other - (other @ direction) / (key @ direction) * key
    change = algebra.rank_one(weight, bias, key, value, moment)
    torch.testing.assert_close(change @ other, torch.zeros(5, dtype=torch.float64), atol=1e-9, rtol=0)


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_with_the_identity_it_is_the_least_change(seed: int) -> None:
    weight, _bias, key, value, moment = drawn(seed)
    change = algebra.rank_one(weight, None, key, value, torch.eye(7))
    torch.testing.assert_close(change, torch.outer(value - weight @ key, key) / (key @ key))
    assert change.norm() <= algebra.rank_one(weight, None, key, value, moment).norm() + 1e-9


def test_the_mixed_key_of_the_first_release_gives_the_value_to_the_other_key() -> None:
    weight, bias, key, value, moment = drawn(0)
    own = key + 0.1 * drawn(1)[2]
    change = algebra.rank_one(weight, bias, key, value, moment, answered=own)
    torch.testing.assert_close((weight + change) @ own + bias, value)
    assert float(((weight + change) @ key + bias - value).norm()) > 1e-3


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_a_batch_is_the_least_squares_answer(seed: int) -> None:
    """Against the minimum of Σ‖(W'-W) k - r‖² + λ tr(Δ C Δᵀ), whose gradient is zero."""
    _weight, _, _, _, moment = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    wanted = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    change = algebra.batch(keys, wanted, moment, 0.7).requires_grad_(True)
    loss = ((keys @ change.T - wanted) ** 2).sum() + 0.7 * torch.trace(change @ moment @ change.T)
    (slope,) = torch.autograd.grad(loss, change)
    assert float(slope.abs().max()) < 1e-9


def test_less_weight_on_other_keys_leaves_less_missing() -> None:
    _, _, _, _, moment = drawn(0)
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    wanted = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    missing = [
        float((keys @ algebra.batch(keys, wanted, moment, weight).T - wanted).norm())
        for weight in (100.0, 1.0, 0.01, 1e-9)
    ]
    assert missing == sorted(missing, reverse=True)
    assert missing[-1] < 1e-6


def test_one_fact_in_a_batch_without_weight_is_the_change_of_rank_one() -> None:
    weight, _, key, value, moment = drawn(0)
    alone = algebra.rank_one(weight, None, key, value, moment)
    torch.testing.assert_close(
        algebra.batch(key[None], (value - weight @ key)[None], moment, 1e-12), alone, atol=1e-6, rtol=1e-6
    )
