"""Which words of a review mattered? Orders of its words from several accounts, each taken out and left alone.

Occlusion and LIME are those of the methods of these names, over the words of the review and not of the question around it.
Limits: one review at a time; f is the probability of the class that the whole review is given [@huang2023].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cutaway.methods.attribute.lime import random_masks, straight_line
from cutaway.models.model import Model
from cutaway.studies.huang2023_dialogue import decisions, judged
from cutaway.studies.huang2023_measures import (
    TENTHS,
    Floats,
    Kept,
    agreement,
    alone,
    asked_for,
    measured,
    ordered,
    read_importances,
    read_list,
    steps,
    top_size,
    without,
)

Score = Callable[[Sequence[Kept]], Floats]
RANDOM = 2  # random orders of a review
WIDTH, RIDGE = 0.25, 0.01  # of LIME, as the method has them
READABLE = 0.5  # share of the words that a reply must give a number to


@dataclass(frozen=True)
class Asked:
    """A review and what the model said of it.

    Attributes:
        text: the review.
        decided: logit of "positive" minus that of "negative".
        named: log-probability of naming each word.
        untrained: the same of an untrained network.
        each: the reply about each word.
        listed: the reply with the most important words.
        seed: draws what is random.
    """

    text: str
    decided: float
    named: Sequence[float]
    untrained: Sequence[float]
    each: str
    listed: str
    seed: int


def occlusion_of(score: Score, words: int) -> Floats:
    """What f loses without each word [word]: as the method `occlusion` with unit=word, instead=remove."""
    whole = tuple(range(words))
    found = score([whole, *(tuple(place for place in whole if place != each) for each in whole)])
    return found[0] - found[1:]


def lime_of(score: Score, words: int, samples: int, seed: int) -> tuple[Floats, float]:
    """LIME's weight of each word [word], and how well its line fits; masks and regression are those of the method."""
    masks = random_masks(words, samples, seed)
    return straight_line(masks, score([tuple(map(int, np.flatnonzero(row))) for row in masks]), WIDTH, RIDGE)


def scorer(model: Model, words: Sequence[str], decided: float) -> Score:
    """f of a review with some of its words: the probability of what it decides of the whole; asked once for each text."""
    known: dict[Kept, float] = {}

    def score(texts: Sequence[Kept]) -> Floats:
        new = [kept for kept in dict.fromkeys(texts) if kept not in known]
        if new:
            asked = [judged(" ".join(words[place] for place in kept)) for kept in new]
            values = decisions(model, asked) * (1 if decided > 0 else -1)
            known.update(zip(new, (1 / (1 + np.exp(-values))).tolist(), strict=True))
        return np.array([known[kept] for kept in texts])

    return score


def examined(model: Model, asked: Asked, samples: int) -> dict[str, Any]:
    """Every order of one review with its measures, how far they agree, and what its replies said.

    Args:
        model: the network.
        asked: the review.
        samples: texts with holes for LIME.
    """
    words = asked.text.split()
    score = scorer(model, words, asked.decided)
    weights, fit = lime_of(score, len(words), samples, asked.seed)
    reply = read_importances(asked.each, words)
    maps: dict[str, Sequence[float]] = {
        "occlusion": occlusion_of(score, len(words)).tolist(),
        "lime": weights.tolist(),
        "named": asked.named,
        "untrained": asked.untrained,
        **({"written": reply.importance} if reply.coverage >= READABLE else {}),
    }
    orders = {name: [ordered(values, asked.seed)] for name, values in maps.items()}
    orders["random"] = [ordered(np.zeros(len(words)), asked.seed + 500_000 * (i + 1)) for i in range(RANDOM)]
    whole = float(score([tuple(range(len(words)))])[0])
    score([kept for group in orders.values() for order in group for kept in asked_for(order)])  # all in few batches
    runs = {name: [(order, score(asked_for(order))) for order in group] for name, group in orders.items()}
    listed = read_list(asked.listed, words, top_size(len(words)))
    return {
        "maps": maps,
        "whole": whole,
        "fit": fit,
        "coverage": reply.coverage,
        "levels": len(set(reply.importance)) / len(words),
        "measures": {name: _mean([measured(order, whole, got) for order, got in each]) for name, each in runs.items()},
        "curves": {name: _mean_curve(whole, [got for _, got in each], len(words)) for name, each in runs.items()},
        "agreement": {f"{a}|{b}": _agreement(orders[a], orders[b]) for a in orders for b in orders if a != b},
        "listed": _listed(score, whole, listed, orders),
    }


def _agreement(first: Sequence[list[int]], second: Sequence[list[int]]) -> dict[str, float]:
    return _mean([agreement(one, other) for one in first for other in second])


def _listed(
    score: Score, whole: float, listed: Sequence[int], orders: Mapping[str, list[list[int]]]
) -> dict[str, float]:
    """What f loses without the words that the model listed, and without as many of other orders; nothing where it listed none."""
    if not listed:
        return {}
    places = range(len(orders["lime"][0]))
    gone = {"list": [tuple(place for place in places if place not in set(listed))]}
    gone |= {name: [without(order, len(listed)) for order in group] for name, group in orders.items()}
    falls = {name: float(np.mean(whole - score(texts))) for name, texts in gone.items()}
    return {**falls, "sufficiency": whole - float(score([alone(listed, len(listed))])[0])}


def _mean_curve(whole: float, scores: Sequence[Floats], words: int) -> list[float]:
    """f while words are taken out, at each tenth of them from none to all; the mean of several orders."""
    shares = [0.0, *(size / words for size in steps(words))]
    curves = [np.interp(np.linspace(0, 1, TENTHS + 1), shares, [whole, *found[: len(shares) - 1]]) for found in scores]
    return [float(value) for value in np.mean(curves, axis=0)]


def _mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}
