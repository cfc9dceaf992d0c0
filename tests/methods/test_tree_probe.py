"""The structural probe finds a tree that is there, and its scores are the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.data.conllu import Sentence
from cutaway.data.grammar import made_sentences
from cutaway.methods.distances import depths, tree_distances, tree_embedding
from cutaway.methods.tree_probe import score_distances, score_probe, train_probe, untrained_probe

TREES = made_sentences(60, seed=5)


def hidden(tree: Sentence, seed: int) -> np.ndarray:
    """Vectors with the tree in some directions (one for each edge of a word's place) and noise in others."""
    random = np.random.default_rng(seed)
    points = np.zeros((len(tree.words), 40))
    found = tree_embedding(tree.heads)
    points[:, : found.shape[1]] = found
    noise = 3 * random.standard_normal((len(tree.words), 20))
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 60)))[0]
    return np.concatenate([points, noise], axis=1) @ turn


def test_gold_distances_have_all_edges() -> None:
    gold = [tree_distances(tree.heads) for tree in TREES]
    deep = [depths(tree.heads) for tree in TREES]
    scores = score_distances(TREES, gold, deep)
    assert scores.attachment == 1
    assert scores.distance.min() == pytest.approx(1) and scores.depth.min() == pytest.approx(1)
    assert scores.root.min() == 1
    # Punctuation has no edge, and the root none above it.
    marks = [tree.relations.count("punct") for tree in TREES]
    assert scores.edge_count.tolist() == [len(tree.words) - 1 - mark for tree, mark in zip(TREES, marks)]


def test_a_tree_that_is_there_is_found_and_random_maps_find_less() -> None:
    vectors = [hidden(tree, index) for index, tree in enumerate(TREES)]
    probe = train_probe(TREES[:45], vectors[:45], rank=40, epochs=60, seed=0)
    learned = score_probe(probe, TREES[45:], vectors[45:])
    random = score_probe(untrained_probe(vectors[:45], 40, 0), TREES[45:], vectors[45:])
    assert learned.attachment > random.attachment + 0.2
    assert learned.distance.mean() > random.distance.mean() + 0.1
    again = train_probe(TREES[:45], vectors[:45], rank=40, epochs=60, seed=0)
    assert np.array_equal(again.distance.numpy(), probe.distance.numpy())


def test_distances_are_those_after_the_map() -> None:
    vectors = [hidden(tree, index) for index, tree in enumerate(TREES[:3])]
    probe = untrained_probe(vectors, 7, seed=1)
    mapped = ((vectors[0] - probe.mean.numpy()) / probe.scale.numpy()) @ probe.distance.numpy().T
    slow = [[float(((a - b) ** 2).sum()) for b in mapped] for a in mapped]
    np.testing.assert_allclose(probe.distances(vectors[0]), slow, rtol=1e-4, atol=1e-5)
    long = ((vectors[0] - probe.mean.numpy()) / probe.scale.numpy()) @ probe.depth.numpy().T
    np.testing.assert_allclose(probe.depths(vectors[0]), (long**2).sum(axis=1), rtol=1e-4)
