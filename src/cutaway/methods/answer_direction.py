"""Along which direction of the stream is the answer's logit? What direct attribution attributes.

Once the final norm is applied, a logit is a product with a row of the unembedding, so a sum of logits (the answer's
lead over the wrong answers, or over the mean of all tokens) is a product with one direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.task import EncodedTask
from cutaway.models.unembedding import Unembedding


@dataclass(frozen=True)
class Direction:
    """The direction of the stream (after the norm) whose length is the score, for each prompt.

    Attributes:
        vector: [prompt, d_model].
        offset: what the unembedding's bias gives [prompt].
        weights: of the logits [prompt, vocab], so that the score is their product.
        name: what the score is.
    """

    vector: Tensor
    offset: Tensor
    weights: Tensor
    name: str

    @staticmethod
    def of(encoded: EncodedTask, ends: Unembedding, against: str) -> Direction:
        """The direction of the answers' mean logit, held `against` the wrong answers, the mean token or nothing."""
        wide = _wide(ends.weight)
        weights = torch.zeros(len(encoded), ends.weight.shape[0], dtype=wide, device=ends.weight.device)
        name = "logit of the answer"
        for row, answers in enumerate(encoded.answer_ids):
            weights[row, list(answers)] += 1 / len(answers)
        if against == "wrong" and any(encoded.wrong_ids):
            name = "logit difference"
            for row, wrong in enumerate(encoded.wrong_ids):
                weights[row, list(wrong)] -= 1 / len(wrong)
        elif against == "mean":
            name = "logit of the answer above the mean of all tokens"
            weights -= 1 / weights.shape[1]
        with torch.no_grad():
            vector = _product(weights, ends.weight) * ends.multiplier
            bias = torch.zeros_like(weights[0]) if ends.bias is None else ends.bias.to(wide)
            return Direction(vector, (weights @ bias) * ends.multiplier, weights, name)


@dataclass(frozen=True)
class Gaps:
    """How far parts are from the score that they should sum to, for each prompt.

    Attributes:
        logit: what the model's own logits give.
        total: what the parts sum to.
        gap: their difference.
        size: of all that was summed.
    """

    logit: NDArray[np.float64]
    total: NDArray[np.float64]
    gap: NDArray[np.float64]
    size: NDArray[np.float64]

    @staticmethod
    @torch.no_grad()
    def of(logits: Tensor, ends: Unembedding, direction: Direction, parts: Sequence[NDArray[np.float64]]) -> Gaps:
        """Of the model's logits [prompt, vocab] and the parts' contributions, each [prompt]."""
        logits = logits.to(direction.weights)
        if ends.softcap is not None:
            logits = torch.atanh((logits / ends.softcap).clamp(-1 + 1e-9, 1 - 1e-9)) * ends.softcap
        logit = (logits * direction.weights).sum(dim=-1).double().cpu().numpy()
        total, size = np.sum(parts, axis=0), np.sum(np.abs(parts), axis=0) + 1e-12
        return Gaps(logit, total, total - logit, size)


def _product(weights: Tensor, matrix: Tensor) -> Tensor:
    """weights [prompt, vocab] @ matrix [vocab, d_model] in wide numbers, without a wide copy of the whole matrix."""
    rows = weights.new_zeros(len(weights), matrix.shape[1])
    for start in range(0, len(matrix), 8192):
        piece = weights[:, start : start + 8192]
        used = piece.any(dim=0)
        if bool(used.any()):
            rows += piece[:, used] @ matrix[start : start + 8192][used].to(weights.dtype)
    return rows


def _wide(value: Tensor) -> torch.dtype:
    """Double precision, where the device has it."""
    return torch.float32 if value.device.type == "mps" else torch.float64
