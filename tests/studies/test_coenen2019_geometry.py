"""Recipes of the study of BERT's geometry: trees in space, and joined sentences."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.core.study import InMemory, StudyRun
from cutaway.data.grammar import sense_sentences
from cutaway.methods.sense_space import occurrences
from cutaway.studies.coenen2019_geometry import (
    _pairs,
    _ratio,
    coenen2019_geometry,
    join,
    power_one_stress,
    power_two_error,
)


def test_trees_fit_with_squares_and_a_star_does_not_without() -> None:
    assert power_two_error(3, trees=40) < 1e-9
    # Three leaves at distance 2 from each other and a node at distance 1 from each: the best is an equilateral triangle
    # with the node in its middle; side s and radius s / √3 leave least when s = (12 + 2 √3) / 8 … by calculus:
    side = (3 * 2 + 3 * 1 / 3**0.5) / (3 + 3 / 3)
    best = (3 * (side - 2) ** 2 + 3 * (side / 3**0.5 - 1) ** 2) / (3 * 4 + 3 * 1)
    assert power_one_stress(0) == pytest.approx(best**0.5, abs=1e-3)


def test_joined_sentences_have_both_words_where_they_are_said_to_be() -> None:
    sentences = sense_sentences()
    found = occurrences(sentences)
    pairs = _pairs(found, 6)
    assert len(pairs) == 72
    for a, b in pairs:
        assert found[a].lemma == found[b].lemma and found[a].sense != found[b].sense
        text, spans = join(sentences[found[a].sentence], sentences[found[b].sentence], found[a], found[b])
        assert [text[slice(*span)].lower() for span in spans] == [found[a].lemma] * 2
        assert text.count(" and ") >= 1 and text.endswith(".")


def test_a_ratio_is_that_of_the_cosines_with_both_centroids() -> None:
    found = occurrences(sense_sentences())[:12]
    vectors = np.random.default_rng(0).standard_normal((12, 4)) + 2

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    own = np.mean([vectors[i] for i in range(1, 6)], axis=0)
    other = np.mean([vectors[i] for i in range(6, 12) if i != 7], axis=0)
    slow = cosine(vectors[0], own) / cosine(vectors[0], other)
    assert _ratio(vectors[0], vectors, found, 0, 7) == pytest.approx(slow)


def test_figures_are_those_of_the_steps() -> None:
    keeper = InMemory()
    findings = coenen2019_geometry(StudyRun("tiny", 2, keeper))
    joined = keeper.kept["joined"]
    assert findings.figures["concatenation"].value == np.mean(np.array(joined["after"]) < np.array(joined["before"]))
    edges = keeper.kept["edges"]["lengths"]
    assert findings.figures["edge_lengths"].value == pytest.approx(max(edges) / min(edges))
    right = keeper.kept["senses"].data["right"].values
    assert findings.figures["later_layers"].value == pytest.approx(right[-1] - right[0])
