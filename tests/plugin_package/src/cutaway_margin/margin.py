"""By how much does the favourite token lead the one after it?

The margin is the difference of the two largest logits at the last token of each prompt: zero where two tokens are
equally likely, large where there is only one way to go on.
Limits: it describes a prediction; nothing is said about what causes it.
"""

from __future__ import annotations

from typing import Annotated

import xarray as xr
from pydantic import Field

import cutaway as ca


@ca.method(asks="By how much does the favourite lead?", needs=("unembedding",), describes_only=True)
def margin(
    model: ca.Model,
    task: ca.Task,
    *,
    runner_up: Annotated[int, Field(ge=2, le=10, description="rank of the token that is compared with")] = 2,
) -> ca.Result:
    """Difference of the largest logit and the one of rank `runner_up`, for each prompt."""
    encoded = task.encode(model.tokenizer)
    top = model.run(encoded, logits="last").last_logits.float().topk(runner_up, dim=-1)
    values = (top.values[:, 0] - top.values[:, -1]).cpu().numpy()
    favourites = model.token_strings(top.indices[:, 0].tolist())
    data = xr.Dataset({"margin": ("prompt", values), "favourite": ("prompt", favourites)})
    data = data.assign_coords(prompt=list(encoded.prompts))
    return ca.Result(
        data=data,
        metrics={"mean_margin": float(values.mean())},
        views=(ca.views.bars(value="margin", label="prompt", title="Lead of the favourite token (logits)"),),
        notes=encoded.notes,
    )
