"""Senses layer by layer, and the map of one word."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.core.errors import TaskError
from cutaway.methods.observe.word_sense_geometry import PROMPT, sense_material, sense_vectors, word_sense_geometry
from cutaway.methods.sense_space import cosines, nearest_centroids
from cutaway.methods.words import streams_of
from cutaway.testing import tiny

BERT = tiny("bert")


def test_the_result_is_that_of_the_vectors() -> None:
    result = word_sense_geometry(BERT, "He sat on the bank.", controls=5, word="bank")
    _, found, tokens, _ = sense_material(BERT, "made")
    vectors = sense_vectors(BERT, tokens, found, streams_of(BERT, "resid_post[*]"))
    assert vectors.shape == (3, 144, 32)
    shares = [nearest_centroids(layer, found).mean() for layer in vectors]
    np.testing.assert_allclose(result.data["right"].values, shares)
    assert result.data.sizes["text"] == 13 and result.data["sense"].values[-1] == PROMPT
    best = int(np.argmax(shares))
    rows = [row for row, one in enumerate(found) if one.lemma == "bank"]
    near = cosines(vectors[best][rows])
    np.fill_diagonal(near, -1)
    first = str(result.data["neighbour"].values[0])
    if first != "He sat on the bank.":
        assert first == str(result.data["text"].values[int(near[0].argmax())])
    assert result.checks[0].n == 5
    assert (
        result.data["right_by_word"].sel(lemma="bank").values[best]
        == nearest_centroids(vectors[best], found)[rows].mean()
    )


def test_a_vector_is_that_of_its_word() -> None:
    sentences, found, tokens, _ = sense_material(BERT, "made")
    one = found[17]
    (vectors,) = sense_vectors(BERT, tokens, found, streams_of(BERT, "resid_post[1]"))
    run = BERT.run([list(tokens[one.sentence].ids)], read="resid_post[1]", logits="none")
    pieces = np.flatnonzero(tokens[one.sentence].share[one.word])
    np.testing.assert_allclose(vectors[17], run["resid_post[1]"][0, pieces].mean(dim=0).numpy(), atol=1e-5)
    assert sentences[one.sentence].words[one.word].form.lower() == one.lemma


def test_a_word_without_senses_is_refused() -> None:
    with pytest.raises(TaskError, match=r"no sentences have 'banks' in two senses; did you mean 'bank'\?"):
        word_sense_geometry(BERT, "He sat.", word="banks", controls=0)


def test_the_map_says_how_many_neighbours_it_keeps() -> None:
    result = word_sense_geometry(BERT, "He sat on the bank.", controls=0, word="bank", sites="resid_post[1]")
    _, found, tokens, _ = sense_material(BERT, "made")
    (vectors,) = sense_vectors(BERT, tokens, found, streams_of(BERT, "resid_post[1]"))
    points = result.data[["x", "y"]].to_array().values.T
    rows = [row for row, one in enumerate(found) if one.lemma == "bank"]
    np.testing.assert_allclose(result.data["cosine"].values[:12] <= 1, True)
    assert points.shape == (len(rows) + 1, 2)
    assert 0 <= result.metrics["neighbours_kept_on_the_map"] <= 1
    assert 0 < result.metrics["variance_on_the_map"] <= 1
    assert vectors.shape[0] == len(found)


@pytest.mark.all
def test_umap_draws_the_same_occurrences() -> None:
    pytest.importorskip("umap", reason="umap-learn is an extra")
    options = {"controls": 0, "word": "bank", "sites": "resid_post[1]"}
    first, second = (word_sense_geometry(BERT, "He sat.", projection=name, **options) for name in ("pca", "umap"))
    assert first.data["text"].values.tolist() == second.data["text"].values.tolist()
    assert not np.allclose(first.data["x"].values, second.data["x"].values)
    assert "variance_on_the_map" not in second.metrics and "neighbours_kept_on_the_map" in second.metrics
    assert "(UMAP)" in second.views[1].title
