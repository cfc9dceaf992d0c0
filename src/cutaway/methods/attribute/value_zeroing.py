"""What does a position's state lose in each layer when it cannot take the values of another position?

In one layer after the other the value vectors of one token are put to zero for all heads, and it is measured how far
the layer's output turns at every position: 1 - cos(output, output without the values of j) [@mohebbi2023]. Rows are
divided by their sums, and the layers multiplied from the first to the last, as in attention rollout [@abnar2020].

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: nothing else of the layer is new (its queries and keys stay), and turning is measured wherever it points, also
where it does not matter for the score. One pass for each layer and token: the layers above it are not run.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from cutaway.core.edit import replace
from cutaway.core.method import method
from cutaway.core.progress import tracking
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.methods.attribute.checked import Floats, Test, checked_map, scores_of_texts
from cutaway.methods.attribute.mixing import each_text, normalised, product, refuse_two_stacks, rows_of_targets
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
from cutaway.models.model import Model


@method(
    asks="What does a position lose when it cannot take the values of another?",
    cites="mohebbi2023, abnar2020, deyoung2020",
    needs=("unembedding", "attention"),
)
def value_zeroing(
    model: Model,
    task: Task,
    *,
    layer: Annotated[int | None, Field(ge=0, description="this layer alone; none: all, multiplied")] = None,
    neutral: Annotated[Neutral, Field(description="what the check puts in the place of a token")] = "mean",
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """How far each layer's output turns without a token's values, through all layers."""
    refuse_two_stacks(model, "value_zeroing")
    targets = targets_of(model, task, score, generate, continuation, foil)
    attribution = targets.empty()
    attending = [number for number, part in enumerate(model.anatomy.stacks[""].layers) if part.n_heads]
    chosen = attending if layer is None else [layer]
    for prompt, ids in each_text(targets, "putting values to zero"):
        with tracking("layer by layer", total=len(chosen)) as advance:
            layers = []
            for number in chosen:
                layers.append(normalised(turned(model, ids, number)))
                advance(1)
        rows_of_targets(targets, prompt, product(layers), attribution)
    return checked_map(
        model,
        targets,
        attribution,
        scores_of_texts(model, targets),
        title="Value zeroing",
        neutral=neutral,
        test=Test(share, controls, seed, signed=False),
    )


def turned(model: Model, ids: list[int], layer: int) -> Floats:
    """1 - cosine of a layer's output at each position with and without the values of each token [position, token]."""
    value, out = Site("v", layer), Site("resid_post", layer)
    base = model.run([ids], read=[value, out], logits="none")
    values = base[value].expand(len(ids), *base[value].shape[1:]).clone()
    values[range(len(ids)), range(len(ids))] = 0
    without = model.run([ids] * len(ids), read=out, edit=[replace(value, values)], logits="none")[out]
    near = torch.cosine_similarity(base[out].double(), without.double(), dim=-1)
    found: Floats = (1 - near).clamp(min=0).T.cpu().numpy()
    return np.tril(found)  # a later token's values reach nothing before it: what is there is rounding
