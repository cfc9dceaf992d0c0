"""Counts of heads that follow relations and mentions, against slow loops."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.core.errors import TaskError
from cutaway.data.conllu import Mention, Sentence, Word
from cutaway.data.grammar import made_sentences
from cutaway.methods.observe.coreference_heads import BY as COREFERENCE_BY
from cutaway.methods.observe.coreference_heads import antecedents, coreference_heads
from cutaway.methods.observe.relation_heads import (
    ALL,
    BY,
    OFFSETS,
    relation_gain,
    relation_guesses,
    relation_heads,
    without_rare,
)
from cutaway.methods.words import heads_of, sentences_in_tokens, word_attention
from cutaway.testing import tiny, tiny_task

MODELS = {family: tiny(family) for family in ("llama", "bert")}
TREES = made_sentences(12, seed=2)


@pytest.mark.parametrize("family", list(MODELS))
def test_guesses_are_counted_as_slow_loops_count_them(family: str) -> None:
    model = MODELS[family]
    heads = heads_of(model, "pattern[*]")
    _, found, _ = sentences_in_tokens(model, TREES)
    guesses = relation_guesses(model, TREES, found, heads)
    maps = {index: attention.numpy() for index, attention in word_attention(model, found, heads)}
    causal = family == "llama"
    for index, tree in enumerate(TREES):
        size = len(tree.words)
        for place, name in enumerate(guesses.relations):
            words = [
                word
                for word, relation in enumerate(tree.relations)
                if (relation not in ("root", "punct") if name == ALL else relation == name)
            ]
            assert guesses.total[index, place] == len(words)
            for step, offset in enumerate(OFFSETS):
                assert guesses.offset[index, place, step] == sum(tree.heads[w] == w + offset for w in words)
            for head in (0, 7, 11):
                table = maps[index][head]
                right = [0, 0]
                for word in words:
                    seen = [o for o in range(size) if o != word and (not causal or o < word)]
                    seeing = [o for o in range(size) if o != word and (not causal or o > word)]
                    right[0] += bool(seen) and max(seen, key=lambda o: table[word, o]) == tree.heads[word]
                    right[1] += bool(seeing) and max(seeing, key=lambda o: table[o, word]) == tree.heads[word]
                assert guesses.right[index, place, [head, 12 + head]].tolist() == right
    reach = guesses.reach[0]
    assert reach.sum() == pytest.approx(1) if causal else reach.tolist() == [1, 1]


def test_rare_relations_are_left_out_and_common_ones_come_first() -> None:
    model = MODELS["bert"]
    _, found, _ = sentences_in_tokens(model, TREES)
    every = relation_guesses(model, TREES, found, heads_of(model, "pattern[0]"))
    some = without_rare(every, 5)
    counts = some.total.sum(axis=0)
    assert some.relations[0] == ALL and (counts[1:] >= 5).all() and (np.diff(counts[1:]) <= 0).all()
    assert some.right.shape[1] == some.offset.shape[1] == len(some.relations) < len(every.relations)
    assert -1 <= relation_gain(some, 0) <= 1


def test_the_result_names_the_best_head_of_each_relation() -> None:
    result = relation_heads(MODELS["bert"], tiny_task(), sentences=30, controls=5, fewest=5)
    data = result.data
    for relation in data["relation"].values:
        row = data.sel(relation=relation)
        layer, head = map(int, str(row["best_head"].item()).split("."))
        best = row["head_accuracy"].sel(direction=str(row["best_direction"].item()), layer=layer, head=head)
        assert float(best) == pytest.approx(float(row["head_accuracy"].max()))
        assert float(row["accuracy"].sel(by=BY[0])) <= float(best) + 1e-9
    (check,) = result.checks
    singles = data["accuracy"].isel(relation=slice(1, None))
    assert check.measured == pytest.approx(float((singles.sel(by=BY[0]) - singles.sel(by=BY[1])).mean()))
    assert any("Not checked" in n for n in relation_heads(MODELS["bert"], tiny_task(), sentences=4, controls=0).notes)


def told(text: str, mentions: tuple[Mention, ...]) -> Sentence:
    words, start = [], 0
    for place, form in enumerate(text.split()):
        words.append(Word(form, "X", place - 1, "dep", (start, start + len(form))))
        start += len(form) + 1
    return Sentence(text, tuple(words), mentions=mentions)


def test_baselines_of_coreference_by_hand() -> None:
    mary, john = Mention(0, 1, 0, "e0", "proper"), Mention(2, 3, 2, "e1", "proper")
    text = "Mary saw John because she met Mary"
    again = (Mention(4, 5, 4, "e0", "pronoun"), Mention(6, 7, 6, "e0", "proper"))
    texts = [told(text, (mary, john, *again))]
    model = MODELS["bert"]
    _, found, _ = sentences_in_tokens(model, texts)
    heads = heads_of(model, "pattern[*]")
    counted = antecedents(model, texts, found, heads)
    # "she": the nearest is John; no mention has its word, and none is a pronoun, so that the nearest is taken.
    # "Mary": the nearest is "she", the same; and "Mary" has its word.
    assert counted.total[0].tolist() == [2, 1, 1, 0]
    assert counted.nearest[0].tolist() == [1, 0, 1, 0]
    assert counted.matched[0].tolist() == [1, 0, 1, 0]
    ((_, attention),) = word_attention(model, found, heads)
    for head in range(12):
        she = attention[head, 4, 0] > attention[head, 4, 2]
        last = attention[head, 6, [0, 2, 4]].argmax() != 1
        assert counted.right[0, :2, head].tolist() == [int(she) + int(last), int(she)]


def test_the_result_of_coreference() -> None:
    result = coreference_heads(MODELS["llama"], tiny_task(), sentences=30, controls=5)
    assert result.checks[0].n == 5
    accuracy = result.data["accuracy"].sel(kind="all")
    assert float(accuracy.sel(by=COREFERENCE_BY[0])) == pytest.approx(result.checks[0].measured)
    assert 0 <= float(accuracy.min()) <= float(accuracy.max()) <= 1


def test_a_treebank_without_mentions_is_refused(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "plain.conllu"
    rows = [f"{i}\tw{i}\t_\tX\t_\t_\t{i - 1}\tdep\t_\t_" for i in range(1, 4)]
    path.write_text("\n\n".join(["\n".join(rows)] * 4) + "\n")
    with pytest.raises(TaskError, match=r"names nothing twice within a sentence; .* Write treebank=made"):
        coreference_heads(MODELS["bert"], tiny_task(), treebank=str(path), controls=0)


@pytest.mark.real
@pytest.mark.all
def test_minilm_has_heads_for_determiners_and_pronouns() -> None:
    import cutaway

    try:
        model = cutaway.open("minilm")
    except cutaway.core.errors.ModelError as error:
        pytest.skip(f"MiniLM cannot be opened here: {error}")
    data = relation_heads(model, "The cat sat.", controls=0).data
    assert float(data["accuracy"].sel(relation="det", by=BY[0])) > 0.9
    assert float(coreference_heads(model, "The cat sat.", controls=0).metrics["best_head_accuracy"]) > 0.85
