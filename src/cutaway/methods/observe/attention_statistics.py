"""What do the heads rest on: the neighbour, the separator, the full stop, and how widely do they look?

For each head the mean over all positions of the attention to six places, as Clark and others measured them in BERT
[@clark2019]: the previous one, the next one, the same one, the first one, the separators (special tokens), and punctuation;
and the entropy of a position's attention in nats, which is ln n for a head that looks at n positions alike. Beside each
stands what a head would give that attends to all that it can see alike. With `level=words`, tokens are words: attention to
a word is the sum over its tokens, attention from a word the mean over its tokens.
The check counts heads that give more than half of their attention to one place, against the same network with its
weights in random order.
Limits: attention says where a head looks, not what it moves. Under a causal mask nothing attends to the next position.
Separators and the first position overlap where the first token is a special one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.methods.control import compared, unchecked
from cutaway.methods.distances import entropy
from cutaway.methods.labels import described
from cutaway.methods.random_twin import random_twin
from cutaway.methods.reading_options import Heads, ShuffledNetworks
from cutaway.methods.words import WordTokens, head_name, head_table, heads_of, token_attention, word_tokens
from cutaway.models.model import Model

PLACES = ("previous", "next", "self", "first", "separators", "punctuation")
CAUSAL = "The model has a causal mask: nothing attends to the next position, and the first one attends to itself alone."


@dataclass(frozen=True)
class Statistics:
    """Means over positions.

    Attributes:
        attention: [place, head] mean attention to each place.
        uniform: [place] the same for attention that is alike on all that can be seen.
        entropy: [head] in nats.
        first_entropy: [head] that of the first position.
    """

    attention: NDArray[np.float64]
    uniform: NDArray[np.float64]
    entropy: NDArray[np.float64]
    first_entropy: NDArray[np.float64]


@method(
    asks="What do the heads rest on, and how widely do they look?",
    cites="clark2019",
    needs=("attention",),
)
def attention_statistics(
    model: Model,
    task: Task,
    *,
    sites: Heads = "pattern[*]",
    level: Annotated[
        Literal["tokens", "words"], Field(description="attention between tokens, or between words")
    ] = "tokens",
    controls: ShuffledNetworks = 5,
    seed: Annotated[int, Field(ge=0, description="shuffles the weights")] = 0,
) -> Result:
    """Mean attention to neighbours, separators and punctuation, and its entropy, of each head."""
    heads = heads_of(model, sites)
    found = pieces(model, task, level)
    statistics = attention_summary(model, found, heads)
    data = _data(model, statistics, heads)
    checks: tuple[Check, ...] = ()
    if controls:
        counted = [
            _focused(attention_summary(random_twin(model, seed + draw), found, heads))
            for draw in track(range(controls), "networks with shuffled weights")
        ]
        checks = (_check(_focused(statistics), counted),)
    notes = (CAUSAL,) if model.anatomy.is_causal else ()
    return Result(
        data=data,
        metrics=_metrics(data),
        views=_views(data),
        checks=checks,
        notes=(*notes, *unchecked(controls)),
    )


def pieces(model: Model, task: Task, level: str) -> list[WordTokens]:
    """The prompts as words, or with each token for a word."""
    if level == "words":
        return [word_tokens(model, prompt) for prompt in task.prompts]
    encoded = task.encode(model.tokenizer)
    return [
        WordTokens(tuple(ids), tuple(model.token_strings(ids)), np.eye(len(ids), dtype=np.float32))
        for ids in encoded.ids
    ]


def attention_summary(model: Model, found: Sequence[WordTokens], heads: Sequence[Site]) -> Statistics:
    """Mean attention to each place, and entropies."""
    special = set(getattr(model.tokenizer, "all_special_ids", ()) or ())
    total, alike = torch.zeros(len(PLACES), len(heads)), torch.zeros(len(PLACES))
    count = torch.zeros(len(PLACES))
    spread, first_spread, rows = torch.zeros(len(heads)), torch.zeros(len(heads)), 0
    for index, pattern in token_attention(model, found, heads):
        piece, maps = found[index], pattern.cpu()
        where, which = _places(piece, special)
        flat = _alike(len(piece.ids), model.anatomy.is_causal)
        share, average = torch.from_numpy(piece.share), torch.from_numpy(piece.average)
        for table, given in ((total, maps), (alike, flat[None])):
            given = _in_words(given, share, average)
            table += torch.einsum("hrc,prc->ph", given, where).reshape(table.shape)
        count += which
        wide = entropy(_in_words(maps, share, average))
        spread, first_spread, rows = spread + wide.sum(-1), first_spread + wide[:, 0], rows + wide.shape[-1]
    count = torch.where(count > 0, count, torch.nan)
    return Statistics(
        (total / count[:, None]).double().numpy(),
        (alike / count).double().numpy(),
        (spread / rows).double().numpy(),
        (first_spread / len(found)).double().numpy(),
    )


def _in_words(maps: Tensor, share: Tensor, average: Tensor) -> Tensor:
    """[head, word, word and one column more for what goes to tokens of no word]."""
    between = average @ maps @ share.T
    rest = average @ maps @ (share.sum(dim=0) == 0).float()
    return torch.cat([between, rest[..., None]], dim=-1)


def _places(piece: WordTokens, special: set[int]) -> tuple[Tensor, Tensor]:
    """Which column is which place of each row [place, row, column], and how many rows have the place at all [place]."""
    size = len(piece.words)
    owners = piece.share.argmax(axis=1)
    separator = torch.tensor([piece.ids[token] in special for token in owners] + [True])
    marks = [bool(text.strip()) and not any(letter.isalnum() for letter in text) for text in piece.words]
    mark = torch.tensor([*marks, False]) & ~separator
    table = torch.zeros(len(PLACES), size, size + 1)
    row = torch.arange(size)
    table[0, row[1:], row[:-1]] = 1
    table[1, row[:-1], row[1:]] = 1
    table[2, row, row] = 1
    table[3, :, 0] = 1
    table[4, :, separator] = 1
    table[5, :, mark] = 1
    outside = bool((piece.share.sum(axis=0) == 0).any())
    has = table.any(dim=-1).sum(dim=-1).float()
    has[4] = size if outside or bool(separator[:-1].any()) else 0
    return table, has


def _alike(size: int, causal: bool) -> Tensor:
    seen = torch.ones(size, size)
    seen = seen.tril() if causal else seen
    return seen / seen.sum(dim=-1, keepdim=True)


def _focused(statistics: Statistics) -> float:
    """How many heads give more than half of their attention to one place."""
    return float((np.nan_to_num(statistics.attention) > 0.5).any(axis=0).sum())


def _check(measured: float, controls: Sequence[float]) -> Check:
    return compared(
        measured,
        controls,
        claim="Training made heads that rest on one place: a neighbour, themselves, the first position, separators or "
        "punctuation.",
        how="Count the heads that give more than half of their attention to one of these places; the control counts "
        "them in the same network with the numbers of each weight matrix in random order.",
        unit="heads",
    )


def _data(model: Model, statistics: Statistics, heads: Sequence[Site]) -> xr.Dataset:
    kept = [place for place in range(len(PLACES)) if np.isfinite(statistics.attention[place]).all()]
    if model.anatomy.is_causal:
        kept = [place for place in kept if PLACES[place] != "next"]
    layers, numbers, attention = head_table(heads, statistics.attention[kept])
    order = np.argsort(-statistics.attention[kept], axis=1, kind="stable")[:, :5]
    names = np.array([head_name(site) for site in heads], dtype=object)
    data = xr.Dataset(
        {
            "attention": (("place", "layer", "head"), attention),
            "uniform": (("place",), statistics.uniform[kept]),
            "entropy": (("layer", "head"), head_table(heads, statistics.entropy)[2]),
            "first_entropy": (("layer", "head"), head_table(heads, statistics.first_entropy)[2]),
            "by_layer": (("place", "layer"), np.nanmean(attention, axis=2)),
            "best_head": (("place", "rank"), names[order]),
            "best_attention": (("place", "rank"), np.take_along_axis(statistics.attention[kept], order, axis=1)),
        },
        coords={
            "place": [PLACES[place] for place in kept],
            "layer": layers,
            "head": numbers,
            "rank": range(1, order.shape[1] + 1),
        },
    )
    return described(
        data,
        attention="mean attention",
        by_layer="mean attention of a layer's heads",
        uniform="attention that is alike on all",
        entropy=("entropy", "nats"),
        first_entropy=("entropy of the first position", "nats"),
        best_head="head",
        best_attention="mean attention",
    )


def _metrics(data: xr.Dataset) -> dict[str, float]:
    found = {
        f"heads_over_half_on_{place}": int((data["attention"].sel(place=place) > 0.5).sum())
        for place in data.place.values
    }
    return {**found, "mean_entropy": float(data["entropy"].mean())}


def _views(data: xr.Dataset) -> tuple[views.View, ...]:
    maps = tuple(
        views.heatmap(
            value="attention",
            x="head",
            y="layer",
            at={"place": place},
            title=f"Mean attention to: {place}",
            scale="sequential",
        )
        for place in map(str, data["place"].values)
    )
    first = str(data["place"].values[0])
    return (
        views.curves(value="by_layer", x="layer", series="place", title="Where each layer's heads rest on average"),
        *maps,
        views.heatmap(value="entropy", x="head", y="layer", title="How widely each head looks", scale="sequential"),
        views.table(
            columns=["best_head", "best_attention"], at={"place": first}, title=f"Heads that rest most on: {first}"
        ),
    )
