"""The project's own sentences: their trees, mentions and senses."""

from __future__ import annotations

from collections import Counter

import pytest

from cutaway.core.errors import TaskError
from cutaway.data.grammar import made_sentences, sense_sentences
from cutaway.data.senses import SENSES

MADE = made_sentences(300, seed=3)


def test_each_tree_is_one_tree_without_crossing_branches() -> None:
    for sentence in MADE:
        heads = sentence.heads
        assert heads.count(-1) == 1
        assert [sentence.text[slice(*word.span)] for word in sentence.words] == [word.form for word in sentence.words]
        for word, head in enumerate(heads):
            low, high = sorted((word, head))
            for between in range(low + 1, high):
                if head >= 0:
                    assert low <= heads[between] <= high, sentence.text


def test_relations_are_many_and_fit_their_words() -> None:
    counts = Counter(relation for sentence in MADE for relation in sentence.relations)
    assert len([name for name, count in counts.items() if count >= 10]) >= 15
    for sentence in MADE:
        for word in sentence.words:
            above = sentence.words[word.head]
            if word.relation == "det":
                assert word.form.lower() in ("the", "a", "an") and above.upos == "NOUN"
            if word.relation in ("nsubj", "nsubj:pass"):
                assert above.upos in ("VERB", "ADJ")
        assert "a old" not in sentence.text and "an tall" not in sentence.text


def test_whoever_is_named_again_was_named_before_and_nobody_else_has_the_name() -> None:
    told = [sentence for sentence in MADE if sentence.mentions]
    assert len(told) > len(MADE) / 2
    kinds = Counter(sentence.mentions[-1].kind for sentence in told)
    assert all(kinds[kind] >= 10 for kind in ("pronoun", "proper", "nominal"))
    for sentence in told:
        first, second, again = sentence.mentions
        assert again.entity in (first.entity, second.entity) and first.entity != second.entity
        named = {sentence.words[m.head].form.lower() for m in (first, second)}
        others = [w.form.lower() for i, w in enumerate(sentence.words) if i not in [m.head for m in sentence.mentions]]
        assert not named & set(others), sentence.text


def test_a_seed_gives_the_same_sentences() -> None:
    assert made_sentences(300, seed=3) == MADE
    assert made_sentences(20, seed=4) != MADE[:20]
    assert len({sentence.text for sentence in MADE}) == 300
    with pytest.raises(TaskError, match="0 sentences were asked for"):
        made_sentences(0)


def test_each_sense_has_six_sentences_with_its_word() -> None:
    sentences = sense_sentences()
    counts = Counter(next(word.sense for word in sentence.words if word.sense) for sentence in sentences)
    assert set(counts.values()) == {6} and len(counts) == 2 * len(SENSES) == 24
    assert len({sentence.text for sentence in sentences}) == 144
    for sentence in sentences:
        assert [sentence.text[slice(*word.span)] for word in sentence.words] == [word.form for word in sentence.words]
