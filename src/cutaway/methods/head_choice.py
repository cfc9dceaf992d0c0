"""Is the best of many heads good, or the luckiest? Choose on one half of the sentences, count on the other.

A relation is tried with every head in both directions, and the best of hundreds looks good on the sentences that it was
chosen on. So the sentences are dealt into two halves; on each half the candidate is counted that was best on the
other one [@clark2019]. Baselines with a choice in them (the best fixed offset) are chosen in the same way.
Limits: two halves of one treebank are alike; another treebank may give other heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.site import Site
from cutaway.methods.bootstrap import share_interval
from cutaway.methods.words import head_name

DIRECTIONS = ("from the dependent to the head", "from the head to the dependent")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chosen:
    """What the candidates that were chosen on the other half did.

    Attributes:
        right: [sentence, item] how many were right.
        share: [item] right of all.
        low: [item] lower end of the interval.
        high: [item] its upper end.
        best: [item] the candidate that is best on all sentences.
        agreed: [item] whether both halves chose the same one.
    """

    right: Array
    share: Array
    low: Array
    high: Array
    best: NDArray[np.int64]
    agreed: NDArray[np.bool_]


def halves(sentences: int, seed: int) -> NDArray[np.bool_]:
    """Which half each sentence is in."""
    second = np.zeros(sentences, dtype=bool)
    second[np.random.default_rng(seed).permutation(sentences)[: sentences // 2]] = True
    return second


def chosen_on_other_half(right: NDArray, total: NDArray, seed: int) -> Chosen:
    """Choose on each half, count on the other.

    Args:
        right: [sentence, item, candidate] how many of its words each candidate had right.
        total: [sentence, item] how many words there were.
        seed: deals out the sentences.
    """
    second = halves(len(right), seed)
    picked = [right[half].sum(axis=0, dtype=np.int64).argmax(axis=-1) for half in (~second, second)]
    items = np.arange(right.shape[1])
    held = _held(right, second, picked)
    figures = np.array([share_interval(held[:, item], total[:, item], seed) for item in items]).reshape(-1, 3)
    best = right.sum(axis=0, dtype=np.int64).argmax(axis=-1)
    return Chosen(held, figures[:, 0], figures[:, 1], figures[:, 2], best, picked[0] == picked[1])


def share_on_other_half(right: NDArray, total: NDArray, seed: int) -> Array:
    """Only the shares [item] of `chosen_on_other_half`; NaN where there is nothing to count."""
    second = halves(len(right), seed)
    picked = [right[half].sum(axis=0, dtype=np.int64).argmax(axis=-1) for half in (~second, second)]
    count = total.sum(axis=0)
    return np.where(count > 0, _held(right, second, picked).sum(axis=0) / np.maximum(count, 1), np.nan)


def _held(right: NDArray, second: NDArray[np.bool_], picked: Sequence[NDArray]) -> Array:
    items = np.arange(right.shape[1])
    held = np.zeros(right.shape[:2])
    held[second] = right[second][:, items, picked[0]]
    held[~second] = right[~second][:, items, picked[1]]
    return held


def most_attended(attention: Tensor, causal: bool) -> Tensor:
    """The word that each word is led to by each head, in both directions [direction, head, word].

    Args:
        attention: [head, from word, to word].
        causal: whether a word sees earlier words alone.

    Returns:
        In the first direction the word that it attends to most, in the second the one that attends most to it. A
        word never leads to itself; -1 where it can lead nowhere.
    """
    size = attention.shape[-1]
    allowed = ~torch.eye(size, dtype=torch.bool, device=attention.device)
    if causal:
        allowed = allowed.tril()
    seen = attention.masked_fill(~allowed, -1.0)
    found = []
    for table in (seen, seen.mT):
        value, place = table.max(dim=-1)
        found.append(torch.where(value >= 0, place, -1))
    return torch.stack(found)


def candidate_name(heads: Sequence[Site], candidate: int) -> tuple[str, str]:
    """Name of head and direction of a candidate: candidates are [direction, head] in a row."""
    direction, head = divmod(int(candidate), len(heads))
    return head_name(heads[head]), DIRECTIONS[direction]
