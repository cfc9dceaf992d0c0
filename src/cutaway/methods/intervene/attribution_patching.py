"""What would patching find, at the price of one backward pass?

The effect of carrying a value from a source run into a base run, to first order [@nanda2023]:

    effect(site) ≈ (value in the source - value in the base) · ∂ metric / ∂ value, at the base

Two forward passes and one backward pass give it for every cell of a map. With `steps` above one the gradient is the
mean over as many points on the way from the base's embeddings to the source's [@hanna2024; @sundararajan2017], which
follows the curve of the network better. As in `patching`, an effect is a share of the difference between the runs.

The approximation is tested against the truth: a random sample of cells, and the cells with the largest estimates, are
patched exactly. Reported are the correlation, the slope, the agreement of signs and the error on the random sample.
Limits: where a value changes much (the residual stream) or attention is saturated, first order is far off; a cell
whose estimate is near zero may still matter [@kramar2024]. That is why the sample is part of the method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.edit import replace
from cutaway.core.errors import TaskError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.run import token_positions
from cutaway.core.site import KINDS, Site
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.cells import cells_of, grids, map_views, that_can_differ
from cutaway.methods.control import compared
from cutaway.methods.correlation import correlation
from cutaway.methods.labels import described
from cutaway.methods.scoring import as_words
from cutaway.methods.smooth import smooth_metric
from cutaway.models.encode import Encoded
from cutaway.models.metric import Metric, metric_of
from cutaway.models.model import Model

Floats = NDArray[np.float64]
PROMPTS_AT_ONCE = 8
SHUFFLES = 200
SHARE = "share of the difference"


@method(
    asks="What would patching find, at the price of one backward pass?",
    cites="nanda2023, hanna2024, sundararajan2017, kramar2024",
    needs=("unembedding", "contrast", "answers"),
)
def attribution_patching(
    model: Model,
    task: Task,
    *,
    sites: Annotated[
        str,
        Field(description="cells: z[*].head[*] (layer by head), mlp_out[*]@* (layer by position), resid_pre[*]@*"),
    ] = "z[*].head[*]",
    direction: Annotated[
        Literal["denoise", "noise"],
        Field(description="denoise: the prompt's values into the contrast's run; noise: the other way round"),
    ] = "denoise",
    steps: Annotated[
        int, Field(ge=1, le=200, description="points at which the gradient is taken; 1: at the base alone")
    ] = 1,
    top: Annotated[int, Field(ge=1, description="cells with the largest estimates that are patched exactly")] = 10,
    sample: Annotated[int, Field(ge=5, description="random cells that are patched exactly")] = 40,
    seed: Annotated[int, Field(ge=0, description="draws the random cells and the controls")] = 0,
) -> Result:
    """Estimate the effect of patching every cell, and patch a sample of them exactly."""
    encoded = task.encode(model.tokenizer)
    name, said = smooth_metric(encoded)
    metric = metric_of(encoded, name)
    cells = cells_of(model, sites, max(map(len, encoded.ids)))
    estimate = _estimate(model, encoded, metric, cells, direction, steps)
    gap = _gap(estimate)
    effect = np.nan_to_num(estimate.moved).mean(axis=0) / gap
    able = set(that_can_differ(model, encoded, cells))
    largest, random = _chosen(effect, [i for i, site in enumerate(cells) if site in able], top, sample, seed)
    tested = [*largest, *random]
    exact = _exact(model, encoded, metric, [cells[i] for i in tested], direction, gap)
    maps = grids(model, encoded.ids, cells, effect, f"estimated {SHARE}")
    return Result(
        data=_dataset(encoded, cells, estimate, effect, tested, exact, len(largest)).merge(maps),
        metrics={
            "base": float(estimate.base.mean()),
            "source": float(estimate.source.mean()),
            "largest_effect": float(effect[largest[0]]),
            "cell_with_largest_effect": str(cells[largest[0]]),
            "cells": len(cells),
            **_agreement(effect[random], exact[len(largest) :]),
        },
        views=(*map_views(maps, f"Estimated share of the {as_words(name)} moved by"), *_views()),
        checks=_checks(effect[random], exact, len(largest), seed, len(able) < len(cells)),
        notes=(*encoded.notes, *((encoded.summary,) if encoded.dropped else ()), *said),
    )


# --- the estimate ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Estimate:
    """First-order effects.

    Attributes:
        moved: by how much the metric would move [prompt, cell]; missing where a prompt has no such position.
        base, source: the metric of the two runs [prompt].
    """

    moved: Floats
    base: Floats
    source: Floats


def _estimate(
    model: Model, encoded: EncodedTask, metric: Metric, cells: Sequence[Site], direction: str, steps: int
) -> Estimate:
    base, source = encoded.contrast_ids, encoded.ids
    if direction == "noise":
        base, source = source, base
    parts = []
    for start in track(range(0, len(base), PROMPTS_AT_ONCE), "gradients at the cells"):
        piece = slice(start, start + PROMPTS_AT_ONCE)
        named = {name: where[piece] for name, where in encoded.positions.items()}
        parts.append(
            _of_prompts(
                model,
                Encoded(tuple(base[piece]), named),
                Encoded(tuple(source[piece]), named),
                dataclasses.replace(metric, answers=metric.answers[piece], wrong=metric.wrong[piece]),
                cells,
                steps,
            )
        )
    return Estimate(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("moved", "base", "source")))


def _of_prompts(
    model: Model, base: Encoded, source: Encoded, metric: Metric, cells: Sequence[Site], steps: int
) -> Estimate:
    wholes = tuple(dict.fromkeys(site.whole for site in cells))
    there = model.run(source, read=(*wholes, "embed"), logits="last", metric=metric)
    here = model.run(base, read=(*wholes, "embed"), logits="last", metric=metric)
    slopes: dict[Site, Tensor] = {}
    for step in range(steps):
        # One step: at the base itself. More: the middles of as many pieces of the way to the source.
        along = (step + 0.5) / steps if steps > 1 else 0.0
        edit = replace("embed", here["embed"] + along * (there["embed"] - here["embed"])) if along else None
        run = model.grad(base, metric, at=wholes, edit=edit)
        for site in wholes:
            slopes[site] = slopes.get(site, 0) + run.grad(site) / steps
    products = {site: (there[site] - here[site]) * slopes[site] for site in wholes}
    moved = torch.stack([_summed(products[site.whole], site, base) for site in cells], dim=1)
    assert here.metric is not None and there.metric is not None
    return Estimate(*(value.double().cpu().numpy() for value in (moved, here.metric, there.metric)))


def _summed(product: Tensor, site: Site, encoded: Encoded) -> Tensor:
    """The sum of a product [prompt, ...] over the part of it that a cell names [prompt]."""
    dims = ["prompt", *KINDS[site.kind][1]]
    for name, index in (("head", site.head), (dims[-1], site.unit)):
        if isinstance(index, int):
            product = product.select(dims.index(name), index)
            dims.remove(name)
    where = "query" if "query" in dims else "position"
    product = product.movedim(dims.index(where), 1).double()
    product = product.flatten(2).sum(dim=2) if product.dim() > 2 else product
    if not isinstance(site.position, int | str):
        return product.sum(dim=1)
    found = product.new_full((len(product),), torch.nan)
    for row, length in enumerate(encoded.lengths):
        if isinstance(site.position, str) or -length <= site.position < length:
            named = {name: [where_[row]] for name, where_ in encoded.named.items()}
            found[row] = product[row, token_positions(site.position, [length], named)[0]]
    return found


def _gap(estimate: Estimate) -> float:
    """Mean difference of the metric between source and base."""
    gap = float((estimate.source - estimate.base).mean())
    if abs(gap) <= 1e-5 * float((np.abs(estimate.source) + np.abs(estimate.base)).mean()):
        raise TaskError(
            f"prompts and contrasts score alike ({estimate.base.mean():.4g} and {estimate.source.mean():.4g});",
            "patching measures how far a value moves the metric from the one to the other, so they must differ.",
            "Give contrasts that change the answer, or answers and wrong answers that tell them apart.",
        )
    return gap


# --- the truth ---------------------------------------------------------------------------------------------------


def _chosen(effect: Floats, able: Sequence[int], top: int, sample: int, seed: int) -> tuple[list[int], list[int]]:
    """Places of the cells with the largest estimates, and of a random sample of those that can have an effect."""
    largest = np.argsort(-np.abs(effect), kind="stable")[: min(top, len(effect))].tolist()
    random = np.random.default_rng(seed).choice(able, min(sample, len(able)), replace=False)
    return largest, sorted(random.tolist())


def _exact(
    model: Model, encoded: EncodedTask, metric: Metric, cells: Sequence[Site], direction: str, gap: float
) -> Floats:
    """The measured effect of patching each of these cells."""
    distinct = list(dict.fromkeys(cells))
    sweep = model.sweep(encoded, over=distinct, edit="patch", direction=direction, metric=metric)
    moved = (sweep.values - sweep.base[:, None]).double().nan_to_num().mean(dim=0) / gap
    found = dict(zip(distinct, moved.tolist(), strict=True))
    return np.array([found[site] for site in cells])


_WHICH = " (none before the first token that differs)"


def _agreement(estimate: Floats, exact: Floats) -> dict[str, float]:
    """How the estimates of the random sample compare with the truth."""
    clear = np.abs(exact) > 1e-3 * np.abs(exact).max(initial=0.0)
    signs = np.sign(estimate[clear]) == np.sign(exact[clear])
    return {
        "correlation": correlation(estimate, exact),
        "slope": float((estimate * exact).sum() / max(float((exact**2).sum()), 1e-30)),
        "sign_agreement": float(signs.mean()) if clear.any() else 1.0,
        "error": float(np.sqrt(((estimate - exact) ** 2).mean())),
    }


def _checks(estimate: Floats, exact: Floats, n_largest: int, seed: int, fewer: bool) -> tuple[Check, ...]:
    """Do the estimates follow the truth, and do the cells with the largest ones matter?"""
    random = np.random.default_rng(seed)
    truth = exact[n_largest:]
    follows = compared(
        correlation(estimate, truth),
        [correlation(random.permutation(estimate), truth) for _ in range(SHUFFLES)],
        claim="The estimates follow the exact effects.",
        how=f"Patch {len(truth)} random cells exactly{_WHICH if fewer else ''} and correlate; the control shuffles the estimates.",
        unit="correlation",
    )
    matters = compared(
        float(np.abs(exact[:n_largest]).mean()),
        [float(np.abs(random.choice(truth, n_largest)).mean()) for _ in range(SHUFFLES)],
        claim=f"The {n_largest} cells with the largest estimates are cells with large effects.",
        how="Patch each of them exactly and take the mean size of the effects; the control draws as many from the "
        "random sample.",
        unit=SHARE,
    )
    return follows, matters


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(
    encoded: EncodedTask,
    cells: Sequence[Site],
    estimate: Estimate,
    effect: Floats,
    tested: Sequence[int],
    exact: Floats,
    n_largest: int,
) -> xr.Dataset:
    names = [str(site) for site in cells]
    arrays: Mapping[str, tuple[str | tuple[str, ...], Floats]] = {
        "estimated_change": (("prompt", "cell"), estimate.moved),
        "base_metric": ("prompt", estimate.base),
        "source_metric": ("prompt", estimate.source),
        "effect": ("cell", effect),
        "estimated": ("tested", effect[list(tested)]),
        "exact": ("tested", exact),
    }
    data = xr.Dataset(dict(arrays)).assign_coords(
        prompt=list(encoded.prompts),
        cell=names,
        tested_cell=("tested", [names[i] for i in tested]),
        chosen=("tested", ["largest"] * n_largest + ["random"] * (len(tested) - n_largest)),
    )
    return described(
        data, tested_cell="cell", chosen="chosen as", estimated=f"estimated {SHARE}", exact=f"exact {SHARE}"
    )


def _views() -> tuple[views.View, ...]:
    return (
        views.scatter(x="exact", y="estimated", label="tested_cell", title="Estimated against exact effects"),
        views.table(columns=["tested_cell", "chosen", "estimated", "exact"], title="Cells that were patched exactly"),
    )
