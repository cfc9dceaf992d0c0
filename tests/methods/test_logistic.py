"""Linear probes find what a straight line divides, and nothing else; parts are dealt out whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.errors import MethodError
from cutaway.methods.held_out import parts
from cutaway.methods.logistic import best_candidates, choose, classify


def test_what_lies_apart_is_told_apart_and_chance_is_not() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((600, 5)) * [1, 10, 0.1, 1, 0] + [0, 100, 0, 0, 7]
    labels = (rows[:, 0] > 0).astype(int) + (rows[:, 0] > 1)
    probe = classify(rows[:400], labels[:400], 3)
    assert (probe.predict(rows[400:]) == labels[400:]).mean() > 0.9
    coins = random.integers(0, 2, size=600)
    assert abs((classify(rows[:400], coins[:400], 2).predict(rows[400:]) == coins[400:]).mean() - 0.5) < 0.1


def test_the_weights_are_at_the_least_loss() -> None:
    random = np.random.default_rng(1)
    rows, labels = random.standard_normal((50, 3)), random.integers(0, 2, size=50)
    probe = classify(rows, labels, 2, penalty=0.1, steps=200)

    def loss(weight: torch.Tensor) -> float:
        values = (torch.as_tensor(rows) - probe.mean) / probe.scale
        fit = torch.nn.functional.cross_entropy(values @ weight + probe.bias, torch.as_tensor(labels))
        return float(fit + 0.1 * weight.square().sum())

    best = loss(probe.weight)
    for _ in range(20):
        assert loss(probe.weight + 0.05 * torch.as_tensor(random.standard_normal((3, 2)))) > best


def test_the_right_candidate_is_chosen() -> None:
    random = np.random.default_rng(2)
    question = np.repeat(np.arange(100), 4)
    rows = random.standard_normal((400, 6))
    strength = rows @ np.array([1.0, -2.0, 0.5, 0, 0, 0])
    right = np.array([4 * q + strength[4 * q : 4 * q + 4].argmax() for q in range(100)])
    probe = choose(rows[:280], question[:280], right[:70])
    found = best_candidates(probe.scores(rows[280:])[:, 0], question[280:] - 70)
    assert (found + 280 == right[70:]).mean() > 0.85


def test_the_first_of_equal_candidates() -> None:
    scores, question = np.array([1.0, 3.0, 3.0, 0.0, 5.0]), np.array([0, 0, 0, 1, 1])
    assert best_candidates(scores, question).tolist() == [1, 4]


@given(st.integers(3, 60), st.integers(0, 99))
def test_parts_hold_every_group_once(groups: int, seed: int) -> None:
    found = parts(groups, (0.6, 0.2, 0.2), seed)
    assert sorted(np.concatenate(found).tolist()) == list(range(groups))
    assert all(len(part) for part in found)
    assert abs(len(found[0]) - 0.6 * groups) <= 2
    assert all(np.array_equal(a, b) for a, b in zip(found, parts(groups, (0.6, 0.2, 0.2), seed)))


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(MethodError, match=r"2 sentences or words cannot be dealt out into 3 parts; .* Give 3 or more"):
        parts(2, (0.6, 0.2, 0.2), 0)
