"""Senses by the nearest centroid, and the map that draws them together."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.data.grammar import sense_sentences
from cutaway.methods.sense_space import (
    Occurrence,
    commonest_sense,
    cosines,
    nearest_centroids,
    occurrences,
    train_sense_map,
)

FOUND = occurrences(sense_sentences())


def test_each_sentence_has_its_word() -> None:
    assert len(FOUND) == 144 and commonest_sense(FOUND) == 0.5
    sentences = sense_sentences()
    for one in FOUND:
        word = sentences[one.sentence].words[one.word]
        assert word.form.lower() == one.lemma and word.sense == one.sense


def test_a_sense_that_occurs_once_is_left_out() -> None:
    sentences = sense_sentences()
    assert occurrences(sentences[:7]) == []  # six of one sense, one of the other
    assert len(occurrences(sentences[:8])) == 8


def test_an_occurrence_does_not_vote_for_itself() -> None:
    found = [Occurrence(i, 0, "w", f"w.{'ab'[i // 2]}") for i in range(4)]
    # The first is nearer to the other sense's centroid than to its only companion.
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [1.0, 0.2]])
    assert nearest_centroids(vectors, found).tolist() == [False, False, True, True]
    clear = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    assert nearest_centroids(clear, found).all()


def test_the_map_finds_the_directions_of_senses() -> None:
    random = np.random.default_rng(0)
    senses = sorted({one.sense for one in FOUND})
    common = {lemma: 2 * random.standard_normal(12) for lemma in sorted({one.lemma for one in FOUND})}
    side = [1.0 if senses.index(one.sense) % 2 else -1.0 for one in FOUND]
    vectors = random.standard_normal((144, 24))
    vectors[:, 0] = [3 * s for s in side]
    vectors[:, 12:] += np.array([common[one.lemma] for one in FOUND])
    mapping = train_sense_map(vectors, FOUND, rank=4, seed=0)
    assert mapping.shape == (4, 24)
    before, after = cosines(vectors), cosines(vectors @ mapping.T)

    def gap(table: np.ndarray) -> float:
        same = [[a.sense == b.sense and a is not b for b in FOUND] for a in FOUND]
        other = [[a.sense != b.sense and a.lemma == b.lemma for b in FOUND] for a in FOUND]
        return float(table[np.array(same)].mean() - table[np.array(other)].mean())

    assert gap(after) > gap(before)
    assert np.array_equal(mapping, train_sense_map(vectors, FOUND, rank=4, seed=0))


def test_cosines() -> None:
    assert cosines(np.array([[3.0, 0], [1, 1]]))[0, 1] == pytest.approx(0.5**0.5)
