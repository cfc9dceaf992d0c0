"""What does a position's state lose in each layer when it cannot take the values of another position?

In one layer after the other the value vectors of one token are put to zero for all heads, and it is measured how far
the layer's output turns at every position: 1 - cos(output, output without the values of j) [@mohebbi2023]. Rows are
divided by their sums, and the layers multiplied from the first to the last, as in attention rollout [@abnar2020].
In an encoder-decoder the values that a decoder's layer takes from the encoder and from itself are put to zero in turn,
and its output's rows are shared out over both.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: nothing else of the layer is new (its queries and keys stay), and turning is measured wherever it points, also
where it does not matter for the score. One pass for each layer and token: the layers above it are not run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

Advance = Callable[[int], None]


@method(
    asks="What does a position lose when it cannot take the values of another?",
    cites="mohebbi2023, abnar2020, deyoung2020",
    needs=("unembedding", "attention"),
)
def value_zeroing(
    model: Model,
    task: Task,
    *,
    layer: Annotated[
        int | None, Field(ge=0, description="this layer alone (the decoder's); none: all, multiplied")
    ] = None,
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
    targets = targets_of(model, task, score, generate, continuation, foil)
    attribution = targets.empty()
    attending = [number for number, part in enumerate(model.anatomy.stacks[""].layers) if part.n_heads]
    chosen = attending if layer is None else [layer]
    for prompt, ids in each_text(targets, "putting values to zero"):
        source = targets.source(prompt)
        with tracking("layer by layer", total=len(chosen)) as advance:
            if source:
                matrix = _through_two_stacks(model, ids, source, chosen, advance, alone=layer is not None)
            else:
                layers = []
                for number in chosen:
                    layers.append(normalised(turned(model, ids, number)))
                    advance(1)
                matrix = product(layers)
        rows_of_targets(targets, prompt, matrix, attribution)
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
    found = _turned(model, ids, None, Site("v", layer), Site("resid_post", layer))
    # A later token's values reach nothing before it: what is there is rounding.
    return np.tril(found) if model.anatomy.is_causal else found


def _through_two_stacks(
    model: Model, ids: list[int], source: int, chosen: Sequence[int], advance: Advance, *, alone: bool
) -> Floats:
    """All layers of the encoder, then those of the decoder [place, place]; `alone`: of the decoder's layers only."""
    read, said = ids[:source], ids[source:]
    own, steps = [], []
    for number in () if alone else range(len(model.anatomy.stacks["encoder"].layers)):
        value, out = (Site(kind, number, stack="encoder") for kind in ("v", "resid_post"))
        own.append(normalised(_turned(model, read, said, value, out)))
    for number in chosen:
        out = Site("resid_post", number)
        across = _turned(model, read, said, Site("v", number, stack="cross"), out)
        within = np.tril(_turned(model, read, said, Site("v", number), out))
        whole = across.sum(axis=1, keepdims=True) + within.sum(axis=1, keepdims=True)
        size, still = np.maximum(whole, 1e-12), np.eye(len(said))
        steps.append((across / size, np.where(whole > 1e-12, within / size, still)))
        advance(1)
    return stepwise(own, steps)


def _turned(model: Model, ids: list[int], said: list[int] | None, value: Site, out: Site) -> Floats:
    """1 - cosine of an output at each position with and without the values of each token [position, token]."""
    base = model.run([ids], decoder=None if said is None else [said], read=[value, out], logits="none")
    count = base[value].shape[1]
    values = base[value].expand(count, *base[value].shape[1:]).clone()
    values[range(count), range(count)] = 0
    rows, others = [ids] * count, None if said is None else [said] * count
    without = model.run(rows, decoder=others, read=out, edit=[replace(value, values)], logits="none")[out]
    near = torch.cosine_similarity(base[out].double(), without.double(), dim=-1)
    found: Floats = (1 - near).clamp(min=0).T.cpu().numpy()
    return found
