"""Words from tokens: what belongs to which, and what is kept of attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import SiteError, TaskError
from cutaway.data.conllu import Sentence, Word
from cutaway.data.grammar import made_sentences
from cutaway.methods import words as module
from cutaway.methods.words import (
    WordTokens,
    head_table,
    heads_of,
    sentences_in_tokens,
    streams_of,
    word_attention,
    word_tokens,
    word_vectors,
    words_of,
)
from cutaway.models.model import Model
from cutaway.testing import tiny

LLAMA, BERT, GPT2 = tiny("llama"), tiny("bert"), tiny("gpt2")


class Slow:
    """A tokenizer without offsets."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.is_fast = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any, **options: Any) -> Any:
        assert "return_offsets_mapping" not in options
        return self._tokenizer(text, **options)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_every_token_of_a_word_is_given_to_words_in_shares_that_sum_to_one(seed: int) -> None:
    (sentence,) = made_sentences(1, seed)
    found = word_tokens(LLAMA, sentence.text, sentence.spans)
    assert found.ids == tuple(LLAMA.encode(sentence.text))  # Llama's tokenizer writes a start token by itself
    np.testing.assert_allclose(found.share.sum(axis=0)[1:], 1, rtol=1e-6)
    assert found.share[:, 0].sum() == 0
    np.testing.assert_allclose(found.average.sum(axis=1), 1, rtol=1e-6)
    for row, (start, end) in zip(found.share, sentence.spans):
        pieces = "".join(LLAMA.token_strings([found.ids[i] for i in np.flatnonzero(row)]))
        assert sentence.text[start:end] in pieces


@pytest.mark.parametrize("text", ["When Mary and John went to the store", "Mary unbelievably gave, then waved."])
def test_without_offsets_words_have_the_same_tokens(text: str) -> None:
    slow = Model(LLAMA.hf, Slow(LLAMA.tokenizer))
    fast, other = word_tokens(LLAMA, text), word_tokens(slow, text)
    assert fast.ids == other.ids
    np.testing.assert_allclose(fast.share, other.share)


def test_a_start_token_is_put_before_only_where_attention_rests_on_the_first() -> None:
    text = "Mary met John"
    start = GPT2.tokenizer.bos_token_id
    assert word_tokens(GPT2, text).ids == (start, *GPT2.encode(text))
    assert word_tokens(BERT, text).ids == tuple(BERT.encode(text))


def test_words_with_the_same_characters_share_their_tokens() -> None:
    found = word_tokens(LLAMA, "Mary au John", [(0, 4), (5, 7), (5, 7), (8, 12)])
    np.testing.assert_allclose(found.share.sum(axis=0)[1:], 1, rtol=1e-6)
    np.testing.assert_allclose(found.share[1], found.share[2])


def test_words_of_a_text() -> None:
    text = "Don't go, Anna-Lena!"
    assert [text[a:b] for a, b in words_of(text)] == ["Don't", "go", ",", "Anna", "-", "Lena", "!"]


@pytest.mark.parametrize("model", [LLAMA, BERT], ids=["llama", "bert"])
def test_attention_between_words_is_the_slow_sum_and_mean(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = made_sentences(6, 1)
    kept, found, notes = sentences_in_tokens(model, sentences)
    assert kept == list(range(6)) and notes == ()
    heads = heads_of(model, "pattern[1:], pattern[0].head[2]")
    assert [str(site) for site in heads][-1] == "pattern[0].head[2]" or len(heads) == 9
    whole = dict(word_attention(model, found, heads))
    for index, piece in enumerate(found):
        patterns = model.run([list(piece.ids)], read="pattern[*]", logits="none")
        for place, site in enumerate(heads):
            pattern = patterns[site.whole][0, site.head].double().numpy()
            for a, row in enumerate(piece.share):
                for b, column in enumerate(piece.share):
                    tokens, others = np.flatnonzero(row), np.flatnonzero(column)
                    slow = np.mean([sum(pattern[i, j] * column[j] for j in others) for i in tokens])
                    assert float(whole[index][place, a, b]) == pytest.approx(slow, abs=1e-5)
        assert float(whole[index].sum(dim=-1).max()) <= 1 + 1e-5
    monkeypatch.setattr(module, "ENTRIES_AT_ONCE", 1)
    alone = dict(word_attention(model, found, heads))
    assert all(torch.allclose(alone[index], whole[index], atol=1e-6) for index in range(6))


def test_vectors_of_words_are_means_of_their_tokens() -> None:
    sentences = made_sentences(4, 2)
    _, found, _ = sentences_in_tokens(BERT, sentences)
    streams = streams_of(BERT, "resid_post[*]")
    vectors = word_vectors(BERT, found, streams)
    for index, piece in enumerate(found):
        run = BERT.run([list(piece.ids)], read="resid_post[*]", logits="none")
        for layer, site in enumerate(streams):
            for word, row in enumerate(piece.share):
                mean = run[site][0, np.flatnonzero(row)].mean(dim=0).numpy()
                np.testing.assert_allclose(vectors[index][layer, word], mean, atol=1e-5)


def test_a_table_of_heads_has_gaps_where_none_was_asked_for() -> None:
    heads = heads_of(LLAMA, "pattern[0].head[1], pattern[2]")
    layers, numbers, table = head_table(heads, np.arange(5.0))
    assert (layers, numbers) == ([0, 2], [0, 1, 2, 3])
    np.testing.assert_array_equal(table, [[np.nan, 0, np.nan, np.nan], [1, 2, 3, 4]])


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(SiteError, match="is not a head's pattern"):
        heads_of(LLAMA, "z[*]")
    with pytest.raises(SiteError, match="is not a residual stream"):
        streams_of(LLAMA, "mlp_act[0]")
    with pytest.raises(TaskError, match="has no tokenizer"):
        word_tokens(Model(LLAMA.hf), "Mary")
    with pytest.raises(TaskError, match="has no words"):
        word_tokens(LLAMA, " ")
    with pytest.raises(TaskError, match=r"none of the 1 sentences fits into the 256 tokens"):
        long = " ".join(["Mary"] * 300)
        spans = tuple((5 * i, 5 * i + 4) for i in range(300))
        sentences_in_tokens(
            LLAMA, [Sentence(long, tuple(Word("Mary", "X", i - 1, "dep", s) for i, s in enumerate(spans)))]
        )


def test_sentences_that_are_too_long_are_counted() -> None:
    long = " ".join(["Mary"] * 300)
    words = tuple(Word("Mary", "X", i - 1, "dep", (5 * i, 5 * i + 4)) for i in range(300))
    kept, found, notes = sentences_in_tokens(LLAMA, [Sentence(long, words), *made_sentences(2, 0)])
    assert kept == [1, 2] and len(found) == 2
    assert notes == ("1 of 3 sentences are longer than the model's 256 tokens: left out.",)
    assert isinstance(found[0], WordTokens)
