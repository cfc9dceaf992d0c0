"""How much of the score does each word bring, averaged over blurred texts and random points of the way?

Gradients at random points between a baseline and the text with a little noise on it, times the difference, averaged
[@lundberg2017]: integrated gradients by chance, over many blurred texts at once.

    a_i = E[(x_i + ε_i - x'_i) · ∂f(x' + α (x + ε - x')) / ∂x_i]        α uniform in [0, 1], ε normal

The spread of the samples gives each attribution a standard error, and the completeness gap is reported: without noise
its expectation is zero.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: the error falls with the root of the number of samples only; `integrated_gradients` is exact sooner.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.method import method
from cutaway.core.progress import tracking
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.checked import Floats, Test, checked_map, placed
from cutaway.methods.attribute.gradients import along, gradients_of, scores_of, values_of
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.targets import (
    Continuation,
    Controls,
    Foil,
    Generate,
    ScoreName,
    Seed,
    Share,
    Targets,
    targets_of,
)
from cutaway.models.model import Model
from cutaway.models.multigrad import rows_at_once


@method(
    asks="How much of the score does each word bring, over blurred texts?",
    cites="lundberg2017, deyoung2020",
    needs=("unembedding",),
)
def gradient_shap(
    model: Model,
    task: Task,
    *,
    baseline: Annotated[Neutral, Field(description="the embedding that stands for no word")] = "zero",
    samples: Annotated[int, Field(ge=2, le=10_000, description="random points")] = 32,
    noise: Annotated[float, Field(ge=0, description="of the blur, in standard deviations of the embeddings")] = 0.1,
    score: ScoreName = "probability",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Expected gradients between a baseline and the blurred text."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    nothing, random = neutral_embedding(model, baseline), torch.Generator().manual_seed(seed)
    attribution, errors, empty = targets.empty(), targets.empty(), targets.empty()[:, :, 0]
    scores, change = empty.copy(), empty.copy()
    with tracking("random points", total=len(targets)) as advance:
        for prompt in range(len(targets)):
            own = values_of(model, targets, [prompt])[0]
            ends = torch.stack([own, nothing.to(own).expand_as(own)])
            found = _samples(model, targets, prompt, own, ends[1], (samples, noise), random)
            placed(targets, prompt, found.mean(axis=0), attribution)
            placed(targets, prompt, found.std(axis=0, ddof=1) / np.sqrt(samples), errors)
            values = scores_of(model, targets, [prompt] * 2, embeddings=ends).double().cpu().numpy()
            scores[prompt, : values.shape[1]], change[prompt, : values.shape[1]] = values[0], values[0] - values[1]
            advance(1)
    gap = np.nansum(attribution, axis=-1) - change
    return checked_map(
        model,
        targets,
        attribution,
        scores,
        title="Gradient SHAP",
        neutral=nothing,
        test=Test(share, controls, seed),
        unit=targets.unit,
        metrics={
            "completeness_gap": float(np.nanmax(np.abs(gap))),
            "largest_standard_error": float(np.nanmax(errors)),
        },
        arrays={"change_from_baseline": change, "completeness_gap": gap},
    )


def _samples(
    model: Model,
    targets: Targets,
    prompt: int,
    own: Tensor,
    nothing: Tensor,
    drawn: tuple[int, float],
    random: torch.Generator,
) -> Floats:
    """Attributions [sample, target, position] of single points; `drawn` are their number and the noise."""
    count, noise = drawn
    blur = torch.randn(count, *own.shape, generator=random).to(own) * noise * own.std()
    share = torch.rand(count, 1, 1, generator=random).to(own)
    found, size = [], rows_at_once(model, len(own), grad=True)
    for start in range(0, count, size):
        ends = own + blur[start : start + size]
        points = nothing + share[start : start + size] * (ends - nothing)
        rows, change = [prompt] * len(points), (ends - nothing).double()
        grads = gradients_of(model, targets, rows, embeddings=points, reduce=along(change)).grads
        found.append(grads.transpose(0, 1))
    return torch.cat(found).cpu().numpy()
