"""Distances, maps, trees and ranks against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.methods import distances as module

SEEDS = st.integers(0, 10_000)


def random_heads(seed: int, size: int) -> list[int]:
    random = np.random.default_rng(seed)
    order = random.permutation(size)
    heads = [-1] * size
    for place in range(1, size):
        heads[order[place]] = int(order[random.integers(place)])
    return heads


def slow_distance(heads: list[int], a: int, b: int) -> int:
    def up(word: int) -> list[int]:
        return [word] if heads[word] < 0 else [word, *up(heads[word])]

    one, other = up(a), up(b)
    meet = next(word for word in one if word in other)
    return one.index(meet) + other.index(meet)


@given(SEEDS, st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_distances_and_depths_of_a_tree(seed: int, size: int) -> None:
    heads = random_heads(seed, size)
    found = module.tree_distances(heads)
    assert found.tolist() == [[slow_distance(heads, a, b) for b in range(size)] for a in range(size)]
    root = heads.index(-1)
    assert module.depths(heads).tolist() == found[root].tolist()
    points = module.tree_embedding(heads)
    assert points.shape == (size, size - 1)
    np.testing.assert_array_equal(np.square(points[:, None] - points[None]).sum(-1), found)
    edges = sorted((min(w, h), max(w, h)) for w, h in enumerate(heads) if h >= 0)
    assert module.spanning_tree(found.astype(float)) == edges


def test_a_small_tree_by_hand() -> None:
    heads = [1, -1, 3, 1]  # "old man the sea": man is the root
    assert module.depths(heads).tolist() == [1, 0, 2, 1]
    assert module.tree_distances(heads)[0].tolist() == [1 - 1, 1, 3, 2]


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_divergence_is_its_definition(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, 4, 5, generator=generator, dtype=torch.float64).softmax(-1)
    found = module.jensen_shannon(maps)
    for a in range(3):
        for b in range(3):
            rows = []
            for p, q in zip(maps[a], maps[b]):
                m = (p + q) / 2
                rows.append(float((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2)
            assert float(found[a, b]) == pytest.approx(np.mean(rows), abs=1e-12)


def test_divergence_and_entropy_at_their_ends() -> None:
    ones = torch.eye(2, dtype=torch.float64)[:, None]  # two heads, one row each, that attend to different tokens
    assert float(module.jensen_shannon(ones)[0, 1]) == pytest.approx(math.log(2))
    same = torch.full((2, 1, 7), 1 / 7, dtype=torch.float64)
    assert module.jensen_shannon(same).abs().max() < 1e-12
    assert float(module.entropy(same)[0, 0]) == pytest.approx(math.log(7))


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_scaling_gives_points_back_up_to_a_turn(seed: int) -> None:
    points = np.random.default_rng(seed).standard_normal((6, 2))
    squares = np.square(points[:, None] - points[None]).sum(-1)
    found, share = module.scaling(squares, 3)
    np.testing.assert_allclose(np.square(found[:, None] - found[None]).sum(-1), squares, atol=1e-8)
    assert share[:2].sum() == pytest.approx(1) and share[2] == pytest.approx(0, abs=1e-9)
    other, spread = module.principal(points, 2)
    np.testing.assert_allclose(np.abs(other), np.abs(found[:, :2]), atol=1e-6)
    np.testing.assert_allclose(spread, share[:2], atol=1e-8)


def test_a_map_of_one_point_has_two_coordinates() -> None:
    assert module.scaling(np.zeros((1, 1)))[0].shape == (1, 2)
    assert module.principal(np.ones((1, 5)))[0].shape == (1, 2)


def test_clusters_are_those_that_lie_apart() -> None:
    places = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 9.0])
    apart = np.abs(places[:, None] - places[None])
    assert module.clusters(apart, 3).tolist() == [0, 0, 0, 1, 1, 2]
    assert module.clusters(apart, 1).tolist() == [0] * 6
    assert sorted(module.clusters(apart, 6)) == list(range(6))
