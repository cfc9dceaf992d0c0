"""Where does the predicting position look? Attention read as an attribution, layer by layer or rolled out.

`raw` is the attention of the position that predicts, averaged over heads and over the layers asked for (in an
encoder-decoder the decoder's cross-attention, and its attention to what it has said). `rollout` takes half of each
position's own stream along and multiplies the layers' patterns from the first to the last [@abnar2020]; in an
encoder-decoder each attention is a step: the encoder's layers, then of each decoder layer its own and its cross-attention.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020]: attention
often marks tokens that could be taken out without loss, the first one above all [@jain2019]. That is what it is for.
Limits: a pattern says where a head looks, not what it takes from there: nothing of values, MLPs and directions is in it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.checked import Floats, Test, checked_map, scores_of_texts
from cutaway.methods.attribute.mixing import each_text, normalised, product, rows_of_targets, stepwise
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
    asks="Where does the predicting position look?",
    cites="abnar2020, jain2019, deyoung2020",
    needs=("unembedding", "attention"),
)
def attention_map(
    model: Model,
    task: Task,
    *,
    kind: Annotated[
        Literal["raw", "rollout"], Field(description="the patterns as they are, or multiplied through the layers")
    ] = "raw",
    layers: Annotated[list[int] | None, Field(description="of raw: the layers that are averaged; none: all")] = None,
    neutral: Annotated[Neutral, Field(description="what the check puts in the place of a token")] = "mean",
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Attention of the predicting position to each token."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    attribution = targets.empty()
    for prompt, ids in each_text(targets, "reading attention"):
        if targets.source(prompt) and kind == "rollout":
            matrix = _rolled_through_two_stacks(model, ids, targets.source(prompt))
        elif targets.source(prompt):
            matrix = _of_two_stacks(model, ids, targets.source(prompt), layers)
        else:
            matrix = _of_one_stack(model, ids, kind, layers)
        rows_of_targets(targets, prompt, matrix, attribution)
    return checked_map(
        model,
        targets,
        attribution,
        scores_of_texts(model, targets),
        title="Attention" if kind == "raw" else "Attention rollout",
        neutral=neutral,
        test=Test(share, controls, seed, signed=False),
        unit="share of attention",
    )


def _of_one_stack(model: Model, ids: list[int], kind: str, layers: list[int] | None) -> Floats:
    chosen = layers if layers is not None and kind == "raw" else _attending(model)
    sites = [f"pattern[{layer}]" for layer in chosen]
    run = model.run([ids], read=", ".join(sites), logits="none")
    each = [run[site][0].double().mean(dim=0).cpu().numpy() for site in sites]
    if kind == "raw":
        mean: Floats = np.mean(each, axis=0)
        return mean
    return product([normalised((pattern + np.eye(len(ids))) / 2) for pattern in each])


def _attending(model: Model) -> list[int]:
    """Layers that have attention."""
    return [number for number, layer in enumerate(model.anatomy.stacks[""].layers) if layer.n_heads]


def _of_two_stacks(model: Model, ids: list[int], source: int, layers: list[int] | None) -> Floats:
    """Cross-attention to the source and attention to what was said, half each [place, place]."""
    chosen = layers if layers is not None else list(range(model.anatomy.n_layers))
    pairs = [(f"cross.pattern[{layer}]", f"pattern[{layer}]") for layer in chosen]
    read = ", ".join(site for pair in pairs for site in pair)
    run = model.run([ids[:source]], decoder=[ids[source:]], read=read, logits="none")
    found = np.zeros((len(ids), len(ids)))
    for cross, own in pairs:
        found[source:, :source] += run[cross][0].double().mean(dim=0).cpu().numpy() / (2 * len(pairs))
        found[source:, source:] += run[own][0].double().mean(dim=0).cpu().numpy() / (2 * len(pairs))
    return found


def _rolled_through_two_stacks(model: Model, ids: list[int], source: int) -> Floats:
    """Rollout [place, place]: half of what each attention takes, half of what was there before it."""
    depth = model.anatomy.n_layers
    kinds = [f"{stack}pattern[{layer}]" for layer in range(depth) for stack in ("", "cross.")]
    run = model.run([ids[:source]], decoder=[ids[source:]], read=["encoder.pattern[*]", *kinds], logits="none")

    def mean(pattern: Tensor) -> Floats:
        found: Floats = pattern.double().mean(dim=-3).cpu().numpy()
        return found

    own = [(pattern + np.eye(source)) / 2 for pattern in mean(run["encoder.pattern[*]"][:, 0])]
    here, steps = np.eye(len(ids) - source), []
    for layer in range(depth):
        within, across = mean(run[f"pattern[{layer}]"][0]), mean(run[f"cross.pattern[{layer}]"][0])
        steps.append((np.zeros_like(across), (within + here) / 2))
        steps.append((across / 2, here / 2))
    return stepwise(own, steps)
