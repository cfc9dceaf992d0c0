"""The structural probe as a method: its parts, its baselines and its pictures."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.data.grammar import made_sentences
from cutaway.methods.held_out import parts
from cutaway.methods.probe.structural_probe import PARTS, chain_scores, structural_probe
from cutaway.methods.tree_probe import score_probe, train_probe
from cutaway.methods.words import sentences_in_tokens, streams_of, word_vectors
from cutaway.testing import tiny, tiny_task

FEW = {"sentences": 20, "epochs": 3, "rank": 8}
BERT = tiny("bert")


def test_the_chain_joins_neighbours() -> None:
    trees = made_sentences(5, 0)
    scores = chain_scores(trees)
    for tree, edges in zip(trees, scores.edges):
        words = [w for w, relation in enumerate(tree.relations) if relation != "punct"]
        joined = set(zip(words, words[1:]))
        gold = {(min(w, tree.heads[w]), max(w, tree.heads[w])) for w in words if tree.heads[w] >= 0}
        assert edges == len(joined & gold)


def test_the_scores_are_those_of_the_test_sentences() -> None:
    result = structural_probe(BERT, tiny_task(), **FEW, controls=5)
    trees = made_sentences(20, 0)
    _, found, _ = sentences_in_tokens(BERT, trees)
    train, _, test = parts(20, PARTS, 0)
    streams = streams_of(BERT, "resid_post[*]")
    vectors = [each[1] for each in word_vectors(BERT, found, streams)]
    probe = train_probe([trees[i] for i in train], [vectors[i] for i in train], 8, 3, 0)
    scores = score_probe(probe, [trees[i] for i in test], [vectors[i] for i in test])
    row = result.data["score"].isel(site=1)
    assert float(row.sel(measure="edges")) == pytest.approx(scores.attachment)
    assert float(row.sel(measure="distance correlation")) == pytest.approx(scores.distance.mean())
    assert float(row.sel(measure="root")) == pytest.approx(scores.root.mean())
    assert result.checks[0].n == 5
    best = str(result.metrics["best_layer"])
    assert result.checks[0].measured == pytest.approx(float(result.data["score"].sel(site=best, measure="edges")))


def test_the_prompt_is_drawn_as_a_tree() -> None:
    result = structural_probe(BERT, tiny_task(), **FEW, controls=0)
    words = [str(word) for word in result.data["word"].values]
    edges = list(zip(result.data["source"].values, result.data["target"].values))
    assert len(edges) == len(words) - 1 and set(np.array(edges).ravel()) == set(words)
    tensors = result.artifacts["probe"].tensors
    assert tensors["distance"].shape == (8, 32) and tensors["mean"].shape == (32,)
