"""Does a head take back what is predicted and already stands in the text? Copy suppression, by weights and by effect.

Where earlier layers predict a token that occurs in the text, a copy-suppressing head attends to that occurrence and
writes against it [@mcdougall2023]. Three kinds of evidence for each head: its OV circuit (the share of tokens among
their own most lowered outputs), its QK circuit (the share of tokens that the prediction of themselves looks for), and
on the task's prompts the share of its direct effect that is left when everything but copy suppression is taken away
(CSPA: `cutaway.methods.copy_preserving` defines it). Heads are ranked by their weights; the ones that suppress most are
ablated, beside random heads, which is the check.

Limits: a share is of the head's effect on these prompts, which may be small; direct effects alone are counted; the
divergence is what is reported, for the loss can disagree with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import xarray as xr
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.errors import ParameterError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.cells import cells_of
from cutaway.methods.circuit_figures import Figures, figures_of_heads
from cutaway.methods.control import compared, enough, sets_like, unchecked
from cutaway.methods.copy_preserving import Preserved, preserved, read_text
from cutaway.methods.full_circuits import layers_with_heads, sampled_tokens
from cutaway.methods.labels import described
from cutaway.models.model import Model

Head = tuple[int, int]


@method(
    asks="Which heads take back predictions of tokens that are already in the text?",
    cites="mcdougall2023",
    needs=("unembedding", "causal", "attention"),
)
def copy_suppression(
    model: Model,
    task: Task,
    *,
    heads: Annotated[
        str, Field(description="heads to ablate, as z[10].head[7]; empty: those that suppress most by their weights")
    ] = "",
    top: Annotated[int, Field(ge=1, description="how many heads are ablated where none are named")] = 3,
    tokens: Annotated[
        int, Field(ge=0, description="tokens of the vocabulary that the circuits are measured on; 0: all of them")
    ] = 200,
    k: Annotated[int, Field(ge=1, description="outputs that count as the most lowered")] = 10,
    share: Annotated[
        float, Field(gt=0, le=1, description="share of a destination's sources that count as predicted, rounded up")
    ] = 0.05,
    destinations: Annotated[int, Field(ge=0, description="positions of the prompts that are scored; 0: all")] = 64,
    controls: Annotated[
        int,
        Field(ge=0, description="random heads that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 10,
    seed: Annotated[int, Field(ge=0, description="draws tokens, positions and random heads")] = 0,
) -> Result:
    """Rank heads by their circuits, and measure how much of their effect copy suppression alone preserves."""
    encoded = task.encode(model.tokenizer)
    layers = layers_with_heads(model)
    figures = figures_of_heads(model, layers, sampled_tokens(model, tokens, seed), k, "mlp_and_stream")
    named = _named(model, heads, encoded) if heads else ranked(figures)[:top]
    others = _others(named, list(figures), controls, seed)
    found = ablated(model, encoded, [*named, *others], share=share, destinations=destinations, seed=seed)
    checks = (_check(named[0], found, others),) if others else ()
    data = _dataset(layers, figures, named, others, found)
    best = named[0]
    return Result(
        data=data,
        metrics={
            "head": f"{best[0]}.{best[1]}",
            "preserved": found[best].share,
            "kl_mean_ablated": found[best].mean,
            "kl_preserving": found[best].kept,
            "own_bottom": figures[best]["own_bottom"],
            "own_key": figures[best]["own_key"],
            "copying": figures[best]["copying"],
        },
        views=_views(k, bool(others)),
        checks=checks,
        notes=(*encoded.notes, *unchecked(controls)),
    )


def ranked(figures: Mapping[Head, Figures]) -> list[Head]:
    """Heads by how much they suppress by their weights: most tokens among their own lowest outputs first."""
    return sorted(figures, key=lambda at: (-figures[at]["own_bottom"], figures[at]["copying"], at))


def ablated(
    model: Model, encoded: EncodedTask, heads: Sequence[Head], *, share: float, destinations: int, seed: int
) -> dict[Head, Preserved]:
    """For each head what its ablations do to the predictions of the task's prompts."""
    text = read_text(model, encoded, [layer for layer, _ in heads], destinations=destinations, seed=seed)
    different = list(dict.fromkeys(heads))
    return {
        (layer, head): preserved(model, text, Site("z", layer, head), share=share)
        for layer, head in track(different, "ablating heads")
    }


def _named(model: Model, heads: str, encoded: EncodedTask) -> list[Head]:
    found = []
    for site in cells_of(model, heads, max(map(len, encoded.ids))):
        if site.kind != "z" or not isinstance(site.layer, int) or not isinstance(site.head, int):
            raise ParameterError(
                f"'{site}' is not a head;", "copy suppression is measured head by head.", "Write z[10].head[7]."
            )
        found.append((site.layer, site.head))
    return found


def _others(named: Sequence[Head], pool: Sequence[Head], controls: int, seed: int) -> list[Head]:
    if not controls:
        return []
    return [one[0] for one in sets_like([named[0]], pool, controls, seed, lambda head: "head")]


def _check(head: Head, found: Mapping[Head, Preserved], others: Sequence[Head]) -> Check:
    return compared(
        found[head].share,
        [found[other].share for other in others],
        claim=f"What head {head[0]}.{head[1]} does to these predictions directly is copy suppression.",
        how="Take away everything but copy suppression, and compare the divergence with that of a mean ablation; the "
        "control does the same to random heads.",
        unit="share of the direct effect",
    )


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(
    layers: list[int],
    figures: Mapping[Head, Figures],
    named: Sequence[Head],
    others: Sequence[Head],
    found: Mapping[Head, Preserved],
) -> xr.Dataset:
    width = 1 + max(head for _, head in figures)
    grids = {name: np.full((len(layers), width), np.nan) for name in ("own_bottom", "own_key", "copying")}
    for (layer, head), one in figures.items():
        for name, grid in grids.items():
            grid[layers.index(layer), head] = one[name]
    heads = [*named, *dict.fromkeys(other for other in others if other not in named)]
    sort = ["most suppressing" if head in named else "random" for head in heads]
    data = xr.Dataset(
        {
            **{name: (("layer", "head"), grid) for name, grid in grids.items()},
            "preserved": ("ablated", [found[head].share for head in heads]),
            "kl_mean_ablated": ("ablated", [found[head].mean for head in heads]),
            "kl_preserving": ("ablated", [found[head].kept for head in heads]),
            "sources_kept": ("ablated", [found[head].sources for head in heads]),
            "sort": ("ablated", sort),
        },
        coords={"layer": layers, "head": list(range(width)), "ablated": [f"{one}.{two}" for one, two in heads]},
    )
    nats = "nats of KL divergence"
    return described(
        data,
        own_bottom=("share of tokens among their own most lowered outputs", "share of tokens"),
        own_key=("share of tokens that the prediction of themselves looks for", "share of tokens"),
        copying=("copying score of the OV circuit", ""),
        preserved=("share of the direct effect that copy suppression preserves", "share"),
        kl_mean_ablated=("divergence when mean-ablated", nats),
        kl_preserving=("divergence with copy suppression kept", nats),
        ablated="head",
    )


def _views(k: int, compared_with_random: bool) -> tuple[views.View, ...]:
    title = "Divergence of each ablated head: mean ablation against copy suppression alone"
    return (
        views.bars(
            value="preserved",
            label="ablated",
            group="sort" if compared_with_random else None,
            title="Share of a head's direct effect that copy suppression preserves",
        ),
        views.scatter(x="kl_mean_ablated", y="kl_preserving", label="ablated", title=title),
        views.heatmap(
            value="own_bottom", x="head", y="layer", title=f"Share of tokens among their own {k} most lowered outputs"
        ),
        views.table(
            columns=["ablated", "sort", "kl_mean_ablated", "kl_preserving", "preserved"], title="Ablated heads"
        ),
    )
