"""How many dimensions does what decides the answer take? Distributed alignment search with a learned boundary.

As `das`, with the size of the subspace learned: the rotated dimensions before a boundary are exchanged, those after it
stay. The boundary is soft at first and hardens while a temperature falls; its position is a part of the loss, so that
no more dimensions are taken than are needed [@wu2023]. It is tested hard: a dimension is exchanged or not.

The checks are those of `das`: random subspaces of the size that was found, shuffled weights, answers drawn by lot.
Limits: with few steps the boundary stays near the middle, where it starts; the size that is found depends on how long
it is trained.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.alignment import Rate, Rows, Seed, Steps, Subspaces, Training
from cutaway.methods.alignment_grid import result_of
from cutaway.models.model import Model


@method(
    asks="How many dimensions does what decides the answer take?",
    cites="wu2023",
    needs=("unembedding", "causal", "contrast", "answers"),
)
def boundless_das(
    model: Model,
    task: Task,
    *,
    sites: Annotated[
        str,
        Field(
            description="where, each at one token: resid_post[*]@-1, resid_pre[8:16]@subject; "
            "empty: the stream at the last token after five layers"
        ),
    ] = "",
    steps: Steps = 30,
    rows: Rows = 8,
    rate: Rate = 0.01,
    boundary_rate: Annotated[float, Field(gt=0, description="learning rate of the boundary, as a share")] = 0.01,
    controls: Subspaces = 10,
    seed: Seed = 0,
) -> Result:
    """Train a rotation and a boundary at each site, and exchange what lies before it between held-out prompts."""
    how = Training(None, steps, rows, rate, boundary_rate, seed)
    return result_of(model, task.encode(model.tokenizer), sites, how, controls, seed)
