"""Is there a head that counts on? From Monday to Tuesday, from three to four, from C to D, by its weights.

Each ordinal word goes through the OV circuit of every head (`cutaway.methods.full_circuits`). A head's *succession
score* is the share of words whose successor gets the highest logit among the words of all classes; its *decrement
score* is the same for the word before [@gould2023]. Of thousands of heads some score well by chance, so the best head
is chosen on one half of the classes and its score is given for the other half, beside the median head.

The check takes the chosen head out of prompts that count through a class ("A B C") and measures how far the next
word's lead over the words of its class falls, against random heads. The task's prompts are not used: ordinal words are
the vocabulary's own. Words of several tokens are left out and counted.
Limits: what a head does to words of several tokens is not seen; a head may count only in company.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.errors import TaskError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.data.ordinals import OrdinalClass, single_tokens
from cutaway.methods.control import compared, enough, sets_like, unchecked
from cutaway.methods.full_circuits import (
    Embedding,
    circuits_of,
    effective_embeddings,
    layers_with_heads,
    unembedding,
)
from cutaway.methods.labels import described
from cutaway.models.metric import Metric
from cutaway.models.model import Model

SHOWN = 12
RUN = 3  # words that are counted before the one that is asked for
Grid = NDArray[np.float64]


@method(
    asks="Is there a head that names the next day, month, letter or number?",
    cites="gould2023",
    needs=("unembedding", "attention"),
)
def successor_score(
    model: Model,
    task: Task,
    *,
    embedding: Annotated[
        Embedding,
        Field(description="what stands for a word: the stream after layer 0, what its MLP adds, or what enters it"),
    ] = "mlp_and_stream",
    controls: Annotated[
        int,
        Field(ge=0, description="random heads that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="divides the classes, and draws random heads")] = 0,
) -> Result:
    """Measure every head's succession score, choose one on half of the classes, and test it."""
    if model.tokenizer is None:
        raise TaskError("This model has no tokenizer:", "ordinal words are found in a vocabulary.")
    classes = single_tokens(model.tokenizer)
    if not classes:
        raise TaskError(
            "No ordinal word is a single token of this model's vocabulary;",
            "days, months, letters, digits or number words are needed.",
            "Use a model with a larger vocabulary.",
        )
    layers = layers_with_heads(model)
    heads, up, down = scores_of_heads(model, layers, classes, embedding)
    chosen_on, tested_on = halves(classes, seed)
    best = int(np.argmax(weighted(up, classes, chosen_on)))
    data = _dataset(layers, heads, classes, up, down)
    checks = _check(model, heads, best, classes, controls, seed) if controls else ()
    held = weighted(up, classes, tested_on)
    return Result(
        data=data,
        metrics={
            "best_head": f"{heads[best][0]}.{heads[best][1]}",
            "score_on_held_out_classes": float(held[best]),
            "score": float(weighted(up, classes, range(len(classes)))[best]),
            "decrement": float(weighted(down, classes, range(len(classes)))[best]),
            "median_head": float(np.median(held)),
            "classes_held_out": ", ".join(classes[i].name for i in tested_on),
            "words_left_out": sum(one.dropped for one in classes),
        },
        views=_views(),
        checks=checks,
        notes=(*_left_out(classes), *unchecked(controls)),
    )


# --- scores ------------------------------------------------------------------------------------------------------


def scores_of_heads(
    model: Model, layers: Sequence[int], classes: Sequence[OrdinalClass], embedding: Embedding
) -> tuple[list[tuple[int, int]], Grid, Grid]:
    """The heads, and for each head and class the share of words sent to their successor, and to the word before."""
    words = list(dict.fromkeys(token for one in classes for token in one.tokens))
    column = {token: place for place, token in enumerate(words)}
    embedded = effective_embeddings(model, words, embedding)
    w_u = unembedding(model)[:, words].to(embedded)
    heads: list[tuple[int, int]] = []
    up: list[list[float]] = []
    down: list[list[float]] = []
    for layer in track(list(layers), "looking for heads that count"):
        with torch.no_grad():
            circuits = circuits_of(model, layer, embedded)
            for head in range(circuits.n_heads):
                said = (circuits.written(head) @ w_u).argmax(dim=-1).tolist()
                told = {token: words[said[place]] for token, place in column.items()}
                heads.append((layer, head))
                up.append([_share(told, one.steps) for one in classes])
                down.append([_share(told, [(b, a) for a, b in one.steps]) for one in classes])
    return heads, np.array(up), np.array(down)


def _share(told: Mapping[int, int], steps: Sequence[tuple[int, int]]) -> float:
    return sum(told[first] == second for first, second in steps) / len(steps)


def halves(classes: Sequence[OrdinalClass], seed: int) -> tuple[list[int], list[int]]:
    """Classes on which the head is chosen, and those on which it is tested; the same where there is one class only."""
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(classes))]
    if len(order) == 1:
        return order, order
    middle = (len(order) + 1) // 2
    return sorted(order[:middle]), sorted(order[middle:])


def weighted(scores: Grid, classes: Sequence[OrdinalClass], chosen: Sequence[int]) -> Grid:
    """The share over all words of some classes [head]."""
    sizes = np.array([len(classes[i].steps) for i in chosen], dtype=float)
    found: Grid = scores[:, list(chosen)] @ sizes / sizes.sum()
    return found


# --- the check ---------------------------------------------------------------------------------------------------


def counting_prompts(model: Model, classes: Sequence[OrdinalClass]) -> tuple[list[list[int]], Metric | None]:
    """Prompts that count through a class, and the lead of the next word over the other words of its class.

    There are none, and no metric, where no class has enough successive words.
    """
    word = model.tokenizer("a", add_special_tokens=False)["input_ids"]
    start = model.encode("a")[: -len(word)]
    ids: list[list[int]] = []
    answers: list[tuple[int, ...]] = []
    wrong: list[tuple[int, ...]] = []
    for one in classes:
        places = dict(zip(one.rank, one.tokens, strict=True))
        for first in places:
            run = range(first, first + RUN + 1)
            if all(rank in places for rank in run):
                ids.append([*start, *(places[rank] for rank in run[:-1])])
                answers.append((places[run[-1]],))
                wrong.append(tuple(token for token in one.tokens if token != places[run[-1]]))
    return ids, Metric("logit_difference", tuple(answers), tuple(wrong)) if ids else None


def _check(
    model: Model,
    heads: Sequence[tuple[int, int]],
    best: int,
    classes: Sequence[OrdinalClass],
    controls: int,
    seed: int,
) -> tuple[Check, ...]:
    sites = [Site("z", layer, head) for layer, head in heads]
    others = [one[0] for one in sets_like([sites[best]], sites, controls, seed, lambda site: site.kind)]
    ids, metric = counting_prompts(model, classes)
    if metric is None:
        return ()
    tried = list(dict.fromkeys([sites[best], *others]))
    sweep = model.sweep(ids, over=tried, edit="mean", metric=metric)
    lost = dict(zip(tried, (sweep.base[:, None] - sweep.values).double().mean(dim=0).tolist(), strict=True))
    layer, head = heads[best]
    check = compared(
        lost[sites[best]],
        [lost[site] for site in others],
        claim=f"Head {layer}.{head}, which counts on by its weights, is needed to name the next word.",
        how="Put the head's mean in its place in prompts that count through a class, and measure by how much the next "
        "word's lead over its class falls; the control takes out random heads.",
        unit="logits",
    )
    return (check,)


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(
    layers: Sequence[int],
    heads: Sequence[tuple[int, int]],
    classes: Sequence[OrdinalClass],
    up: Grid,
    down: Grid,
) -> xr.Dataset:
    everything = range(len(classes))
    total, back = weighted(up, classes, everything), weighted(down, classes, everything)
    width = 1 + max(head for _, head in heads)
    grids = {name: np.full((len(layers), width), np.nan) for name in ("succession", "decrement")}
    for place, (layer, head) in enumerate(heads):
        grids["succession"][list(layers).index(layer), head] = total[place]
        grids["decrement"][list(layers).index(layer), head] = back[place]
    order = np.argsort(-total, kind="stable")[:SHOWN]
    names = [f"{heads[i][0]}.{heads[i][1]}" for i in order]
    data = xr.Dataset(
        {
            **{name: (("layer", "head"), grid) for name, grid in grids.items()},
            "by_class": (("best", "class"), up[order]),
            "best_succession": ("best", total[order]),
            "best_decrement": ("best", back[order]),
            "words": ("class", np.array([len(one.steps) for one in classes], dtype=np.int64)),
        },
        coords={
            "layer": list(layers),
            "head": list(range(width)),
            "best": names,
            "class": [one.name for one in classes],
        },
    )
    share = "share of words"
    return described(
        data,
        succession=("succession score", share),
        decrement=("decrement score", share),
        best_succession=("succession score", share),
        best_decrement=("decrement score", share),
        by_class=("words sent to their successor", share),
        best="head",
    )


def _views() -> tuple[views.View, ...]:
    return (
        views.heatmap(value="succession", x="head", y="layer", title="Succession score of each head"),
        views.heatmap(value="by_class", x="class", y="best", title="The best heads by class of words"),
        views.table(
            columns=["best", "best_succession", "best_decrement"], title="Heads with the highest succession scores"
        ),
    )


def _left_out(classes: Sequence[OrdinalClass]) -> tuple[str, ...]:
    dropped = [f"{one.dropped} of {one.name}" for one in classes if one.dropped]
    notes = []
    if dropped:
        notes.append(f"Words of several tokens are left out: {', '.join(dropped)}.")
    if len(classes) == 1:
        notes.append("There is one class of ordinal words only: the head is chosen and tested on the same words.")
    return tuple(notes)
