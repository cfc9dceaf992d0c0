"""Which words does a straight line through texts with holes hold up?

Random sets of tokens are taken out of the text, each text is scored, and a weighted ridge regression of the score on
which tokens are there gives each token a weight [@ribeiro2016]. Texts that keep more of their tokens count more:
exp(-(1 - cos)² / width²), with the cosine between what is there and the whole text. All targets of a prompt are
scored by the same texts.

How well the line fits is reported as R² (weighted): what a straight line leaves out, the weights cannot tell.
The check takes the tokens with the largest weights out together, against random other tokens [@deyoung2020].
Limits: random sets, so another seed gives slightly other weights; special tokens are not taken out.
"""

from __future__ import annotations

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
    asks="Which words does a straight line through texts with holes hold up?",
    cites="ribeiro2016, deyoung2020",
    needs=("unembedding",),
)
def lime(
    model: Model,
    task: Task,
    *,
    samples: Annotated[int, Field(ge=8, le=100_000, description="texts with holes for each prompt")] = 128,
    width: Annotated[float, Field(gt=0, description="of the kernel that weighs near texts more")] = 0.25,
    ridge: Annotated[float, Field(ge=0, description="how far large weights are held down")] = 0.01,
    neutral: Annotated[Neutral, Field(description="what takes the place of a token that is taken out")] = "mean",
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Weights of a local linear model of the score."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    nothing = neutral_embedding(model, neutral)
    attribution, scores = targets.empty(), targets.empty()[:, :, 0]
    fits = []
    for prompt in track(range(len(targets)), "texts with holes"):
        inside = seen_places(model, targets, prompt)
        kept = random_masks(len(inside), samples, seed + prompt)
        sets = [[inside[int(place)] for place in np.flatnonzero(~row)] for row in kept]
        found = scores_without(model, targets, prompt, [(), *sets], nothing)
        scores[prompt, : found.shape[1]] = found[0]
        for target, position in enumerate(targets.positions[prompt]):
            seen = [place <= position for place in inside]
            weights, fit = straight_line(kept[:, seen], found[1:, target], width, ridge)
            attribution[prompt, target, np.array(inside)[seen]] = weights
            fits.append(fit)
    return checked_map(
        model,
        targets,
        attribution,
        scores,
        title="LIME weights",
        neutral=nothing,
        test=Test(share, controls, seed),
        unit=targets.unit,
        metrics={"r2": float(np.mean(fits)), "samples": samples},
    )


def random_masks(places: int, count: int, seed: int) -> np.ndarray:
    """Which tokens are there [text, place]: of each text a random number, in random places; the first has all."""
    random = np.random.default_rng(seed)
    kept = random.random((count, places)) < random.uniform(0.1, 1.0, size=(count, 1))
    kept[0] = True
    return kept


def straight_line(kept: np.ndarray, scores: Floats, width: float, ridge: float) -> tuple[Floats, float]:
    """Weights [place] of a weighted ridge regression with an intercept, and its weighted R²."""
    if not kept.shape[1]:
        return np.zeros(0), 0.0
    there = kept.mean(axis=1)
    near = np.exp(-((1 - np.sqrt(there)) ** 2) / width**2)  # the cosine between a mask and all ones
    middle_x, middle_y = np.average(kept, axis=0, weights=near), np.average(scores, weights=near)
    x, y = kept - middle_x, scores - middle_y
    square = (x * near[:, None]).T @ x + ridge * np.eye(x.shape[1])
    weights: Floats = np.linalg.lstsq(square, (x * near[:, None]).T @ y, rcond=None)[0]
    left, whole = near @ (y - x @ weights) ** 2, near @ y**2
    return weights, float(1 - left / whole) if whole > 0 else 0.0
