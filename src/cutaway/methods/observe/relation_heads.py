"""Which head knows which word is the object? Heads as guessers of dependencies, on sentences with gold trees.

A head is read as a parser of one relation: a word's head is the word that it attends to most, or, in the other
direction, the word that attends most to it [@clark2019]. Attention is between words, and to the word itself is left out.
For each relation the best head and direction are chosen on one half of the sentences and counted on the other,
and so is the baseline, the word at the best fixed distance. `shuffled trees` are counted in the same way, with each
sentence's heads dealt out anew: what the search among so many heads finds where there is nothing.
The check compares the gain over the fixed distance with that of the network with its weights in random order.
Intervals are from drawing sentences again. The prompts are what the heads are then shown on.
Limits: attention that follows a relation may do nothing with it. Under a causal mask each direction sees only the pairs in
which the other word comes first: `within_reach` is the share of them. `treebank=made` has plain sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.data.conllu import Sentence
from cutaway.data.treebank import treebank_sentences
from cutaway.methods.control import compared, unchecked
from cutaway.methods.head_choice import (
    DIRECTIONS,
    Chosen,
    candidate_name,
    chosen_on_other_half,
    most_attended,
    share_on_other_half,
)
from cutaway.methods.labels import described
from cutaway.methods.random_twin import random_twin
from cutaway.methods.reading_options import Heads, ShuffledNetworks, Treebank
from cutaway.methods.words import (
    WordTokens,
    head_table,
    heads_of,
    sentences_in_tokens,
    word_attention,
    word_tokens,
)
from cutaway.models.model import Model

OFFSETS = tuple(offset for offset in range(-5, 6) if offset)
ALL = "all relations"
BY = ("best head", "best fixed distance", "best head, shuffled trees")
ONE_WAY = (
    "The model has a causal mask: a word attends to earlier words alone, so each direction sees a part of the pairs."
)


@dataclass(frozen=True)
class Guesses:
    """How many dependents of each relation were led to their head.

    Attributes:
        relations: the names; the first is all of them together, without the root and punctuation.
        total: [sentence, relation] how many there were.
        right: [sentence, relation, direction and head].
        shuffled: the same for trees whose heads were dealt out anew.
        offset: [sentence, relation, offset] the word at a fixed distance.
        reach: [relation, direction] share of pairs that can be seen.
    """

    relations: tuple[str, ...]
    total: NDArray[np.int32]
    right: NDArray[np.uint8]
    shuffled: NDArray[np.uint8]
    offset: NDArray[np.uint8]
    reach: NDArray[np.float64]


@method(
    asks="Which heads follow which grammatical relation?",
    cites="clark2019",
    needs=("attention",),
)
def relation_heads(
    model: Model,
    task: Task,
    *,
    treebank: Treebank = "made",
    sentences: Annotated[int, Field(ge=4, description="how many of them")] = 60,
    sites: Heads = "pattern[*]",
    fewest: Annotated[int, Field(ge=1, description="relations that are rarer are left out")] = 8,
    controls: ShuffledNetworks = 5,
    seed: Annotated[int, Field(ge=0, description="draws sentences, halves, intervals and shuffled weights")] = 0,
) -> Result:
    """The best head for each dependency relation, against the best fixed distance."""
    heads = heads_of(model, sites)
    trees = treebank_sentences(treebank, sentences, seed)
    kept, found, said = sentences_in_tokens(model, trees)
    trees = tuple(trees[index] for index in kept)
    guesses = without_rare(relation_guesses(model, trees, found, heads, seed), fewest)
    data = _data(model, task, guesses, heads, seed)
    checks: tuple[Check, ...] = ()
    if controls:
        twins = [
            relation_gain(
                without_rare(relation_guesses(random_twin(model, seed + 1 + d), trees, found, heads, seed), fewest),
                seed,
            )
            for d in track(range(controls), "networks with shuffled weights")
        ]
        checks = (_check(relation_gain(guesses, seed), twins),)
    return Result(
        data=data,
        metrics=_metrics(data),
        views=_views(data),
        checks=checks,
        notes=(*said, *((ONE_WAY,) if model.anatomy.is_causal else ()), *unchecked(controls)),
    )


# --- counting ----------------------------------------------------------------------------------------------------


def relation_guesses(
    model: Model, trees: Sequence[Sentence], found: Sequence[WordTokens], heads: Sequence[Site], seed: int = 0
) -> Guesses:
    """Count what every head, in both directions, and every fixed distance gets right.

    Args:
        model: read at its patterns.
        trees: the sentences.
        found: their tokens.
        heads: one site for each head.
        seed: deals out the heads of the shuffled trees.
    """
    names = (ALL, *sorted({name for tree in trees for name in tree.relations} - {"root"}))
    total = np.zeros((len(trees), len(names)), dtype=np.int32)
    right = np.zeros((len(trees), len(names), 2 * len(heads)), dtype=np.uint8)
    shuffled, offset = np.zeros_like(right), np.zeros((*total.shape, len(OFFSETS)), dtype=np.uint8)
    visible = np.zeros((len(names), 2))
    causal = model.anatomy.is_causal
    for index, attention in word_attention(model, found, heads):
        tree = trees[index]
        gold = np.array(tree.heads)
        guess = most_attended(attention, causal).flatten(0, 1).cpu().numpy()
        dealt = np.random.default_rng([seed, index]).permutation(gold)
        size = np.arange(len(gold))
        for place, rows in _rows(tree, names):
            total[index, place] = len(rows)
            right[index, place] = (guess[:, rows] == gold[rows]).sum(axis=1)
            shuffled[index, place] = (guess[:, rows] == dealt[rows]).sum(axis=1)
            offset[index, place] = [((size + step == gold)[rows]).sum() for step in OFFSETS]
            before = (gold[rows] < size[rows]).sum() if causal else len(rows)
            visible[place] += (before, len(rows) - before if causal else len(rows))
    reach = visible / np.maximum(total.sum(axis=0), 1)[:, None]
    return Guesses(names, total, right, shuffled, offset, reach)


def _rows(tree: Sentence, names: Sequence[str]) -> list[tuple[int, NDArray[np.int64]]]:
    """For each relation in a sentence: its place in the names, and its dependents."""
    relations = np.array(tree.relations)
    parts = [(0, np.flatnonzero((relations != "root") & (relations != "punct")))]
    parts += [(names.index(name), np.flatnonzero(relations == name)) for name in sorted(set(tree.relations) - {"root"})]
    return [(place, rows) for place, rows in parts if len(rows)]


def without_rare(guesses: Guesses, fewest: int) -> Guesses:
    """The relations with enough dependents, the commonest first, after all relations together."""
    counts = guesses.total.sum(axis=0)
    order = [0, *sorted((i for i in range(1, len(counts)) if counts[i] >= fewest), key=lambda i: -counts[i])]
    return replace(
        guesses,
        relations=tuple(guesses.relations[i] for i in order),
        **{name: getattr(guesses, name)[:, order] for name in ("total", "right", "shuffled", "offset")},
        reach=guesses.reach[order],
    )


def relation_gain(guesses: Guesses, seed: int) -> float:
    """By how much the heads are better than fixed distances, mean over relations; chosen on one half, counted on the other."""
    singles = slice(1, None) if len(guesses.relations) > 1 else slice(None)
    head = share_on_other_half(guesses.right, guesses.total, seed)[singles]
    distance = share_on_other_half(guesses.offset, guesses.total, seed)[singles]
    return float(np.nanmean(head - distance))


def _check(measured: float, controls: Sequence[float]) -> Check:
    return compared(
        measured,
        controls,
        claim="Single heads follow grammatical relations better than any fixed distance between the words.",
        how="Choose the best head, and the best fixed distance, for each relation on one half of the sentences and count on "
        "the other; the mean over relations of the difference. The control does the same in the network with the "
        "numbers of each weight matrix in random order.",
        unit="share of dependents",
    )


# --- the result --------------------------------------------------------------------------------------------------


def _data(model: Model, task: Task, guesses: Guesses, heads: Sequence[Site], seed: int) -> xr.Dataset:
    by = [chosen_on_other_half(each, guesses.total, seed) for each in (guesses.right, guesses.offset, guesses.shuffled)]
    best, distance = by[0], by[1]
    named = [candidate_name(heads, candidate) for candidate in best.best]
    accuracy = guesses.right.sum(axis=0, dtype=np.int64) / np.maximum(guesses.total.sum(axis=0), 1)[:, None]
    layers, numbers, table = head_table(heads, accuracy.reshape(len(accuracy), 2, len(heads)))
    shown, words = _shown(model, task, heads, best)
    data = xr.Dataset(
        {
            "accuracy": (("relation", "by"), np.stack([each.share for each in by], axis=1)),
            "low": (("relation", "by"), np.stack([each.low for each in by], axis=1)),
            "high": (("relation", "by"), np.stack([each.high for each in by], axis=1)),
            "count": (("relation",), guesses.total.sum(axis=0)),
            "best_head": (("relation",), np.array([name for name, _ in named], dtype=object)),
            "best_direction": (("relation",), np.array([way for _, way in named], dtype=object)),
            "halves_agree": (("relation",), best.agreed),
            "best_distance": (("relation",), np.array([OFFSETS[i] for i in distance.best])),
            "head_accuracy": (("relation", "direction", "layer", "head"), table),
            "within_reach": (("relation", "direction"), guesses.reach),
            "shown": (("relation", "from", "to"), shown),
        },
        coords={
            "relation": list(guesses.relations),
            "by": list(BY),
            "direction": list(DIRECTIONS),
            "layer": layers,
            "head": numbers,
            "word": ("from", words),
            "other_word": ("to", words),
        },
    )
    data["head_share"] = data["accuracy"].sel(by=BY[0], drop=True)
    data["distance_share"] = data["accuracy"].sel(by=BY[1], drop=True)
    return described(
        data,
        accuracy="share of dependents led to their head",
        head_share="best head",
        distance_share="best fixed distance",
        head_accuracy="share of dependents led to their head",
        best_distance=("distance", "words"),
        count="dependents",
        shown="attention",
    )


def _shown(
    model: Model, task: Task, heads: Sequence[Site], best: Chosen
) -> tuple[NDArray[np.float32], NDArray[np.object_]]:
    """Attention of each relation's best head between the words of the first prompt."""
    found = word_tokens(model, task.prompts[0])
    ((_, attention),) = word_attention(model, [found], heads, "the first prompt")
    chosen = torch.from_numpy(best.best % len(heads)).to(attention.device)
    return attention[chosen].cpu().numpy(), np.array(found.words, dtype=object)


def _metrics(data: xr.Dataset) -> dict[str, float]:
    singles = data.isel(relation=slice(1, None)) if data.sizes["relation"] > 1 else data
    over = singles["low"].sel(by=BY[0]) > singles["high"].sel(by=BY[1])
    return {
        **{
            f"{name.replace(',', '').replace(' ', '_')}_accuracy": float(singles["accuracy"].sel(by=name).mean())
            for name in BY
        },
        "relations": singles.sizes["relation"],
        "relations_above_fixed_distance": int(over.sum()),
    }


def _views(data: xr.Dataset) -> tuple[views.View, ...]:
    gain = (data["head_share"] - data["distance_share"]).values[1:]
    relation = str(data["relation"].values[1 + int(np.argmax(gain))]) if len(gain) else ALL
    picked = data.sel(relation=relation)
    head, direction = str(picked["best_head"].values), str(picked["best_direction"].values)
    return (
        views.bars(
            value="accuracy",
            label="relation",
            group="by",
            low="low",
            high="high",
            title="How many dependents the best head leads to their head",
        ),
        views.table(
            columns=[
                "relation",
                "count",
                "best_head",
                "best_direction",
                "head_share",
                "distance_share",
                "best_distance",
            ],
            title="The best head for each relation, chosen on one half and counted on the other",
        ),
        views.heatmap(
            value="head_accuracy",
            x="head",
            y="layer",
            at={"relation": relation, "direction": direction},
            title=f"Every head as a guesser of {relation}, {direction}",
            scale="sequential",
        ),
        views.attention(
            value="shown",
            query="from",
            key="to",
            token="word",
            key_token="other_word",
            at={"relation": relation},
            title=f"Head {head}, the best for {relation}, on the first prompt",
        ),
    )
