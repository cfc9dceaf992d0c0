"""Which heads do the same? The distances between their attention, and a map that keeps them.

Two heads are as far apart as the Jensen–Shannon divergence of their attention, averaged over the positions of the
prompts [@clark2019]. Its root is a distance in a Euclidean space [@endres2003], so that classical scaling (from
eigenvectors, no random start) draws the map that keeps the distances best; average linkage gives the clusters. Each head
is labelled by what it rests on, where it gives more than half of its attention to one place.
The check tests the observation that heads of one layer are alike: the mean distance within layers against layers dealt
out at random.
Limits: two dimensions hold part of the distances, and the metrics say how much. Heads that rest on one token
are near each other whatever they do with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.methods.control import compared, enough, unchecked
from cutaway.methods.distances import clusters as clustered
from cutaway.methods.distances import jensen_shannon, scaling
from cutaway.methods.labels import described
from cutaway.methods.observe.attention_statistics import PLACES, attention_summary, pieces
from cutaway.methods.reading_options import Heads
from cutaway.methods.words import WordTokens, head_name, heads_of, token_attention
from cutaway.models.model import Model


@method(
    asks="Which heads attend alike?",
    cites="clark2019, endres2003",
    needs=("attention",),
)
def attention_clusters(
    model: Model,
    task: Task,
    *,
    sites: Heads = "pattern[*]",
    clusters: Annotated[int, Field(ge=1, description="how many clusters")] = 6,
    controls: Annotated[
        int,
        Field(ge=0, description="random layers that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 200,
    seed: Annotated[int, Field(ge=0, description="deals out the random layers")] = 0,
) -> Result:
    """Distances between heads, a map of them, and clusters."""
    heads = heads_of(model, sites)
    found = pieces(model, task, "tokens")
    divergence = head_divergence(model, found, heads)
    points, share = scaling(divergence)
    resting = np.nan_to_num(attention_summary(model, found, heads).attention)
    layers = np.array([int(str(site.layer)) for site in heads])
    names = np.array([head_name(site) for site in heads], dtype=object)
    rests = [PLACES[int(column.argmax())] if column.max() > 0.5 else "spread out" for column in resting.T]
    data = xr.Dataset(
        {
            "distance": (("head", "other"), np.sqrt(divergence)),
            "x": (("head",), points[:, 0]),
            "y": (("head",), points[:, 1]),
            "layer": (("head",), layers),
            "cluster": (("head",), clustered(np.sqrt(divergence), min(clusters, len(heads)))),
            "rests_on": (("head",), np.array(rests, dtype=object)),
        },
        coords={"head": names, "other": names},
    )
    data = described(
        data, distance=("distance", "square root of nats"), rests_on="rests on", x="first axis", y="second axis"
    )
    check, said = _check(np.sqrt(divergence), layers, controls, seed) if controls else ((), unchecked(controls))
    return Result(
        data=data,
        metrics={
            "variance_on_the_map": float(share.sum()),
            "mean_distance_between_heads": _mean_within(np.sqrt(divergence), np.zeros(len(heads))),
        },
        views=_views(),
        checks=check,
        notes=said,
    )


def head_divergence(model: Model, found: Sequence[WordTokens], heads: Sequence[Site]) -> NDArray[np.float64]:
    """The Jensen–Shannon divergence (nats) between each two heads [head, head], mean over all positions."""
    total, rows = torch.zeros(len(heads), len(heads), dtype=torch.float64), 0
    for _, pattern in token_attention(model, found, heads):
        size = pattern.shape[-1]
        total += jensen_shannon(pattern.double().cpu()) * size
        rows += size
    return (total / rows).numpy()


def _mean_within(distances: NDArray[np.float64], groups: NDArray) -> float:
    """The mean distance between two different heads of one group."""
    same = (groups[:, None] == groups[None]) & ~np.eye(len(groups), dtype=bool)
    return float(distances[same].mean()) if same.any() else 0.0


def _check(
    distances: NDArray[np.float64], layers: NDArray[np.int64], controls: int, seed: int
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    if len(set(layers.tolist())) < 2 or len(layers) == len(set(layers.tolist())):
        return (), ("Heads of one layer cannot be told from others here, so nothing was checked.",)
    random = np.random.default_rng(seed)
    own = _mean_within(distances, layers)
    others = [_mean_within(distances, random.permutation(layers)) for _ in range(controls)]
    everywhere = _mean_within(distances, np.zeros(len(layers)))
    check = compared(
        everywhere - own,
        [everywhere - other for other in others],
        claim="Heads of one layer attend more alike than heads of different layers.",
        how="By how much the mean distance within layers is below the mean distance of all heads; the control deals the "
        "heads out to layers at random.",
        unit="square root of nats",
    )
    return (check,), ()


def _views() -> tuple[views.View, ...]:
    return (
        views.scatter(
            x="x", y="y", label="head", value="layer", title="Heads that attend alike lie close (colour: layer)"
        ),
        views.scatter(
            x="x", y="y", label="rests_on", value="cluster", title="What each head rests on (colour: cluster)"
        ),
        views.heatmap(value="distance", x="head", y="other", title="Distance between heads", scale="sequential"),
        views.table(columns=["head", "layer", "cluster", "rests_on"], title="Clusters of heads"),
    )
