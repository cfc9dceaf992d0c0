"""How much does each word bring, on a path that goes from word to word instead of through empty space?

Integrated gradients whose path stays near real words [@sanyal2021]. From each token it goes to the one of its
nearest neighbours in the vocabulary that lies best between where the path is and the baseline; what of that
neighbour's coordinates would lead back is straightened, so that every coordinate moves towards the baseline only. The
last step goes to the baseline. Along the broken line the slopes are added up by the trapezoid rule:

    a_i = Σ_k (g_k + g_{k+1}) / 2 · (x_i^{k+1} - x_i^k)

What the sum leaves of f(x) - f(x') is the completeness gap, and is reported.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: neighbours of an embedding are often spellings of the same word. The path is greedy: it depends on the number of
neighbours and steps, its last step goes straight to the baseline however far that is, and more steps need not bring
the gap down.
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
from cutaway.methods.attribute.gradients import along, gradients_of, values_of
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding, vocabulary
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
    asks="How much does each word bring, on a path that goes from word to word?",
    cites="sanyal2021, deyoung2020",
    needs=("unembedding",),
)
def discretized_integrated_gradients(
    model: Model,
    task: Task,
    *,
    baseline: Annotated[Neutral, Field(description="the embedding that stands for no word")] = "mean",
    steps: Annotated[int, Field(ge=2, le=1000, description="words on the path of each token")] = 30,
    neighbours: Annotated[int, Field(ge=1, le=1000, description="nearest words that the next is chosen from")] = 50,
    score: ScoreName = "probability",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Integrated gradients along a path of words."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    nothing, every = neutral_embedding(model, baseline), vocabulary(model)
    attribution, empty = targets.empty(), targets.empty()[:, :, 0]
    scores, change = empty.copy(), empty.copy()
    with tracking("from word to word", total=len(targets)) as advance:
        for prompt in range(len(targets)):
            path = word_path(values_of(model, targets, [prompt])[0], nothing, every, steps, neighbours)
            found, values = _added_up(model, targets, prompt, path)
            placed(targets, prompt, found, attribution)
            scores[prompt, : values.shape[1]] = values[-1]
            change[prompt, : values.shape[1]] = values[-1] - values[0]
            advance(1)
    gap = np.nansum(attribution, axis=-1) - change
    return checked_map(
        model,
        targets,
        attribution,
        scores,
        title="Discretised integrated gradients",
        neutral=nothing,
        test=Test(share, controls, seed),
        unit=targets.unit,
        metrics={"completeness_gap": float(np.nanmax(np.abs(gap))), "steps": steps},
        arrays={"change_from_baseline": change, "completeness_gap": gap},
    )


@torch.no_grad()
def word_path(text: Tensor, nothing: Tensor, every: Tensor, steps: int, neighbours: int) -> Tensor:
    """Points [step, position, d_model] from the baseline to the text, each coordinate moving one way only.

    Args:
        text: embeddings [position, d_model].
        nothing: the baseline [d_model].
        every: the embeddings of the vocabulary [vocab, d_model].
        steps: points between the two ends.
        neighbours: how many nearest words are looked at for each step.
    """
    here, anchor, rows = text.clone(), text, torch.arange(len(text), device=text.device)
    points, sizes = [text], (every**2).sum(dim=-1)
    been = torch.zeros(len(text), len(every), dtype=torch.bool, device=text.device)
    been[rows, (sizes - 2 * text @ every.T).argmin(dim=-1)] = True
    for step in range(min(steps, len(every)) - 1):
        far = (sizes - 2 * anchor @ every.T).masked_fill(been, torch.inf)
        near = far.topk(min(neighbours, len(every) - step - 1), largest=False).indices
        words = every[near]  # [position, neighbour, d_model]
        between = (words - here[:, None]) * (nothing - words) >= 0
        straight = here + (nothing - here) / (steps - step)
        moved = torch.where(between, words, straight[:, None])
        best = (moved - words).norm(dim=-1).argmin(dim=1)
        here, anchor = moved[rows, best], words[rows, best]
        been[rows, near[rows, best]] = True
        points.append(here)
    return torch.stack([*points, nothing.to(text).expand_as(text)]).flip(0)


def _added_up(model: Model, targets: Targets, prompt: int, path: Tensor) -> tuple[Floats, Floats]:
    """Attributions [target, position] and the scores [step, target] along a path."""
    size = rows_at_once(model, path.shape[1], grad=True)
    # Trapezoids: a slope counts half for the move that ends at it and half for the one that begins there.
    moves = torch.nn.functional.pad((path[1:] - path[:-1]).double(), (0, 0, 0, 0, 1, 1))
    around = (moves[1:] + moves[:-1]) / 2
    sums, values = [], []
    for piece, change in zip(path.split(size), around.split(size), strict=True):
        rows = [prompt] * len(piece)
        found = gradients_of(model, targets, rows, embeddings=piece, reduce=along(change))
        sums.append(found.grads.sum(dim=1))
        values.append(found.values.double())
    return torch.stack(sums).sum(dim=0).cpu().numpy(), torch.cat(values).cpu().numpy()
