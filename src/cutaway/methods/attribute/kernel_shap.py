"""What is each word's fair part of the score, over all sets of words that it could join?

Shapley values: the mean of what a token adds to a random set of the others. They are the solution of a weighted
least-squares problem over all sets, with the weights of the Shapley kernel and the constraint that the values sum to
f(x) - f(no words) [@lundberg2017]. Where there are no more sets than `samples`, all are taken and the values are exact;
else sets are drawn by the kernel, each with its complement. All targets of a prompt are scored by the same texts.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: the values are of a game over texts with holes, which are like no text; drawn sets leave an error that falls
with the root of their number. Special tokens do not play: they are always there.
"""

from __future__ import annotations

from math import comb
from typing import Annotated

import numpy as np
from pydantic import Field

from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.checked import Floats, Test, checked_map
from cutaway.methods.attribute.deletion import scores_without
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.occlusion import seen_places
from cutaway.methods.attribute.targets import (
    Continuation,
    Controls,
    Foil,
    Generate,
    ScoreName,
    Seed,
    Share,
    targets_of,
)
from cutaway.models.model import Model


@method(
    asks="What is each word's fair part of the score, over all sets of words?",
    cites="lundberg2017, deyoung2020",
    needs=("unembedding",),
)
def kernel_shap(
    model: Model,
    task: Task,
    *,
    samples: Annotated[int, Field(ge=8, le=100_000, description="sets of tokens for each prompt")] = 256,
    neutral: Annotated[Neutral, Field(description="what takes the place of a token that is not there")] = "mean",
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Shapley values of the tokens by weighted least squares."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    nothing = neutral_embedding(model, neutral)
    attribution, empty = targets.empty(), targets.empty()[:, :, 0]
    scores, change = empty.copy(), empty.copy()
    for prompt in track(range(len(targets)), "sets of words"):
        inside = seen_places(model, targets, prompt)
        kept, weights = coalitions(len(inside), samples, seed + prompt)
        sets = [[inside[int(place)] for place in np.flatnonzero(~row)] for row in kept]
        found = scores_without(model, targets, prompt, [(), inside, *sets], nothing)
        scores[prompt, : found.shape[1]] = found[0]
        change[prompt, : found.shape[1]] = found[0] - found[1]
        for target, position in enumerate(targets.positions[prompt]):
            seen = np.array([place <= position for place in inside], dtype=bool)
            if seen.any():
                values = shapley(kept[:, seen], weights, found[2:, target] - found[1, target], change[prompt, target])
                attribution[prompt, target, np.array(inside)[seen]] = values
    return checked_map(
        model,
        targets,
        attribution,
        scores,
        title="Shapley values",
        neutral=nothing,
        test=Test(share, controls, seed),
        unit=targets.unit,
        metrics={"samples": samples},
        arrays={"change_from_baseline": change},
    )


def coalitions(places: int, count: int, seed: int) -> tuple[np.ndarray, Floats]:
    """Sets [set, place] that are neither empty nor whole, and the weight of each.

    All of them with the weights of the kernel where there are no more than `count`; else drawn by the kernel, in pairs
    of complements, with equal weights.
    """
    if places < 1:
        return np.zeros((0, 0), dtype=bool), np.zeros(0)
    if places <= 20 and 2**places - 2 <= count:
        kept = (np.arange(1, 2**places - 1)[:, None] >> np.arange(places)) & 1 == 1
        sizes = kept.sum(axis=1)
        weights = [(places - 1) / (comb(places, int(s)) * int(s) * (places - int(s))) for s in sizes]
        return kept, np.array(weights, dtype=float)
    random = np.random.default_rng(seed)
    chances = np.array([1 / (size * (places - size)) for size in range(1, places)])
    drawn = random.choice(np.arange(1, places), size=(count + 1) // 2, p=chances / chances.sum())
    half = np.zeros((len(drawn), places), dtype=bool)
    for row, size in enumerate(drawn):
        half[row, random.choice(places, size=int(size), replace=False)] = True
    kept = np.concatenate([half, ~half])[:count]
    return kept, np.ones(len(kept))


def shapley(kept: np.ndarray, weights: Floats, gains: Floats, whole: float) -> Floats:
    """Values [place] that sum to `whole` and fit the gains of the sets best.

    Args:
        kept: which tokens are in each set [set, place].
        weights: of each set.
        gains: the score of each set minus that of none [set].
        whole: the score of all minus that of none.
    """
    places = kept.shape[1]
    if places == 1 or not len(kept):
        return np.full(places, whole / places)
    # The last value is what the others leave of the whole: the constraint is taken out of the problem.
    last = kept[:, -1].astype(float)
    x, y = kept[:, :-1] - last[:, None], gains - last * whole
    root = np.sqrt(weights)[:, None]
    values: Floats = np.linalg.lstsq(x * root, y * root[:, 0], rcond=None)[0]
    return np.append(values, whole - values.sum())
