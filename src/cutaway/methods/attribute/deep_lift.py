"""How much of the score does each word bring, by differences instead of slopes?

DeepLIFT with the Rescale rule [@shrikumar2017]: every operation passes on the change that it really makes between the
baseline and the text, so flat places (a saturated activation, a full softmax) hide nothing. Products, which a
transformer has in its gates, norms and attention, give each factor the mean of the other. With these rules

    Σ_i a_i = f(x) - f(x')

holds up to rounding for the whole network, with one forward pass. Captum's DeepLift knows activation modules only and
lets softmax, norms and products through by their derivatives: on a language model its attributions do not sum to the
change of the score, often not nearly. Where a network has nothing but linear maps and activations, the two are equal.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: relative to a baseline; two factors share a change equally, whatever the way between the two ends would be.
From embeddings of zero a norm without a mean (RMSNorm) multiplies by a thousand in every layer, and the products leave
what floating point can add up: the gap says so, and the mean embedding is the default for it.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.checked import Test, checked_map, placed
from cutaway.methods.attribute.gradients import gradients_of, values_of
from cutaway.methods.attribute.layer import Layer, nothing_at, place_of
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
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
from cutaway.models.rescale import Rescale


@method(
    asks="How much of the score does each word bring, by differences instead of slopes?",
    cites="shrikumar2017, deyoung2020",
    needs=("unembedding",),
)
def deep_lift(
    model: Model,
    task: Task,
    *,
    baseline: Annotated[Neutral, Field(description="the embedding that stands for no word")] = "mean",
    layer: Layer = None,
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Multipliers of the change from a baseline, times the change of each embedding."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    nothing, at = neutral_embedding(model, baseline), place_of(model, layer)
    attribution, empty = targets.empty(), targets.empty()[:, :, 0]
    scores, change = empty.copy(), empty.copy()
    for prompt in track(range(len(targets)), "passing on differences"):
        own = values_of(model, targets, [prompt], at)[0]
        ends = torch.stack([own, nothing_at(model, targets, prompt, nothing, at).to(own)])
        with Rescale():
            found = gradients_of(model, targets, [prompt, prompt], embeddings=ends, at=at)
        values = found.values.double().cpu().numpy()
        products = (found.grads[:, 0] * (ends[0] - ends[1])).double().sum(dim=-1).cpu().numpy()
        placed(targets, prompt, products, attribution)
        scores[prompt, : values.shape[1]], change[prompt, : values.shape[1]] = values[0], values[0] - values[1]
    gap = np.nansum(attribution, axis=-1) - change
    return checked_map(
        model,
        targets,
        attribution,
        scores,
        title="DeepLIFT contributions",
        neutral=nothing,
        test=Test(share, controls, seed),
        unit=targets.unit,
        metrics={"completeness_gap": float(np.nanmax(np.abs(gap)))},
        arrays={"change_from_baseline": change, "completeness_gap": gap},
    )
