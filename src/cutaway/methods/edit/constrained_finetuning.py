"""What does plain fine-tuning do to a fact, with and without a bound on how far each weight may move?

The baseline of editing: gradient steps (Adam) on one MLP's last matrix until the model says the new answers, with every
weight kept within a bound of where it was [@zhu2020; @meng2022] (FT+L), or without one (`bound=0`, FT). All tokens of an
answer are trained, not the last alone. The change is tried without touching a weight.

Layer, report, checks and artifact are those of `rome`.
Limits: the bound is absolute, as in the paper, so how tight it is depends on the size of a model's weights; without a
bound the facts are learned by heart and much else is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.data.edit_requests import EditRequest, requests_of
from cutaway.methods.edit import layer_choice
from cutaway.methods.edit.options import Layer, OtherFacts, RandomChanges, Subject, Unrelated
from cutaway.methods.edit.report import Asked, report
from cutaway.methods.edit.rows import row_of_request
from cutaway.methods.edit.target_value import ENOUGH
from cutaway.methods.labels import described
from cutaway.models.model import Model
from cutaway.models.trial import Projection, down_projection, in_batches, logits_at, matrix_added


@method(
    asks="What does fine-tuning one matrix do to a fact?",
    cites="zhu2020, meng2022",
    needs=("unembedding", "causal", "answers"),
)
def constrained_finetuning(
    model: Model,
    task: Task,
    *,
    subject: Subject = "",
    layer: Layer = None,
    bound: Annotated[float, Field(ge=0, description="how far each weight may move (L∞); 0: as far as it goes")] = 5e-4,
    rate: Annotated[float, Field(gt=0, description="size of a step of Adam")] = 5e-4,
    steps: Annotated[int, Field(ge=1, description="gradient steps, at most")] = 25,
    unrelated: Unrelated = 6,
    other_facts: OtherFacts = 16,
    controls: RandomChanges = 6,
    seed: Annotated[int, Field(ge=0, description="draws noise, texts and random changes")] = 0,
) -> Result:
    """Fine-tune one MLP's last matrix on the task's answers, all at once."""
    requests, notes = requests_of(task, subject)
    chosen, _, how = layer_choice.chosen(model, layer, requests, seed)
    projection = down_projection(model, chosen)
    new, loss = write(model, requests, projection, bound=bound, rate=rate, steps=steps)
    data = described(xr.Dataset({"loss": ("step", list(loss))}), loss=("loss of the new answers", "nats a token"))
    return report(
        model,
        requests,
        {projection.name: new},
        asked=Asked(controls, unrelated, other_facts, seed),
        about={"method": "constrained_finetuning", "layers": [chosen], "bound": bound},
        notes=(*notes, *how),
        metrics={
            "layer": chosen,
            "largest_change_of_a_weight": float((new - projection.stored(projection.weight)).abs().max()),
        },
        data=data,
        more_views=(views.curves(value="loss", x="step", title="Loss of the new answers"),),
    )


def write(
    model: Model, requests: Sequence[EditRequest], projection: Projection, *, bound: float, rate: float, steps: int
) -> tuple[Tensor, tuple[float, ...]]:
    """The matrix after gradient steps, as the module keeps it, and the loss at each; the model is not touched.

    Args:
        model: the network.
        requests: the facts.
        projection: the matrix.
        bound: how far each weight may move; 0 for no bound.
        rate: of Adam.
        steps: at most.
    """
    rows = [row_of_request(model, request) for request in requests]
    change = torch.zeros_like(projection.weight, dtype=torch.float32, requires_grad=True)
    optimiser = torch.optim.Adam([change], lr=rate)
    losses: list[float] = []
    for step in track(range(steps + 1), "fine-tuning"):
        total, gradient = 0.0, torch.zeros_like(change)
        for batch in in_batches([row.ids for row in rows]):
            with torch.enable_grad():
                taps = matrix_added(projection, change)
                logits = logits_at(model, [rows[i].ids for i in batch], [rows[i].before_answer for i in batch], taps)
                parts = [_loss(values, rows[i].answer) for i, values in zip(batch, logits)]
                loss = torch.stack(parts).sum() / len(rows)
                (slope,) = torch.autograd.grad(loss, [change])
            total, gradient = total + float(loss.detach()), gradient + slope
        losses.append(total)
        if total < ENOUGH or step == steps:
            break
        change.grad = gradient
        optimiser.step()
        if bound:
            with torch.no_grad():
                change.clamp_(-bound, bound)
    return projection.stored(projection.weight.double() + change.detach().double()), tuple(losses)


def _loss(logits: Tensor, answer: Sequence[int]) -> Tensor:
    wanted = torch.tensor(answer, device=logits.device)
    return -logits.float().log_softmax(-1).gather(-1, wanted[:, None]).mean()
