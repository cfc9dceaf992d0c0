"""Which words raise the score, if the network were as straight everywhere as it is here?

The gradient of the score at each token's embedding, times the embedding itself [@shrikumar2016]:
a_i = x_i · d f / d x_i. For a network without curvature it is what the score would lose if the embedding became zero,
so it is integrated gradients from zero with the one node at the text itself. It has a sign.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: networks are curved, so the attributions do not sum to anything that was measured; how far they are from
f(x) - f(0) is in `linearity_gap`. Zero is no text.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.methods.attribute.deletion import deletion_check
from cutaway.methods.attribute.gradients import along, scores_of, slopes, values_of
from cutaway.methods.attribute.layer import Layer, place_of
from cutaway.methods.attribute.neutral import Neutral
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
from cutaway.methods.attribute.token_map import token_map
from cutaway.models.model import Model


@method(
    asks="Which words raise the score, to a first approximation?",
    cites="shrikumar2016, deyoung2020",
    needs=("unembedding",),
)
def input_x_gradient(
    model: Model,
    task: Task,
    *,
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    layer: Layer = None,
    neutral: Annotated[Neutral, Field(description="what the check puts in the place of a token")] = "mean",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """The gradient of the score at each token, times the token's embedding."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    attribution, scores = targets.empty(), targets.empty()[:, :, 0]
    at = place_of(model, layer)
    for found in slopes(model, targets, at, reduce=along):
        products = found.grads.double().cpu().numpy()
        for target, position in enumerate(targets.positions[found.prompt]):
            attribution[found.prompt, target, : position + 1] = products[target, : position + 1]
        scores[found.prompt, : len(found.values)] = found.values.double().cpu().numpy()
    check = deletion_check(
        model,
        targets,
        attribution,
        neutral,
        claim="The score hangs on the tokens with the largest input × gradient.",
        ranked="with the largest input × gradient",
        share=share,
        controls=controls,
        seed=seed,
    )
    change = scores - _scores_of_nothing(model, targets, at)
    gap = np.nansum(attribution, axis=-1) - change
    return token_map(
        model,
        targets,
        attribution,
        scores,
        title="Input × gradient",
        unit=targets.unit,
        check=check,
        metrics={"linearity_gap": float(np.nanmax(np.abs(gap)))},
        arrays={"change_from_zero": change, "linearity_gap": gap},
    )


def _scores_of_nothing(model: Model, targets: Targets, at: Site) -> np.ndarray:
    """The scores [prompt, target] with every embedding (or the whole stream) zero."""
    found = targets.empty()[:, :, 0]
    for prompt in range(len(targets)):
        zero = torch.zeros_like(values_of(model, targets, [prompt], at))
        here = scores_of(model, targets, [prompt], embeddings=zero, at=at)[0].double().cpu().numpy()
        found[prompt, : len(here)] = here
    return found
