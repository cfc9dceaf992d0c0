"""How far can an order of tokens be trusted? Scores of texts with tokens taken out or left alone, and what they say.

comprehensiveness   how far the score falls when the tokens ranked first are taken out, averaged over shares of the text
sufficiency         how far it falls when they alone are left (small is good) [@deyoung2020]
deletion, insertion mean score while tokens are taken out, or put in, from the first rank on [@petsiuk2018]
sensitivity_n       correlation of a random set's attribution with what taking the set out costs [@ancona2018]
infidelity          what a random set's attribution, best scaled, leaves of that cost unexplained: 1 is nothing
                    explained, 0 all of it [@yeh2019]

All texts of a prediction are rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cutaway.methods.attribute.deletion import removable, scores_without
from cutaway.methods.attribute.targets import Targets
from cutaway.methods.correlation import ranks
from cutaway.models.model import Model

Floats = NDArray[np.float64]
Order = Sequence[int]
SHARES = (0.1, 0.2, 0.3, 0.5, 0.75)
MEASURES = ("comprehensiveness", "sufficiency", "deletion", "insertion")
BETTER_LOW = frozenset({"sufficiency", "deletion", "infidelity"})


@dataclass(frozen=True, eq=False)
class Prediction:
    """One target of one prompt, the places of its prompt that can be taken out, and its scores with all and none.

    Attributes:
        prompt, target: their indices.
        inside: places whose tokens can be taken out.
        whole: the score of the text.
        nothing: the score with all of them taken out.
    """

    prompt: int
    target: int
    inside: tuple[int, ...]
    whole: float
    nothing: float


def prediction(model: Model, targets: Targets, prompt: int, target: int, neutral: Tensor) -> Prediction | None:
    """A target that can be tested; None where the prompt has fewer than two tokens to take out."""
    inside = removable(model, targets, prompt)
    if len(inside) < 2:
        return None
    found = scores_without(model, targets, prompt, [(), inside], neutral, only=target)[:, 0]
    return Prediction(prompt, target, tuple(inside), float(found[0]), float(found[1]))


def ranked(values: Floats, inside: Sequence[int]) -> list[int]:
    """Places from the largest attribution to the smallest; the earlier one where two are equal, missing ones last."""
    here = np.nan_to_num(values[list(inside)], nan=-np.inf)
    return [inside[int(place)] for place in np.argsort(-here, kind="stable")]


def random_orders(inside: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """Orders that say nothing."""
    random = np.random.default_rng(seed)
    return [[inside[int(place)] for place in random.permutation(len(inside))] for _ in range(count)]


def curves(
    model: Model, targets: Targets, one: Prediction, orders: Sequence[Order], neutral: Tensor
) -> tuple[Floats, Floats]:
    """Scores [order, share] with the first tokens of each order out, and with them alone left in."""
    sizes = [max(1, round(share * len(one.inside))) for share in SHARES]
    out = [order[:size] for order in orders for size in sizes]
    left = [order[size:] for order in orders for size in sizes]
    found = scores_without(model, targets, one.prompt, [*out, *left], neutral, only=one.target)[:, 0]
    both = found.reshape(2, len(orders), len(SHARES))
    return both[0], both[1]


def measures_of(one: Prediction, out: Floats, left: Floats, *, signed: bool) -> dict[str, Floats]:
    """Each of `MEASURES` for every order [order]."""
    fall, short = one.whole - out, one.whole - left
    if not signed:
        fall, short = np.abs(fall), np.abs(short)
    return {
        "comprehensiveness": fall.mean(axis=1),
        "sufficiency": short.mean(axis=1),
        "deletion": _area(out, one.whole, one.nothing),
        "insertion": _area(left, one.nothing, one.whole),
    }


def _area(scores: Floats, first: float, last: float) -> Floats:
    """Area under a curve over shares 0 to 1, whose ends are known."""
    x = np.array([0.0, *SHARES, 1.0])
    ends = np.stack([np.full(len(scores), first), *scores.T, np.full(len(scores), last)], axis=1)
    area: Floats = ((ends[:, 1:] + ends[:, :-1]) / 2 * np.diff(x)).sum(axis=1)
    return area


@dataclass(frozen=True, eq=False)
class Sets:
    """Random sets of tokens and what taking each out costs.

    Attributes:
        members: [set, place of `inside`], true for tokens in the set.
        costs: the fall of the score [set].
    """

    members: NDArray[np.bool_]
    costs: Floats


def random_sets(model: Model, targets: Targets, one: Prediction, neutral: Tensor, count: int, seed: int) -> Sets:
    """Sets of all sizes from one token to half of them, as many of each."""
    random = np.random.default_rng(seed)
    places = len(one.inside)
    members = np.zeros((count, places), dtype=bool)
    sizes = np.unique(np.linspace(1, max(1, places // 2), 4).round().astype(int))
    for row in range(count):
        members[row, random.choice(places, size=int(sizes[row % len(sizes)]), replace=False)] = True
    texts = [[one.inside[int(place)] for place in np.flatnonzero(row)] for row in members]
    found = scores_without(model, targets, one.prompt, texts, neutral, only=one.target)[:, 0]
    return Sets(members, one.whole - found)


def of_sets(values: Floats, one: Prediction, sets: Sets, *, signed: bool) -> dict[str, float]:
    """`sensitivity_n` (mean over the sizes) and `infidelity` of a map [position]."""
    here = np.nan_to_num(values[list(one.inside)])
    sums, costs = sets.members @ here, sets.costs if signed else np.abs(sets.costs)
    sizes = sets.members.sum(axis=1)
    groups = [(sums[sizes == size], costs[sizes == size]) for size in np.unique(sizes)]
    telling = [pair for pair in groups if any(np.ptp(values) > 0 for values in pair)]
    correlations = [correlation(*pair) for pair in telling] or [0.0]
    scale = float(sums @ costs) / max(float(sums @ sums), 1e-300)
    left = float(((scale * sums - costs) ** 2).mean()) / max(float((costs**2).mean()), 1e-300)
    return {"sensitivity_n": float(np.mean(correlations)), "infidelity": left}


def correlation(first: Floats, second: Floats) -> float:
    """Pearson's; zero where one of the two does not vary."""
    if len(first) < 2:
        return 0.0
    a, b = first - first.mean(), second - second.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 1e-300 else 0.0


def rank_agreement(first: Floats, second: Floats) -> float:
    """Spearman's correlation of two maps, equal values sharing their ranks."""
    return correlation(ranks(np.nan_to_num(first)), ranks(np.nan_to_num(second)))


def overlap(first: Floats, second: Floats, share: float) -> float:
    """Which part of the tokens ranked first by one map is ranked first by the other."""
    size = max(1, round(share * len(first)))
    tops = [set(np.argsort(-values, kind="stable")[:size].tolist()) for values in (first, second)]
    return len(tops[0] & tops[1]) / size
