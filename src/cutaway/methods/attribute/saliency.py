"""Which words is the prediction most sensitive to?

The size of the gradient of the score at each token's embedding [@simonyan2013]: s_i = |d f / d x_i|, as L2 norm, as
sum of absolute values (L1) or as the largest one (max), over the embedding's coordinates. It has no sign.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: it is a slope at one point. Where the score is flat because it is saturated, a word that decides everything
has a small gradient; see `integrated_gradients`. A slope says how the score reacts to a small change, not how much of
it a word brings.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.deletion import deletion_check
from cutaway.methods.attribute.gradients import slopes
from cutaway.methods.attribute.neutral import Neutral
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
from cutaway.methods.attribute.token_map import token_map
from cutaway.models.model import Model

Norm = Literal["l2", "l1", "max"]


@method(
    asks="Which words is the prediction most sensitive to?",
    cites="simonyan2013, deyoung2020",
    needs=("unembedding",),
)
def saliency(
    model: Model,
    task: Task,
    *,
    norm: Annotated[Norm, Field(description="how a gradient becomes one number")] = "l2",
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    neutral: Annotated[Neutral, Field(description="what the check puts in the place of a token")] = "mean",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """The size of the gradient of the score at each token."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    attribution, scores = targets.empty(), targets.empty()[:, :, 0]
    for found in slopes(model, targets, reduce=lambda _: partial(_size, norm=norm)):
        sizes = found.grads.double().cpu().numpy()
        for target, position in enumerate(targets.positions[found.prompt]):
            attribution[found.prompt, target, : position + 1] = sizes[target, : position + 1]
        scores[found.prompt, : len(found.values)] = found.values.double().cpu().numpy()
    check = deletion_check(
        model,
        targets,
        attribution,
        neutral,
        claim="The prediction hangs on the tokens with the largest gradients.",
        ranked="with the largest gradients",
        share=share,
        controls=controls,
        seed=seed,
        signed=False,
    )
    return token_map(model, targets, attribution, scores, title="Size of the gradient", check=check)


def _size(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "max":
        return gradient.abs().amax(dim=-1)
    size: Tensor = torch.linalg.vector_norm(gradient, 2 if norm == "l2" else 1, dim=-1)
    return size
