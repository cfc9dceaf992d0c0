"""Measures of orders of words on a network that is known whole, replies that can be read, and texts that are run together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.study import InMemory, StudyRun
from cutaway.core.task import Task
from cutaway.core.tokens import plain_ids
from cutaway.methods.attribute.occlusion import occlusion, words_of
from cutaway.models.model import Model
from cutaway.studies import huang2023_dialogue as asking
from cutaway.studies import huang2023_measures as measures
from cutaway.studies.huang2023_figures import figures_of, share_of_gain
from cutaway.studies.huang2023_orders import Asked, examined, lime_of, occlusion_of, scorer
from cutaway.studies.huang2023_self_explanation import huang2023_self_explanation
from cutaway.testing.tiny import tiny

REVIEW = "A dull, slow film that isn't dull."
WORDS = REVIEW.split()


@pytest.fixture(scope="module")
def model() -> Model:
    found = tiny(seed=3, texts=[asking.dialogue(tiny(), asking.asked_each(REVIEW, 1.0)), *asking.CLASSES])
    found.hf.double()
    return found


# --- measures ----------------------------------------------------------------------------------------------------


def linear(weights: Sequence[float]) -> tuple[float, object]:
    """A bag of words: f is 0.5 and the weights of the words that are there."""

    def score(texts: Sequence[measures.Kept]) -> np.ndarray:
        return np.array([0.5 + sum(weights[place] for place in kept) for kept in texts])

    return float(score([tuple(range(len(weights)))])[0]), score


_EXACT = st.integers(-20, 20).map(lambda number: number / 1024)  # sums of these are exact


@given(st.lists(_EXACT, min_size=2, max_size=23), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_measures_of_a_bag_of_words_are_sums_of_its_weights(weights: list[float], seed: int) -> None:
    whole, score = linear(weights)
    order = measures.ordered(np.random.default_rng(seed).random(len(weights)), seed)
    got = measures.measured(order, whole, score(measures.asked_for(order)))  # type: ignore[operator]
    sizes = sorted({int(np.ceil(round(len(weights) * tenth / 10, 9))) for tenth in range(1, 11)})
    out = [sum(weights[place] for place in order[:size]) for size in sizes]
    left = [sum(weights[place] for place in order[size:]) for size in sizes]
    assert measures.steps(len(weights)) == sizes
    assert got["comprehensiveness"] == pytest.approx(np.mean(out), abs=1e-12)
    assert got["sufficiency"] == pytest.approx(np.mean(left), abs=1e-12)
    assert got["flip"] == (whole - weights[order[0]] < 0.5)
    turned = [size / len(weights) for size, fall in zip(sizes, out) if whole - fall < 0.5]
    assert got["fraction"] == (turned[0] if turned else 1.0)


@given(st.lists(st.integers(-100, 100).map(lambda number: number / 100), min_size=2, max_size=20, unique=True))
@settings(max_examples=40, deadline=None)
def test_occlusion_and_lime_find_the_weights_of_a_bag_of_words(weights: list[float]) -> None:
    _, score = linear(weights)
    assert occlusion_of(score, len(weights)) == pytest.approx(weights, abs=1e-9)  # type: ignore[arg-type]
    found, fit = lime_of(score, len(weights), 400, 0)  # type: ignore[arg-type]
    assert found == pytest.approx(weights, abs=0.1) and fit > 0.9


def test_no_order_is_more_comprehensive_than_that_of_the_weights_themselves() -> None:
    weights = [0.3, -0.1, 0.2, 0.05, -0.2, 0.1]
    whole, score = linear(weights)

    def of(order: list[int]) -> dict[str, float]:
        return measures.measured(order, whole, score(measures.asked_for(order)))  # type: ignore[operator]

    best = of(measures.ordered(weights, 0))
    others = [of(measures.ordered(np.random.default_rng(i).random(6), 0)) for i in range(20)]
    assert all(best["comprehensiveness"] >= other["comprehensiveness"] for other in others)
    assert all(best["sufficiency"] <= other["sufficiency"] for other in others)
    assert best["rank_correlation"] == pytest.approx(1.0)


def test_equal_importances_are_in_random_order_and_others_are_not() -> None:
    assert measures.ordered([0.1, 0.9, 0.5], 0) == measures.ordered([0.1, 0.9, 0.5], 7) == [1, 2, 0]
    assert len({tuple(measures.ordered(np.zeros(4), seed)) for seed in range(300)}) == 24
    assert {measures.ordered([0, 1, 0, 0], seed)[0] for seed in range(20)} == {1}


def test_agreement_is_of_the_first_fifth_and_of_all_ranks() -> None:
    first = list(range(10))
    assert measures.agreement(first, first) == {"top": 1.0, "rank": 1.0, "correlation": pytest.approx(1.0)}
    assert measures.agreement(first, first[::-1]) == {"top": 0.0, "rank": 0.0, "correlation": pytest.approx(-1.0)}
    swapped = measures.agreement(first, [1, 0, *first[2:]])
    assert (swapped["top"], swapped["rank"]) == (1.0, 0.0) and 0.9 < swapped["correlation"] < 1
    assert [measures.top_size(n) for n in (1, 4, 9, 10, 25)] == [1, 1, 1, 2, 5]


# --- replies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "importance"),
    [
        ("A: 0.1\ndull: 0.9\nslow: .5", (0.1, 0.9, 0.5, 0, 0, 0, 0.9)),
        ('[("A", 0.1), ("dull,", 0.9), ("film", 1)]', (0.1, 0.9, 0, 1, 0, 0, 0.9)),
        ("dull: 0.9, slow: 0.5; film = 3", (0, 0.9, 0.5, 3, 0, 0, 0.9)),
        ("1. dull - 90%\n2) **slow**: 50 %\n3. isn't -> -1", (0, 0.9, 0.5, 0, 0, -1, 0.9)),
        ("dull: 0.9\ndull: 0.2", (0, 0.9, 0, 0, 0, 0, 0.2)),
        ("The film is about dull things, 3 of them.", (0,) * 7),
        ("boring: 0.9", (0,) * 7),
        ("", (0,) * 7),
    ],
)
def test_importances_are_read_from_lines_and_pairs(reply: str, importance: tuple[float, ...]) -> None:
    read = measures.read_importances(reply, WORDS)
    assert read.importance == pytest.approx(importance)
    assert read.coverage == pytest.approx(np.mean(np.array(importance) != 0))


def test_a_list_is_read_and_a_sentence_is_not() -> None:
    assert measures.read_list("slow, dull", WORDS, 3) == [2, 1]
    assert measures.read_list("1. dull\n2. film\n3. Dull.\n4. dull", WORDS, 3) == [1, 3, 6]
    assert measures.read_list("The most important words are dull and slow.", WORDS, 3) == []
    assert measures.read_list(", ,\n", WORDS, 3) == []


# --- the network -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(3, 90), max_size=6),
    st.lists(st.lists(st.integers(3, 90), min_size=1, max_size=12), min_size=1, max_size=7),
)
@settings(max_examples=25, deadline=None)
def test_ends_run_behind_a_shared_start_are_as_run_alone(start: list[int], ends: list[list[int]]) -> None:
    network = tiny(seed=1)
    network.hf.double()
    whole, last = (asking.following(network, start, ends, last=only) for only in (False, True))
    for end, every, one in zip(ends, whole, last, strict=True):
        with torch.no_grad():
            plain = network.hf(torch.tensor([start + end])).logits[0, len(start) :]
        torch.testing.assert_close(every, plain, atol=1e-12, rtol=0)
        torch.testing.assert_close(one, plain[-1:], atol=1e-12, rtol=0)


def logits_of(model: Model, ids: list[int]) -> torch.Tensor:
    found = model.run([ids], strict=True).logits
    assert found is not None
    return found[0]


def test_decisions_are_those_of_plain_runs(model: Model) -> None:
    turns = [asking.judged(text) for text in (REVIEW, "dull", "", "A slow film")]
    both = [model.token_id(word) for word in asking.CLASSES]
    for got, each in zip(asking.decisions(model, turns), turns, strict=True):
        logits = logits_of(model, plain_ids(model.tokenizer, [asking.dialogue(model, each)])[0])[-1]
        assert got == pytest.approx(float(logits[both[0]] - logits[both[1]]), abs=1e-12)


def test_a_word_is_named_with_its_probability_as_the_whole_answer(model: Model) -> None:
    turns = asking.asked_after(REVIEW, -1.0, asking.NAME)
    assert turns[2] == ("assistant", "negative")
    start = plain_ids(model.tokenizer, [asking.dialogue(model, turns)])[0]
    found = asking.named(model, REVIEW, -1.0)
    for word, got in zip(WORDS, found, strict=True):
        answer = [*plain_ids(model.tokenizer, [measures.bare(word)])[0], model.tokenizer.eos_token_id]
        said = logits_of(model, start + answer).log_softmax(-1)
        alone = sum(float(said[len(start) - 1 + i, token]) for i, token in enumerate(answer))
        assert got == pytest.approx(alone, abs=1e-10)
    assert found[1] == found[6]  # the word that the review has twice


def test_occlusion_is_that_of_the_method() -> None:
    """Of all words but the first and the last: without them the method leaves other spaces in the text than we do."""
    review = "A dull and slow film about nothing"  # the method takes a comma for a word
    words = review.split()
    network = tiny("gpt2", seed=3, texts=[asking.dialogue(tiny(), asking.judged(review)), *asking.CLASSES])
    network.hf.double()
    decided = float(asking.decisions(network, [asking.judged(review)])[0])
    ours = occlusion_of(scorer(network, words, decided), len(words))
    said, other = asking.CLASSES if decided > 0 else asking.CLASSES[::-1]
    text = asking.dialogue(network, asking.judged(review))
    task = Task.from_prompts([text], answers=[[said]], wrong=[[other]])
    found = occlusion(network, task, unit="word", instead="remove", controls=0)
    falls, whole = found.data["attribution"].values[0], float(found.data["score"].values[0])
    tokens = network.token_strings(task.encode(network.tokenizer).ids[0])
    first = next(place for place in range(len(tokens)) if "".join(tokens[place:]).startswith(review))
    groups = words_of(tokens)
    its_tokens = {word: groups.index(groups[first] + word) for word in range(1, len(words) - 1)}
    assert [tokens[place] for place in its_tokens.values()] == [f" {word}" for word in words[1:-1]]
    assert whole == pytest.approx(abs(decided), abs=1e-9)
    for word, place in its_tokens.items():
        fall = 1 / (1 + np.exp(-whole)) - 1 / (1 + np.exp(falls[place] - whole))
        assert ours[word] == pytest.approx(fall, abs=1e-6)


def test_a_study_measures_what_its_steps_kept() -> None:
    keeper = InMemory()
    findings = huang2023_self_explanation(StudyRun("tiny", 1, keeper))
    rows = [row for name, kept in keeper.kept.items() if name.startswith("reviews") for row in kept]
    assert len(rows) == 4
    gain = [
        row["measures"]["named"]["comprehensiveness"] - row["measures"]["random"]["comprehensiveness"] for row in rows
    ]
    assert findings.figures["named_matters"].value == pytest.approx(np.mean(gain))
    shared = [row["agreement"]["named|occlusion"]["top"] for row in rows]
    assert findings.figures["disagreement"].value == pytest.approx(np.mean(shared))
    assert findings.figures["answers"].value == np.mean([row["coverage"] >= 0.5 for row in rows])
    assert list(findings.result.data["written"].values) == keeper.kept["replies"]["each"]


def test_what_can_be_read_is_measured_and_the_rest_is_counted(model: Model) -> None:
    lines = "\n".join(f"{word}: {1 if place == 1 else 0.5}" for place, word in enumerate(WORDS))
    blank = [0.0] * len(WORDS)
    rows = [
        examined(model, Asked(REVIEW, 1.0, blank, blank, each, listed, 0), 16)
        for each, listed in ((lines, "dull, film"), ("I think so.", "I think so."), ("dull: 1", "slow"))
    ]
    assert ["written" in row["measures"] for row in rows] == [True, False, False]
    assert rows[0]["maps"]["written"][1] == 1 and rows[0]["levels"] == 2 / 7
    assert [bool(row["listed"]) for row in rows] == [True, False, True]
    few = figures_of([True, False, True], [1.0, 1.0, 1.0], [1.0, -1.0, -1.0], rows, 0)
    assert "few_levels" not in few and "listed_words" not in few  # too few replies for a claim
    many = [rows[0]] * 5 + rows[1:]
    enough = figures_of([True] * 7, [1.0] * 7, [1.0] * 7, many, 0)
    assert enough["few_levels"].n == 5 and enough["listed_words"].n == 6
    figures = figures_of([True, False, True], [1.0, 1.0, 1.0], [1.0, -1.0, -1.0], rows, 0)
    assert figures["answers"].value == pytest.approx(1 / 3)
    assert "1 of 3 replies had no number" in figures["answers"].note
    assert figures["lists"].value == pytest.approx(2 / 3)
    assert figures["accuracy"].value == pytest.approx(2 / 3) and figures["explaining_first"].value == 0
    whole = rows[0]["whole"]
    without = scorer(model, WORDS, 1.0)([tuple(place for place in range(7) if place != 1)])[0]
    assert rows[0]["listed"]["list"] == pytest.approx(whole - without, abs=1e-9)


def test_a_share_of_the_gain_needs_a_gain() -> None:
    values = {"occlusion": [0.4], "lime": [0.2], "random": [0.1], "named": [0.2], "worse": [0.0]}
    of = {name: np.array(each) for name, each in values.items()}
    chosen = np.arange(1)
    assert share_of_gain(of, "named", 1)(chosen) == pytest.approx(0.5)
    assert share_of_gain(of, "worse", 1)(chosen) == pytest.approx(-0.5)
    assert np.isnan(share_of_gain(of, "worse", -1)(chosen))
