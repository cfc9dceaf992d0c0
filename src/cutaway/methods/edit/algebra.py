"""Which change of a matrix gives these keys those values, and moves other keys as little as it can?

One key: W' = W + (v - W k) (C⁻¹k)ᵀ / (kᵀ C⁻¹ k). It maps k to v exactly, has rank one, and leaves every key that is
C-orthogonal to k (uᵀ C⁻¹ k = 0) where it was; with C = I it is the least change of W at all [@meng2022].
Many keys: W' = W + R Kᵀ (λ C + K Kᵀ)⁻¹ for residuals R = V - W K: the least squares answer, held back by what C says of
all other keys [@meng2023]. All in double precision.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rank_one(
    weight: Tensor, bias: Tensor | None, key: Tensor, value: Tensor, moment: Tensor, *, answered: Tensor | None = None
) -> Tensor:
    """The change of `weight` [out, neuron] after which `key` [neuron] gives `value` [out].

    Args:
        weight: the matrix.
        bias: what the map adds [out].
        key: what shall be answered.
        value: the answer, bias included.
        moment: C [neuron, neuron], invertible.
        answered: the key that gets the value, where it is not the one that gives the direction: the first release of ROME
            took an average of keys for the direction and a single one here, which can ruin a model [@gupta2024].
    """
    at = (key if answered is None else answered).double()
    given = weight.double() @ at + (0.0 if bias is None else bias.double())
    weighted = torch.linalg.solve(moment.double(), key.double())
    return torch.outer(value.double() - given, weighted / (weighted @ at))


def batch(keys: Tensor, residuals: Tensor, moment: Tensor, weight: float) -> Tensor:
    """The change [out, neuron] after which keys give their residuals, as far as λC lets them.

    Args:
        keys: [fact, neuron].
        residuals: what each key should give more than it does [fact, out].
        moment: C [neuron, neuron], invertible.
        weight: λ.
    """
    K, R = keys.double(), residuals.double()  # noqa: N806 - the paper's names
    # The same as R Kᵀ (λC + K Kᵀ)⁻¹, by a matrix of the size of the batch that is well conditioned also for a small λ.
    weighted = torch.linalg.solve(moment.double(), K.T)
    inner = K @ weighted + weight * torch.eye(len(K), dtype=torch.float64, device=K.device)
    return R.T @ torch.linalg.solve(inner, weighted.T)
