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
from pydantic import AfterValidator, Field

from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.deletion import deletion_check, scores_without
from cutaway.methods.attribute.gradients import slopes
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.targets import ScoreName, Targets, targets_of
from cutaway.methods.attribute.token_map import token_map
from cutaway.methods.control import enough
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
    score: Annotated[
        ScoreName, Field(description="what is explained: the task's metric, or a figure of the answer's token")
    ] = "metric",
    generate: Annotated[
        int,
        Field(ge=0, le=512, description="explain this many tokens that the model writes, not the answer"),
    ] = 0,
    continuation: Annotated[str, Field(description="explain each token of this text, put after the prompts")] = "",
    neutral: Annotated[Neutral, Field(description="what the check puts in the place of a token")] = "mean",
    share: Annotated[float, Field(gt=0, lt=1, description="share of the tokens that the check takes out")] = 0.2,
    controls: Annotated[
        int,
        Field(ge=0, description="random sets that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random sets")] = 0,
) -> Result:
    """The gradient of the score at each token, times the token's embedding."""
    targets = targets_of(model, task, score, generate, continuation)
    attribution, scores = targets.empty(), targets.empty()[:, :, 0]
    for found in slopes(model, targets):
        products = (found.grads * found.embeddings).sum(dim=-1).double().cpu().numpy()
        for target, position in enumerate(targets.positions[found.prompt]):
            attribution[found.prompt, target, : position + 1] = products[target, : position + 1]
        scores[found.prompt, : len(found.values)] = found.values.double().cpu().numpy()
    check = deletion_check(
        model,
        targets,
        attribution,
        neutral_embedding(model, neutral),
        claim="The score hangs on the tokens with the largest input × gradient.",
        ranked="with the largest input × gradient",
        share=share,
        controls=controls,
        seed=seed,
    )
    change = scores - _scores_of_nothing(model, targets)
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


def _scores_of_nothing(model: Model, targets: Targets) -> np.ndarray:
    """The scores [prompt, target] with every embedding zero."""
    zero = neutral_embedding(model, "zero")
    found = targets.empty()[:, :, 0]
    for prompt, ids in enumerate(targets.ids):
        here = scores_without(model, targets, prompt, [range(len(ids))], zero)[0]
        found[prompt, : len(here)] = here
    return found
