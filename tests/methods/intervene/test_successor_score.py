"""Heads that count: a planted one is found, and scores are those of a table made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.core.errors import TaskError
from cutaway.core.task import Task
from cutaway.data.ordinals import CLASSES, single_tokens
from cutaway.methods.full_circuits import circuits_of, effective_embeddings, unembedding
from cutaway.methods.intervene.successor_score import (
    counting_prompts,
    halves,
    scores_of_heads,
    successor_score,
    weighted,
)
from cutaway.models.model import Model
from cutaway.models.toy import toy, word_tokenizer
from cutaway.testing import tiny, tiny_task

WORDS = [word for name in ("days", "months", "letters", "digits") for word in CLASSES[name]]


def planted(step: int) -> Model:
    """A network whose last head sends each word to the one that stands `step` places on in the vocabulary."""
    sizes = {"n_layers": 2, "n_heads": 2, "d_model": 64, "d_head": 64, "d_mlp": 0, "norm": "none", "positions": "none"}
    model = toy(word_tokenizer(WORDS), seed=0, **sizes)
    embedding = model.hf.model.embed_tokens.weight
    attention = model.hf.model.layers[1].self_attn
    with torch.no_grad():
        attention.v_proj.weight[64:] = torch.eye(64)
        # The least-norm map from each word's embedding to that of the next.
        sent = torch.linalg.lstsq(
            embedding[: len(WORDS)].double(), embedding[: len(WORDS)].roll(-step, 0).double()
        ).solution
        attention.o_proj.weight[:, 64:] = sent.T.float()
        model.hf.lm_head.weight.copy_(embedding)
    return model


def test_a_planted_head_is_found_and_counts_up_only() -> None:
    result = successor_score(planted(1), Task.from_prompts("A B"))
    assert result.metrics["best_head"] == "1.1"
    assert result.metrics["score_on_held_out_classes"] == 1.0
    assert result.metrics["decrement"] == 0.0
    assert result.data["succession"].sel(layer=1, head=1) == 1.0
    assert result.metrics["median_head"] < 0.2


def test_a_head_that_counts_down_is_not_taken_for_one_that_counts_up() -> None:
    model = planted(-1)
    result = successor_score(model, Task.from_prompts("A B"), controls=0)
    assert float(result.data["decrement"].sel(layer=1, head=1)) == 1.0
    assert float(result.data["succession"].sel(layer=1, head=1)) == 0.0
    assert not result.checks and "Not checked" in result.notes[-1]


def test_scores_are_those_of_a_table() -> None:
    model = tiny("llama")
    classes = single_tokens(model.tokenizer)
    heads, up, down = scores_of_heads(model, [1], classes, "mlp")
    words = list(dict.fromkeys(t for one in classes for t in one.tokens))
    circuits = circuits_of(model, 1, effective_embeddings(model, words, "mlp"))
    for place, (_, head) in enumerate(heads):
        table = circuits.written(head) @ unembedding(model)[:, words]
        for column, one in enumerate(classes):
            for grid, steps in ((up, one.steps), (down, [(b, a) for a, b in one.steps])):
                hits = [words[int(table[words.index(a)].argmax())] == b for a, b in steps]
                assert grid[place, column] == pytest.approx(np.mean(hits))


def test_classes_keep_single_tokens_and_count_the_others() -> None:
    tokenizer = word_tokenizer(["Monday", "Tuesday", "Thursday", "A", "B"])
    days, letters = single_tokens(tokenizer)
    assert (days.name, days.words, days.dropped) == ("days", (" Monday", " Tuesday", " Thursday"), 4)
    assert len(days.steps) == 1  # Tuesday is not followed by Thursday
    assert letters.dropped == 24


def test_no_class_is_held_out_and_chosen_on() -> None:
    classes = single_tokens(planted(1).tokenizer)
    chosen, tested = halves(classes, 3)
    assert sorted([*chosen, *tested]) == list(range(len(classes)))
    assert weighted(np.ones((2, len(classes))), classes, tested).tolist() == [1.0, 1.0]


def test_prompts_count_three_words_and_ask_for_the_fourth() -> None:
    model = tiny("llama")
    ids, metric = counting_prompts(model, single_tokens(model.tokenizer))
    assert metric is not None
    texts = ["".join(model.token_strings(one)) for one in ids]
    assert "<s>ABC" in texts
    assert model.token_strings(metric.answers[texts.index("<s>ABC")]) == ["D"]


def test_a_vocabulary_without_ordinal_words_is_refused() -> None:
    model = toy(word_tokenizer(["x", "y", "z", "u", "v", "w"]), seed=0)
    with pytest.raises(TaskError, match="No ordinal word is a single token of this model's vocabulary"):
        successor_score(model, tiny_task())
