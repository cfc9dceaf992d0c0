"""Is a sentence's grammar in its attention? Linear probes on what two words give to each other.

Two words are described by the attention of every head in both directions, and nothing else: what they are is not told
[@coenen2019; @clark2019]. Three questions are put to linear probes, on sentences that they were not trained on:

    dependency    is the second word the head of the first? (as many pairs of a word with another word, at random)
    relation      which relation is it?
    parse         which word of the sentence is its head? (share of words: the unlabelled attachment score)

Beside each stand the same probes on the network with its weights in random order, on the distance between the words
alone, and (for the first two) on labels dealt out at random [@hewitt2019b], and the commonest label.
Limits: a probe says what can be read off, not what the model uses. Punctuation and the root are left out. Under a causal mask
one of the two directions is always empty, so that the order of the words is told as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from cutaway.core import view as views
from cutaway.core.artifact import Artifact
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.data.conllu import Sentence
from cutaway.data.treebank import treebank_sentences
from cutaway.methods.bootstrap import share_interval
from cutaway.methods.control import compared, unchecked
from cutaway.methods.held_out import parts
from cutaway.methods.labels import described
from cutaway.methods.logistic import Linear, best_candidates, choose, classify
from cutaway.methods.random_twin import random_twin
from cutaway.methods.reading_options import Heads, ShuffledNetworks, Treebank
from cutaway.methods.words import WordTokens, head_table, heads_of, sentences_in_tokens, word_attention, word_tokens
from cutaway.models.model import Model

QUESTIONS = ("dependency", "relation", "parse")
BY = ("attention", "attention, shuffled weights", "distance alone", "labels at random", "commonest label")
FURTHEST = 8  # distances between words beyond this are one
TRAINED = 0.7  # share of the sentences


@dataclass(frozen=True)
class Pairs:
    """Pairs of words and their features.

    Attributes:
        rows: [pair, feature].
        sentence: [pair] which sentence it is of.
        label: [pair] what is asked for.
    """

    rows: NDArray[np.float32]
    sentence: NDArray[np.int64]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """What a probe had right on the test sentences [sentence], of how many, and the probe."""

    right: NDArray[np.float64]
    total: NDArray[np.float64]
    probe: Linear

    @property
    def share(self) -> float:
        """Right of all."""
        return float(self.right.sum() / max(self.total.sum(), 1))


@method(
    asks="Can a sentence's grammar be read off its attention?",
    cites="coenen2019, clark2019, hewitt2019b",
    needs=("attention",),
)
def attention_probe(
    model: Model,
    task: Task,
    *,
    treebank: Treebank = "made",
    sentences: Annotated[int, Field(ge=10, description="how many of them; 7 of 10 are trained on")] = 60,
    sites: Heads = "pattern[*]",
    fewest: Annotated[int, Field(ge=1, description="relations with fewer words are not asked for")] = 10,
    controls: ShuffledNetworks = 5,
    seed: Annotated[int, Field(ge=0, description="draws sentences, pairs and shuffled weights")] = 0,
) -> Result:
    """Linear probes of dependencies on the attention of all heads."""
    heads = heads_of(model, sites)
    trees = treebank_sentences(treebank, sentences, seed)
    kept, found, said = sentences_in_tokens(model, trees)
    trees = tuple(trees[index] for index in kept)
    relations = common_relations(trees, fewest)
    twins = max(controls, 1)
    features = pair_features(model, found, heads)
    own = ask(trees, features, relations, seed)
    distance = ask(trees, [_distances(len(tree.words)) for tree in trees], relations, seed)
    others = [
        ask(trees, pair_features(random_twin(model, seed + 1 + draw), found, heads), relations, seed)
        for draw in track(range(twins), "probes of shuffled weights")
    ]
    random = ask(trees, features, relations, seed, shuffled=True)
    common = {"relation": commonest(trees, relation_pairs(trees, features, relations), seed)}
    answers = dict(zip(BY, (own, others[0], distance, random, common)))
    data = _data(model, task, heads, answers, seed)
    measured = own["parse"].share
    return Result(
        data=data,
        metrics=_metrics(data),
        views=_views(data),
        checks=(_check(measured, [other["parse"].share for other in others]),) if controls else (),
        notes=(*said, f"Relations: {', '.join(relations)}.", *unchecked(controls)),
        artifacts={"probe": _artifact(own["parse"].probe, heads)},
    )


# --- what is asked -----------------------------------------------------------------------------------------------


def common_relations(trees: Sequence[Sentence], fewest: int) -> tuple[str, ...]:
    """The relations with enough words, without the root and punctuation, by name; the commonest where none has enough."""
    every = [name for tree in trees for name in tree.relations if name not in ("root", "punct")]
    names, counts = np.unique(np.array(every, dtype=object).astype(str), return_counts=True)
    enough_of = names[counts >= fewest] if (counts >= fewest).any() else names[[int(counts.argmax())]]
    return tuple(map(str, enough_of))


def pair_features(model: Model, found: Sequence[WordTokens], heads: Sequence[Site]) -> list[NDArray[np.float32]]:
    """For each sentence [first word, second word, feature]: the attention of every head from the first and from the second."""
    tables: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(found)
    for index, attention in word_attention(model, found, heads):
        tables[index] = torch.cat([attention, attention.mT]).permute(1, 2, 0).cpu().numpy()
    return tables


def _distances(size: int) -> NDArray[np.float32]:
    """[first word, second word, feature] one for each distance."""
    place = np.arange(size)
    apart = np.clip(place[None] - place[:, None], -FURTHEST, FURTHEST) + FURTHEST
    return np.eye(2 * FURTHEST + 1, dtype=np.float32)[apart]


def ask(
    trees: Sequence[Sentence],
    features: Sequence[NDArray[np.float32]],
    relations: Sequence[str],
    seed: int,
    shuffled: bool = False,
) -> dict[str, Answer]:
    """Train and test the probes of all questions.

    Args:
        trees: the sentences.
        features: of each sentence [word, word, feature].
        relations: that are told apart.
        seed: deals out the sentences, draws the pairs that are no dependencies, and the labels at random.
        shuffled: labels of the pairs are dealt out at random, and `parse` is not asked.
    """
    train, test = parts(len(trees), (TRAINED, 1 - TRAINED), seed)
    answers = {}
    for question, pairs in (
        ("dependency", dependency_pairs(trees, features, seed)),
        ("relation", relation_pairs(trees, features, relations)),
    ):
        if shuffled:
            order = np.random.default_rng(seed).permutation(len(pairs.label))
            pairs = Pairs(pairs.rows, pairs.sentence, pairs.label[order])
        answers[question] = _answer(pairs, train, test, 2 if question == "dependency" else len(relations))
    if not shuffled:
        answers["parse"] = parse(trees, features, train, test)
    return answers


def commonest(trees: Sequence[Sentence], pairs: Pairs, seed: int) -> Answer:
    """What is right when every test pair is given the commonest label of the training pairs."""
    train, test = parts(len(trees), (TRAINED, 1 - TRAINED), seed)
    mine, yours = np.isin(pairs.sentence, train), np.isin(pairs.sentence, test)
    right = pairs.label[yours] == np.bincount(pairs.label[mine]).argmax()
    empty = torch.zeros(0, dtype=torch.float64)
    return _by_sentence(right, pairs.sentence[yours], test, Linear(empty, empty, empty, empty))


def dependency_pairs(trees: Sequence[Sentence], features: Sequence[NDArray], seed: int) -> Pairs:
    """Each word with its head (1), and with another word that is not joined to it (0)."""
    rows, sentence, label = [], [], []
    for index, tree in enumerate(trees):
        random = np.random.default_rng([seed, index])
        for word in _asked(tree):
            head = tree.heads[word]
            strangers = [w for w in range(len(tree.words)) if w not in (word, head) and tree.heads[w] != word]
            if strangers:
                pair = (head, strangers[int(random.integers(len(strangers)))])
                rows += [features[index][word, other] for other in pair]
                sentence += [index, index]
                label += [1, 0]
    return Pairs(np.array(rows), np.array(sentence), np.array(label))


def relation_pairs(trees: Sequence[Sentence], features: Sequence[NDArray], relations: Sequence[str]) -> Pairs:
    """Each word with its head, and the relation."""
    rows, sentence, label = [], [], []
    for index, tree in enumerate(trees):
        for word in (word for word in _asked(tree) if tree.relations[word] in relations):
            rows.append(features[index][word, tree.heads[word]])
            sentence.append(index)
            label.append(relations.index(tree.relations[word]))
    return Pairs(np.array(rows), np.array(sentence), np.array(label))


def _asked(tree: Sentence) -> list[int]:
    return [w for w, relation in enumerate(tree.relations) if relation not in ("root", "punct")]


def _answer(pairs: Pairs, train: NDArray[np.int64], test: NDArray[np.int64], classes: int) -> Answer:
    mine, yours = np.isin(pairs.sentence, train), np.isin(pairs.sentence, test)
    probe = classify(pairs.rows[mine], pairs.label[mine], classes)
    right = probe.predict(pairs.rows[yours]) == pairs.label[yours]
    return _by_sentence(right, pairs.sentence[yours], test, probe)


def _by_sentence(right: NDArray, sentence: NDArray, test: NDArray, probe: Linear) -> Answer:
    counted = np.array([[right[sentence == index].sum(), (sentence == index).sum()] for index in test], dtype=float)
    return Answer(counted[:, 0], counted[:, 1], probe)


def parse(
    trees: Sequence[Sentence], features: Sequence[NDArray], train: NDArray[np.int64], test: NDArray[np.int64]
) -> Answer:
    """For each word the head with the largest score among the other words of the sentence."""
    rows, question, right, _ = _candidates(trees, features, train)
    probe = choose(rows, question, right)
    rows, question, right, sentence = _candidates(trees, features, test)
    best = best_candidates(probe.scores(rows)[:, 0], question)
    return _by_sentence(best == right, sentence, test, probe)


def _candidates(
    trees: Sequence[Sentence], features: Sequence[NDArray], which: NDArray[np.int64]
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Every other word of a word's sentence as a candidate for its head.

    Returns:
        features [candidate, feature]; the question of each; the row of each question's right candidate; its sentence.
    """
    rows: list[NDArray] = []
    question: list[NDArray] = []
    right: list[int] = []
    sentence: list[int] = []
    start = 0
    for index in which:
        tree = trees[int(index)]
        size = len(tree.words)
        for word in _asked(tree):
            others = [other for other in range(size) if other != word]
            rows.append(features[int(index)][word, others])
            question.append(np.full(size - 1, len(right)))
            right.append(start + others.index(tree.heads[word]))
            sentence.append(int(index))
            start += size - 1
    return np.concatenate(rows), np.concatenate(question), np.array(right), np.array(sentence)


# --- the result --------------------------------------------------------------------------------------------------


def _check(measured: float, controls: Sequence[float]) -> Check:
    return compared(
        measured,
        controls,
        claim="Attention alone says which word is the head of a word.",
        how="A linear probe on the attention between two words picks each word's head, on sentences that it was not trained "
        "on; the control trains it on the network with the numbers of each weight matrix in random order.",
        unit="share of words",
    )


def _data(
    model: Model, task: Task, heads: Sequence[Site], answers: dict[str, dict[str, Answer]], seed: int
) -> xr.Dataset:
    figures = np.full((3, len(QUESTIONS), len(BY)), np.nan)
    for column, by in enumerate(BY):
        for row, question in enumerate(QUESTIONS):
            if question in answers[by]:
                answer = answers[by][question]
                figures[:, row, column] = share_interval(answer.right, answer.total, seed)
    probe = answers[BY[0]]["parse"].probe
    layers, numbers, weight = head_table(heads, probe.weight[:, 0].numpy().reshape(2, -1))
    shown, words = _shown(model, task, heads, probe)
    data = xr.Dataset(
        {
            "accuracy": (("question", "by"), figures[0]),
            "low": (("question", "by"), figures[1]),
            "high": (("question", "by"), figures[2]),
            "weight": (("direction", "layer", "head"), weight),
            "shown": (("from", "to"), shown),
        },
        coords={
            "question": list(QUESTIONS),
            "by": list(BY),
            "direction": ["attention of the word", "attention of the head"],
            "layer": layers,
            "head": numbers,
            "word": ("from", words),
            "other_word": ("to", words),
        },
    )
    return described(
        data,
        accuracy="share right",
        weight="weight in the probe (of standardised attention)",
        shown="probability that it is the head",
    )


def _shown(
    model: Model, task: Task, heads: Sequence[Site], probe: Linear
) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """What the probe takes for each word's head in the first prompt [word, word]."""
    found = word_tokens(model, task.prompts[0])
    (features,) = pair_features(model, [found], heads)
    size = len(found.words)
    scores = probe.scores(features.reshape(size * size, -1))[:, 0].reshape(size, size)
    np.fill_diagonal(scores, -np.inf if size > 1 else 0.0)
    shown = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shown / shown.sum(axis=1, keepdims=True), np.array(found.words, dtype=object)


def _metrics(data: xr.Dataset) -> dict[str, float]:
    found = {}
    for question in QUESTIONS:
        for by in BY:
            value = float(data["accuracy"].sel(question=question, by=by))
            if np.isfinite(value):
                found[f"{question}_{by.replace(', ', '_').replace(' ', '_')}"] = value
    return found


def _artifact(probe: Linear, heads: Sequence[Site]) -> Artifact:
    return Artifact(
        kind="probe",
        tensors={"weight": probe.weight, "mean": probe.mean, "scale": probe.scale},
        about={"reads": [str(site) for site in heads], "directions": 2, "predicts": "the head of a word"},
    )


def _views(data: xr.Dataset) -> tuple[views.View, ...]:
    return (
        views.bars(
            value="accuracy",
            label="question",
            group="by",
            low="low",
            high="high",
            title="What can be read off attention, on sentences that were not trained on",
        ),
        views.heatmap(
            value="weight",
            x="head",
            y="layer",
            at={"direction": 0},
            title="Heads that the probe listens to: attention of the word to its head",
        ),
        views.attention(
            value="shown",
            query="from",
            key="to",
            token="word",
            key_token="other_word",
            title="The head of each word of the first prompt, by the probe",
        ),
    )
