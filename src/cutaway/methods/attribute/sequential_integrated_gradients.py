"""What does each word bring, if it alone comes out of nothing and all others stay?

Integrated gradients along as many paths as there are tokens: on the path of token i only its own embedding moves from
the baseline to where it is, the rest of the text stands as it is [@enguehard2023]. Every point of every path is a
sentence with at most one odd word.

    a_i = (x_i - x'_i) · ∫₀¹ ∂f(x with x'_i + α (x_i - x'_i) at i) / ∂x_i dα

The integral of token i is f(x) - f(x without token i): what `occlusion` measures in one pass. The attributions are
therefore what occlusion gives, up to the error of the rule, which is reported for every token as `gap`; what the
method adds is the part of each embedding coordinate, which the original divides by the norm of the whole map.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: steps × tokens gradients. The attributions do not sum to the change from an empty text.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from cutaway.core.method import method
from cutaway.core.progress import tracking
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.checked import Floats, Test, checked_map, placed
from cutaway.methods.attribute.deletion import scores_without
from cutaway.methods.attribute.gradients import along, gradients_of, values_of
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.quadrature import fixed_rule
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
    asks="What does each word bring, if it alone comes out of nothing?",
    cites="enguehard2023, deyoung2020",
    needs=("unembedding",),
)
def sequential_integrated_gradients(
    model: Model,
    task: Task,
    *,
    baseline: Annotated[Neutral, Field(description="the embedding that stands for no word")] = "mean",
    steps: Annotated[int, Field(ge=1, le=1000, description="Gauss-Legendre nodes of each path")] = 8,
    score: ScoreName = "probability",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Integrated gradients on a path of its own for each token."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    nothing = neutral_embedding(model, baseline)
    attribution, gaps, scores = targets.empty(), targets.empty(), targets.empty()[:, :, 0]
    with tracking("one path for each token", total=sum(map(len, targets.ids))) as advance:
        for prompt, ids in enumerate(targets.ids):
            found = _paths(model, targets, prompt, nothing, steps, advance)
            costs = scores_without(model, targets, prompt, [(), *([place] for place in range(len(ids)))], nothing)
            placed(targets, prompt, found, attribution)
            placed(targets, prompt, found - (costs[0] - costs[1:]).T, gaps)
            scores[prompt, : costs.shape[1]] = costs[0]
    return checked_map(
        model,
        targets,
        attribution,
        scores,
        title="Sequential integrated gradients",
        neutral=nothing,
        test=Test(share, controls, seed),
        unit=targets.unit,
        metrics={"gap": float(np.nanmax(np.abs(gaps))), "steps": steps},
    )


def _paths(model: Model, targets: Targets, prompt: int, nothing: torch.Tensor, steps: int, advance: object) -> Floats:
    """The attributions [target, position] of a prompt."""
    assert callable(advance)
    own = values_of(model, targets, [prompt])[0]
    nodes, weights = fixed_rule("gauss_legendre", steps)
    parts = torch.tensor(nodes, dtype=torch.float64).to(own)
    found = np.zeros((len(targets.positions[prompt]), len(own)))
    size = rows_at_once(model, len(own), grad=True)
    rows = [(place, node) for place in range(len(own)) for node in range(steps)]
    change = own - nothing.to(own)
    for start in range(0, len(rows), size):
        piece = rows[start : start + size]
        texts = own.expand(len(piece), -1, -1).clone()
        for row, (place, node) in enumerate(piece):
            texts[row, place] = nothing.to(own) + parts[node] * change[place]
        slopes = gradients_of(model, targets, [prompt] * len(piece), embeddings=texts, reduce=along(change)).grads
        for row, (place, node) in enumerate(piece):
            found[:, place] += weights[node] * slopes[:, row, place].double().cpu().numpy()
        advance(len({place for place, node in piece if node == steps - 1}))
    return found
