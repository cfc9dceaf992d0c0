"""Which heads copy, and which suppress, by their weights alone? OV and QK circuits of every head.

For each token t of a sample: does the head that attends to t raise t itself most (copying), or lower it most
(suppression)? And does a head that is asked by the prediction of t look for t [@elhage2021; @mcdougall2023]? Four
figures for each head: the eigenvalue score of the OV circuit (1 copies, -1 suppresses); the share of tokens among their
own k most raised outputs, and among their own k most lowered, of the whole vocabulary; the share of tokens that
prefer themselves as a key when the direction that their prediction has in the stream asks. A token stands as its
effective embedding (`cutaway.methods.full_circuits` defines it). The vocabulary is streamed; no table of tokens by
tokens is kept.

The checks take out the head that copies most and the one that suppresses most on the task's prompts, and measure what
becomes of the text's own tokens, against random heads.
Limits: weights say what a head would do if it attended to a token, not that it attends; what other layers add to a
token before the head reads it is left out.
"""

from __future__ import annotations

from typing import Annotated

import xarray as xr
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.circuit_figures import Figures, figures_of_heads
from cutaway.methods.context_effect import context_metric, lost_without
from cutaway.methods.control import compared, enough, sets_like, unchecked
from cutaway.methods.full_circuits import Embedding, as_grid, layers_with_heads, sampled_tokens
from cutaway.methods.labels import described
from cutaway.models.model import Model

SHOWN = 12
NAMES = {
    "copying": ("copying score of the OV circuit", ""),
    "own_top": ("share of tokens among their own most raised outputs", "share of tokens"),
    "own_bottom": ("share of tokens among their own most lowered outputs", "share of tokens"),
    "own_key": ("share of tokens that prefer themselves as a key", "share of tokens"),
}


@method(
    asks="Which heads copy tokens and which suppress them, by their weights?",
    cites="elhage2021, mcdougall2023",
    needs=("unembedding", "attention"),
)
def ov_qk_analysis(
    model: Model,
    task: Task,
    *,
    tokens: Annotated[
        int, Field(ge=0, description="tokens of the vocabulary that are looked at, drawn by lot; 0: all of them")
    ] = 400,
    k: Annotated[int, Field(ge=1, description="outputs that count as the most raised or lowered")] = 10,
    embedding: Annotated[
        Embedding,
        Field(description="what stands for a token: the stream after layer 0, what its MLP adds, or what enters it"),
    ] = "mlp_and_stream",
    controls: Annotated[
        int,
        Field(ge=0, description="random heads that the checks compare with, 5 or more; 0: no checks"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws tokens and random heads")] = 0,
) -> Result:
    """Measure every head's OV and QK circuit on a sample of the vocabulary."""
    encoded = task.encode(model.tokenizer)
    chosen = sampled_tokens(model, tokens, seed)
    layers = layers_with_heads(model)
    found = figures_of_heads(model, layers, chosen, k, embedding)
    data = _dataset(model, layers, found)
    checks = _checks(model, encoded, found, controls, seed) if controls else ()
    best, worst = _most(found, "own_top", 1), _most(found, "own_bottom", -1)
    return Result(
        data=data,
        metrics={
            "heads": len(found),
            "tokens": len(chosen),
            "copying_most": f"{best[0]}.{best[1]}",
            "suppressing_most": f"{worst[0]}.{worst[1]}",
            "largest_own_bottom": max(one["own_bottom"] for one in found.values()),
            "largest_own_top": max(one["own_top"] for one in found.values()),
        },
        views=_views(k),
        checks=checks,
        notes=(*encoded.notes, *unchecked(controls)),
    )


def _most(found: dict[tuple[int, int], Figures], share: str, sign: int) -> tuple[int, int]:
    """The head with the largest share of tokens among their own outputs; of equal ones that with the highest score."""
    return min(found, key=lambda head: (-found[head][share], -sign * found[head]["copying"], head))


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(model: Model, layers: list[int], found: dict[tuple[int, int], Figures]) -> xr.Dataset:
    heads = 1 + max(head for _, head in found)
    grids = {
        name: (("layer", "head"), as_grid(layers, heads, {at: one[name] for at, one in found.items()}))
        for name in NAMES
    }
    data = xr.Dataset(grids, coords={"layer": layers, "head": list(range(heads))})
    ordered = sorted(found, key=lambda at: -abs(found[at]["copying"]))[:SHOWN]
    for name in NAMES:
        data[f"strongest_{name}"] = ("strongest", [found[at][name] for at in ordered])
    data = data.assign_coords(strongest=[f"{layer}.{head}" for layer, head in ordered])
    said = {**NAMES, **{f"strongest_{name}": words for name, words in NAMES.items()}}
    return described(data, **said, strongest="head")


def _views(k: int) -> tuple[views.View, ...]:
    return (
        views.heatmap(
            value="copying", x="head", y="layer", title="Copying score of each head's OV circuit", scale="diverging"
        ),
        views.heatmap(
            value="own_bottom", x="head", y="layer", title=f"Share of tokens among their own {k} most lowered outputs"
        ),
        views.heatmap(
            value="own_key", x="head", y="layer", title="Share of tokens that the prediction of themselves looks for"
        ),
        views.table(
            columns=["strongest", *(f"strongest_{name}" for name in NAMES)],
            title="Heads with the strongest copying or suppression",
        ),
    )


# --- the checks --------------------------------------------------------------------------------------------------


def _checks(
    model: Model, encoded: EncodedTask, found: dict[tuple[int, int], Figures], controls: int, seed: int
) -> tuple[Check, ...]:
    """Take the two out, and random heads, and see what becomes of the text's own tokens."""
    copies, suppresses = (Site("z", *_most(found, *how)) for how in (("own_top", 1), ("own_bottom", -1)))
    pool = [Site("z", layer, head) for layer, head in found]
    others = [one[0] for one in sets_like([copies], pool, controls, seed, lambda site: site.kind)]
    heads = list(dict.fromkeys([copies, suppresses, *others]))
    lost = dict(zip(heads, lost_without(model, encoded, heads, context_metric(model, encoded, seed)), strict=True))
    how = (
        "Put the head's mean in its place and measure by how much the prompt's own tokens {} against tokens that are not "
        "in it; the control takes out random heads."
    )
    same = [float(lost[site]) for site in others]
    return (
        compared(
            float(lost[copies]),
            same,
            claim=f"Head {copies.layer}.{copies.head}, which copies most by its weights, raises the text's own tokens.",
            how=how.format("fall"),
            unit="logits",
        ),
        compared(
            -float(lost[suppresses]),
            [-value for value in same],
            claim=f"Head {suppresses.layer}.{suppresses.head}, which suppresses most by its weights, lowers them.",
            how=how.format("rise"),
            unit="logits",
        ),
    )
