"""Letters that are in the vectors are found; letters at random and random vectors are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.methods.alphabet import LETTERS, WordToken, drawn_tokens, word_vocabulary
from cutaway.methods.probe.letter_probe import (
    BY,
    embeddings_of,
    letter_probe,
    random_letters,
    token_split,
    vectors_like,
)
from cutaway.testing import tiny, tiny_task


def test_spellings_of_one_word_stand_together() -> None:
    texts = [" Mary", "Mary", "MARY", " John", "john", " store", "gave", " Gave", "met", "to"]
    tokens = [WordToken(index, text) for index, text in enumerate(texts)]
    for seed in range(5):
        train, test = token_split(tokens, seed)
        assert sorted([*train, *test]) == list(range(10))
        assert not {tokens[i].letters for i in train} & {tokens[i].letters for i in test}
        dealt = random_letters(tokens, seed)
        assert dealt[0] == dealt[1] == dealt[2] and dealt[6] == dealt[7]


@pytest.mark.parametrize("shape", [(400, 6), (5, 12)])
def test_random_vectors_have_the_same_spread(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal(shape) @ random.standard_normal((shape[1], shape[1])) + 3
    drawn = [vectors_like(vectors, seed) for seed in range(300)]
    together = np.concatenate(drawn)
    np.testing.assert_allclose(together.mean(axis=0), vectors.mean(axis=0), atol=0.5)
    own, other = np.cov(vectors.T, bias=True), np.cov(together.T, bias=True)
    assert np.abs(own - other).max() < 0.15 * np.abs(own).max()
    assert not np.allclose(drawn[0], drawn[1])


def test_a_letter_that_is_in_the_embedding_is_found() -> None:
    model = tiny("gpt2")
    tokens = word_vocabulary(model, 3)
    weight = model.hf.get_input_embeddings().weight
    with torch.no_grad():
        for token in tokens:
            weight[token.id] = 0.05 * weight[token.id]
            weight[token.id, LETTERS.index(token.letters[0])] += 1.0
    np.testing.assert_allclose(embeddings_of(model, tokens[:2])[0], weight[tokens[0].id].detach().numpy(), rtol=1e-6)
    result = letter_probe(model, tiny_task(), controls=5, places=2)
    accuracy = result.data["accuracy"].sel(letter="first")
    seen = {
        token.letters[0]
        for token in (drawn_tokens(tokens, 3000, 0)[i] for i in token_split(drawn_tokens(tokens, 3000, 0), 0)[0])
    }
    assert len(seen) > 5
    assert float(accuracy.sel(by=BY[0])) > float(accuracy.sel(by=BY[1])) + 0.2
    assert result.checks[0].measured == pytest.approx(float(accuracy.sel(by=BY[0])))
    assert list(result.data["token"].values) == model.token_strings(model.encode(tiny_task().prompts[0]))
