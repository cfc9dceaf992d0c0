"""How faithful is an order of words, and how far do two of them agree? The measures of the study of self-explanations.

All are of f, the probability of the class that a model predicts, of texts with some of their words [@huang2023]:

comprehensiveness   f(x) - f(x without the words ranked first), averaged over shares of the words
sufficiency         f(x) - f(the words ranked first alone), averaged over the same shares (small is good)
flip                whether the decision turns when the word ranked first is taken out (DFMIT)
fraction            share of the words that are out when the decision first turns; 1 where it never does (DFFrac)
rank_correlation    of a word's rank with what taking it out costs, one block of words after the other (RankDel)

Two maps agree by the words that both rank first, by words at the same rank, and by the correlation of all ranks
[@krishna2022]. Equal importances are put in order at random.
Limits: the shares are tenths, so that `fraction` is one; a text with words missing is unlike any text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cutaway.methods.correlation import spearman

Floats = NDArray[np.float64]
Kept = tuple[int, ...]  # words of a text that are there, by their places
TENTHS = 10
MEASURES = ("comprehensiveness", "sufficiency", "flip", "fraction", "rank_correlation")
_EDGES = "\"'`.,;:!?()[]{}<>*_-–—…“”‘’/\\"
_BULLET = re.compile(r"^\W*\d+[.)]\s+")
_IMPORTANCE = re.compile(
    r"""^\W*(?P<word>\S.*?)["'`*)\]]*\s*(?:[:=|,]|->|\s[-–])\s*\(?(?P<number>[-+]?\d*\.?\d+)\s*(?P<percent>%?)"""
)
_BETWEEN_PAIRS = re.compile(r"\n|;|(?<=[\d%)\]])\s*,\s*")


def steps(words: int) -> list[int]:
    """How many words are out at each tenth of a text, each number once."""
    return sorted({-(-words * tenth // TENTHS) for tenth in range(1, TENTHS + 1)})


def ordered(importance: ArrayLike, seed: int) -> list[int]:
    """Places from the most important word to the least; equal ones in random order."""
    values = np.asarray(importance, dtype=np.float64)
    chance = np.random.default_rng(seed).permutation(len(values))
    return [int(place) for place in np.lexsort((chance, -values))]


def without(order: Sequence[int], size: int) -> Kept:
    """The text without the first words of an order."""
    return tuple(sorted(order[size:]))


def alone(order: Sequence[int], size: int) -> Kept:
    """The first words of an order alone."""
    return tuple(sorted(order[:size]))


def asked_for(order: Sequence[int]) -> list[Kept]:
    """The texts that the measures of an order need."""
    sizes = steps(len(order))
    return [*(without(order, size) for size in sizes), *(alone(order, size) for size in sizes), without(order, 1)]


def measured(order: Sequence[int], whole: float, scores: Sequence[float] | Floats) -> dict[str, float]:
    """Each of `MEASURES` of an order.

    Args:
        order: the places of all words, from the most important on.
        whole: f of the text.
        scores: f of the texts of `asked_for`.
    """
    sizes = steps(len(order))
    out, left = np.asarray(scores[: len(sizes)]), np.asarray(scores[len(sizes) : 2 * len(sizes)])
    turned = [size / len(order) for size, score in zip(sizes, out) if score < 0.5]
    drops = -np.diff([whole, *out])
    return {
        "comprehensiveness": float((whole - out).mean()),
        "sufficiency": float((whole - left).mean()),
        "flip": float(scores[-1] < 0.5),
        "fraction": turned[0] if turned else 1.0,
        "rank_correlation": spearman(-np.arange(len(drops)), drops),
    }


def agreement(first: Sequence[int], second: Sequence[int]) -> dict[str, float]:
    """How far two orders of the same words agree.

    Returns:
        `top`: share of the words ranked first (a fifth of all, one at least) that both rank first; `rank`: share of these
        ranks that have the same word; `correlation` of all ranks.
    """
    size = top_size(len(first))
    places = np.argsort(first), np.argsort(second)
    return {
        "top": len(set(first[:size]) & set(second[:size])) / size,
        "rank": float(np.mean([a == b for a, b in zip(first[:size], second[:size])])),
        "correlation": spearman(*places),
    }


def top_size(words: int) -> int:
    """A fifth of the words, one at least."""
    return max(1, words // 5)


# --- what a model wrote ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """What was read from a reply.

    Attributes:
        importance: of each word of the text; 0 where the reply says nothing of it.
        said: which words it speaks of.
    """

    importance: tuple[float, ...]
    said: tuple[bool, ...]

    @property
    def coverage(self) -> float:
        """Share of the words that it speaks of."""
        return float(np.mean(self.said)) if self.said else 0.0


def bare(word: str) -> str:
    """A word in lower case without the marks around it; the marks where there is nothing else."""
    return word.strip(_EDGES).casefold() or word.casefold()


def read_importances(reply: str, words: Sequence[str]) -> Reply:
    """Importances from lines such as `dull: 0.9`, `1. dull - 90%` or `("dull", 0.9)`.

    A word that the text has twice gets what is said of it first for both, unless the reply speaks of it twice.
    """
    given: dict[str, list[float]] = {}
    for piece in _BETWEEN_PAIRS.split(reply):
        if match := _IMPORTANCE.match(_BULLET.sub("", piece.strip())):
            value = float(match["number"]) / (100 if match["percent"] else 1)
            given.setdefault(bare(match["word"]), []).append(value)
    importance, said = [], []
    for word in map(bare, words):
        values = given.get(word, [])
        said.append(bool(values))
        importance.append(values.pop(0) if len(values) > 1 else values[0] if values else 0.0)
    return Reply(tuple(importance), tuple(said))


def read_list(reply: str, words: Sequence[str], most: int) -> list[int]:
    """Places of the words that a reply lists with commas or line breaks between them, in its order.

    A sentence about words is no list of them. At most so many, each word of the text once.
    """
    known = [bare(word) for word in words]
    found: list[int] = []
    for piece in re.split(r"[,\n;]", reply):
        said = bare(_BULLET.sub("", piece.strip()))
        free = [place for place, word in enumerate(known) if word == said and place not in found]
        found += free[:1] if said else []
    return found[:most]
