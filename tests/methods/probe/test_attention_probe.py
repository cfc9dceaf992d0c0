"""Pairs and candidates of the attention probe, and what it can and cannot learn."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.data.conllu import Sentence
from cutaway.data.grammar import made_sentences
from cutaway.methods.held_out import parts
from cutaway.methods.probe.attention_probe import (
    BY,
    FURTHEST,
    _candidates,
    _distances,
    ask,
    attention_probe,
    common_relations,
    dependency_pairs,
    pair_features,
    relation_pairs,
)
from cutaway.methods.words import heads_of, sentences_in_tokens, word_attention
from cutaway.testing import tiny, tiny_task

LLAMA = tiny("llama")
TREES = made_sentences(60, seed=4)


def telling(tree: Sentence) -> np.ndarray:
    """Features that say it: one is 1 where the second word is the head of the first, with noise beside it."""
    size = len(tree.words)
    table = 0.3 * np.random.default_rng(size).standard_normal((size, size, 5)).astype(np.float32)
    for word, head in enumerate(tree.heads):
        if head >= 0:
            table[word, head, 0] += 1
    return table


def silent(tree: Sentence) -> np.ndarray:
    """Features that are noise."""
    size = len(tree.words)
    return np.random.default_rng(size).standard_normal((size, size, 5)).astype(np.float32)


def test_what_is_there_is_found_and_what_is_not_is_not() -> None:
    relations = common_relations(TREES, 10)
    assert "det" in relations and not {"root", "punct"} & set(relations)
    found = ask(TREES, [telling(tree) for tree in TREES], relations, 0)
    nothing = ask(TREES, [silent(tree) for tree in TREES], relations, 0)
    assert found["dependency"].share > 0.85 > 0.65 > nothing["dependency"].share
    assert found["parse"].share > 0.7 and nothing["parse"].share < 0.4
    assert set(ask(TREES, [telling(tree) for tree in TREES], relations, 0, shuffled=True)) == {"dependency", "relation"}


def test_pairs_are_words_with_their_heads_and_with_strangers() -> None:
    features = [np.zeros((len(tree.words), len(tree.words), 2), np.float32) for tree in TREES]
    for table in features:
        table[..., 0], table[..., 1] = np.indices(table.shape[:2])
    pairs = dependency_pairs(TREES, features, seed=1)
    assert pairs.label.mean() == 0.5
    for (word, other), sentence, label in zip(pairs.rows.astype(int), pairs.sentence, pairs.label):
        tree = TREES[sentence]
        assert tree.relations[word] not in ("root", "punct")
        if label:
            assert tree.heads[word] == other
        else:
            assert other not in (word, tree.heads[word]) and tree.heads[other] != word
    named = relation_pairs(TREES, features, ("det", "obj"))
    for (word, head), sentence, label in zip(named.rows.astype(int), named.sentence, named.label):
        assert TREES[sentence].heads[word] == head and TREES[sentence].relations[word] == ("det", "obj")[label]
    rows, question, right, sentence = _candidates(TREES, features, np.array([0, 1]))
    for number, place in enumerate(right):
        word, head = rows[place].astype(int)
        assert TREES[sentence[number]].heads[word] == head and question[place] == number


def test_features_are_attention_both_ways() -> None:
    heads = heads_of(LLAMA, "pattern[*]")
    _, found, _ = sentences_in_tokens(LLAMA, TREES[:3])
    tables = pair_features(LLAMA, found, heads)
    for index, attention in word_attention(LLAMA, found, heads):
        size = len(found[index].words)
        assert tables[index].shape == (size, size, 24)
        np.testing.assert_allclose(tables[index][1, 0], [*attention[:, 1, 0], *attention[:, 0, 1]], atol=1e-6)
    apart = _distances(20)
    assert apart[3, 5].argmax() == FURTHEST + 2 and apart[19, 0].argmax() == 0 and apart.sum() == 400


def test_the_result_is_of_sentences_that_were_not_trained_on() -> None:
    result = attention_probe(LLAMA, tiny_task(), sentences=20, controls=5, fewest=3)
    trees = made_sentences(20, 0)
    _, test = parts(20, (0.7, 0.3), 0)
    asked = sum(relation not in ("root", "punct") for index in test for relation in trees[int(index)].relations)
    assert result.checks[0].measured * asked == pytest.approx(round(result.checks[0].measured * asked))
    assert result.checks[0].n == 5
    np.testing.assert_allclose(result.data["shown"].values.sum(axis=1), 1)
    assert np.diag(result.data["shown"].values).max() == 0
    assert list(result.data["by"].values) == list(BY)
    assert result.artifacts["probe"].tensors["weight"].shape == (24, 1)
