"""Spelling trees against a table of probabilities and against the plain network; the score; letters of a vocabulary."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import TaskError
from cutaway.methods.alphabet import LETTERS, WordToken, letter_ids, word_vocabulary
from cutaway.methods.observe import spelling as module
from cutaway.methods.observe.spelling import Node, letters_of, next_letters, score, spelling, spelling_tree
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task

LLAMA = tiny("llama")


def table(seed: int) -> Any:
    """A language model that knows three letters."""

    def ask(texts: Sequence[str]) -> tuple[Any, Any]:
        rows = np.zeros((len(texts), 26))
        for row, text in enumerate(texts):
            random = np.random.default_rng([seed, *map(ord, text)])
            rows[row, :3] = random.dirichlet([1, 1, 1, 1])[:3]
        return rows, [0.5 * len(text) / 10 for text in texts]

    return ask


@given(st.integers(0, 1000), st.sampled_from([0.02, 0.1, 0.3]), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_weights_are_products_and_small_ones_are_absent(seed: int, cutoff: float, depth: int) -> None:
    ask = table(seed)
    tree = spelling_tree(ask, "B", cutoff, depth)

    def weight(text: str) -> float:
        product = 1.0
        for place in range(1, len(text)):
            product *= ask([text[:place]])[0][0][LETTERS.index(text[place])]
        return product

    def expected(text: str) -> set[str]:
        found = {text}
        for letter in "ABC" if len(text) <= depth else "":
            if weight(text + letter) > cutoff:
                found |= expected(text + letter)
        return found

    nodes = tree.all()
    assert {node.text for node in nodes} == expected("B")
    for node in nodes:
        assert node.weight == pytest.approx(weight(node.text)) and node.depth == len(node.text) - 1 <= depth
        assert node.normalised == pytest.approx(node.weight ** (1 / max(node.depth, 1)))
        assert sum(child.weight for child in node.children) <= node.weight + 1e-12
        assert node.elsewhere == pytest.approx(1 - ask([node.text])[0][0].sum())
        assert node.ends == pytest.approx(0.05 * len(node.text))
    record = json.loads(json.dumps(module.tree_record(tree)))
    assert module.tree_from_record(record) == tree


def test_a_tree_stops_at_its_most_nodes() -> None:
    tree = spelling_tree(table(1), "", 1e-9, 6, most=20)
    assert len(tree.all()) == 20


def test_probabilities_are_those_of_the_plain_network() -> None:
    ask = next_letters(LLAMA, " Mary")
    letters, ends = ask(["", "MA"])
    ids = letter_ids(LLAMA)
    (hyphen,) = LLAMA.tokenizer("-", add_special_tokens=False)["input_ids"]
    start = LLAMA.encode(module._prompt(" Mary", 1))
    for row, text in enumerate(["", "MA"]):
        whole = start + [i for letter in text for i in (ids[letter][0], hyphen)]
        with torch.no_grad():
            said = LLAMA.hf(torch.tensor([whole])).logits[0].softmax(-1)
        for place, letter in enumerate(LETTERS):
            assert letters[row][place] == pytest.approx(float(said[-1, list(ids[letter])].sum()), rel=1e-3)
        assert ends[row] == (pytest.approx(1 - float(said[-2, hyphen]), rel=1e-4) if text else 0.0)
    assert len(set(ids["A"])) == 2 and LLAMA.token_strings(ids["A"]) == ["A", "a"]


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("T-A-B-L-E", 1.0),
        ("t a b l e.", 1.0),
        ("X-A-B-L-E", 0.0),
        ("T-A-D", 0.4),
        ("T-A-B", 0.6),
        ("", 0.0),
        ("TABLES", 5 / 6),
    ],
)
def test_a_score_is_the_share_before_the_first_wrong_letter(answer: str, value: float) -> None:
    assert score(answer, "TABLE") == pytest.approx(value)


def test_starters() -> None:
    assert letters_of("i-N-") == "IN"
    with pytest.raises(TaskError, match=r"the starters are 'I1'; .* Write starters=I-N"):
        letters_of("I1")
    result = spelling(LLAMA, tiny_task(), starters="QU", cutoff=1e-6, depth=1, tokens=2, controls=5)
    assert all(str(name).startswith("Q-U") for name in result.data["source"].values)


def test_answers_are_scored_against_their_own_tokens() -> None:
    result = spelling(LLAMA, tiny_task(), tokens=6, depth=1, controls=10)
    for token, answer, value, headless in zip(
        *(result.data[n].values for n in ("token", "answer", "score", "headless"))
    ):
        assert value == score(str(answer), str(token).strip().upper())
        assert headless == (not str(token).startswith(" "))
    assert result.checks[0].measured == pytest.approx(result.metrics["mean_score"])
    assert module._last_word("Who is John?") == " John" and module._last_word("12") == " table"


def test_words_of_a_vocabulary() -> None:
    found = word_vocabulary(LLAMA, 4)
    texts = {token.text for token in found}
    assert {" Mary", " John", " store"} <= texts and all(len(token.letters) >= 4 for token in found)
    assert all(LLAMA.token_strings([token.id]) == [token.text] for token in found)
    assert (WordToken(0, " Mary").letters, WordToken(0, " Mary").headless, WordToken(0, "ary").headless) == (
        "MARY",
        False,
        True,
    )
    with pytest.raises(TaskError, match="is made of 99 or more of the letters"):
        word_vocabulary(LLAMA, 99)
    with pytest.raises(TaskError, match="has no tokenizer"):
        word_vocabulary(Model(LLAMA.hf))


def test_the_best_branch_stops_where_it_is_likely_to_end() -> None:
    leaf = Node("ABC", 0.4, 3)
    tree = Node("", 1, 0, children=(Node("A", 0.8, 1, children=(Node("AB", 0.6, 2, ends=0.9, children=(leaf,)),)),))
    assert module._best(tree).text == "AB"
