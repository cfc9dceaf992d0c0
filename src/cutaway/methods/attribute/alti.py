"""From which tokens does each state take its content? Vectors added up by attention, measured where they arrive.

After a layer's attention, the stream at i is a sum of one vector from each position j: what the heads carry from
there, and at j = i the stream itself. A vector counts by how near it brings the sum to where it is, in the L1 norm
[@ferrando2022]:

    c_ij = max(0, ‖y_i‖₁ - ‖y_i - T_i(j)‖₁)        y_i = Σ_j T_i(j),   T_i(j) = Σ_h A_ij^h v_j^h W_O^h + [i = j] x_i

Rows are divided by their sums and multiplied through the layers as in rollout [@abnar2020] (ALTI). Two reads a layer, no gradients.

That the vectors add up to the stream is measured on every run (`sum_gap`). The check takes the tokens with the largest
values out together, against random other tokens [@deyoung2020].
Limits: MLPs are taken to leave the mix as it is, and the bias of the attention is given to no token. Where an
architecture puts a norm between attention and stream, the norm's scale is left out and the gap says how much.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.run import Run
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
    asks="From which tokens does each state take its content?",
    cites="ferrando2022, abnar2020, deyoung2020",
    needs=("unembedding", "attention"),
)
def alti(
    model: Model,
    task: Task,
    *,
    neutral: Annotated[Neutral, Field(description="what the check puts in the place of a token")] = "mean",
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Aggregated layer-wise contributions of tokens to the predicting position."""
    refuse_two_stacks(
        model, "alti", "its vectors are those of the one attention of a layer, and a decoder's layer has two"
    )
    targets = targets_of(model, task, score, generate, continuation, foil)
    attribution = targets.empty()
    gaps = []
    attending = [number for number, part in enumerate(model.anatomy.stacks[""].layers) if part.n_heads]
    for prompt, ids in each_text(targets, "adding up vectors"):
        kinds = ("pattern", "v", "resid_pre", "attn_contrib")
        run = model.run([ids], read=[f"{kind}[{layer}]" for layer in attending for kind in kinds], logits="none")
        layers = []
        for layer in attending:
            matrix, gap = contributions(model, run, layer)
            layers.append(normalised(matrix))
            gaps.append(gap)
        rows_of_targets(targets, prompt, product(layers), attribution)
    return checked_map(
        model,
        targets,
        attribution,
        scores_of_texts(model, targets),
        title="ALTI contributions",
        neutral=neutral,
        test=Test(share, controls, seed, signed=False),
        metrics={"sum_gap": float(max(gaps))},
    )


@torch.no_grad()
def contributions(model: Model, run: Run, layer: int) -> tuple[Floats, float]:
    """Contributions [position, token] in one layer, and by what part the vectors miss the stream that was read."""
    kinds = ("pattern", "v", "resid_pre", "attn_contrib")
    pattern, values, before, added = (run[f"{kind}[{layer}]"][0] for kind in kinds)
    weight = model.W_O(layer)
    heads = values.repeat_interleave(len(weight) // values.shape[1], dim=1)
    written = torch.einsum("jhd,hdm->hjm", heads, weight)
    pattern = pattern.to(written)
    bias = model.attention_bias(layer)
    found = np.zeros((len(before), len(before)))
    widest = 0.0
    for position in range(len(before)):
        seen = position + 1 if model.anatomy.is_causal else len(before)
        vectors = torch.einsum("hj,hjm->jm", pattern[:, position, :seen], written[:, :seen])
        vectors[position] += before[position]
        whole = vectors.sum(dim=0)
        near = whole.abs().sum() - (whole - vectors).abs().sum(dim=-1)
        found[position, :seen] = near.clamp(min=0).double().cpu().numpy()
        widest = max(widest, _missed(whole, before[position] + added[position], bias))
    return found, widest


def _missed(whole: Tensor, stream: Tensor, bias: Tensor | None) -> float:
    stream = stream if bias is None else stream - bias
    return float((whole - stream).norm() / stream.norm().clamp(min=1e-12))
