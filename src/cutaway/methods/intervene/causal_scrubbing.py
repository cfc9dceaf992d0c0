"""Is this story of how the network does it true? Exchange everything that the story says can be exchanged.

A hypothesis names parts and, for each, the features of the prompt on which its value may depend. Causal scrubbing runs
the network with every value taken from another prompt that agrees on those features, and with everything that the
hypothesis does not name taken from prompts drawn by lot [@chan2022]. If the story is right the loss stays; the
share of the loss recovered is (random - scrubbed) / (random - model). Hypotheses are data: a tree of parts, written as
`cutaway.methods.hypothesis` describes; features are the answer, the wrong answer, the template and the named words of the
task. By default: the stream at the last token in the middle of the network depends on the prompt through its
answer alone.

The checks: the same hypothesis with its features dealt out anew among the prompts, and with other parts of the same kind.
Limits: a hypothesis that names too much passes; prompts are exchanged for prompts of the task with as many tokens, so
small tasks leave little to exchange.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import xarray as xr
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import EVERY, Site
from cutaway.core.task import Task
from cutaway.methods.control import compared, enough, interval, sets_like, unchecked
from cutaway.methods.hypothesis import Node, Sampler, features_of, parse_hypothesis, require_features
from cutaway.methods.labels import described
from cutaway.methods.scoring import with_answers
from cutaway.methods.scrubbing import Recovered, Scrub, recovered
from cutaway.models.model import Model

SHARE = "share of the loss recovered"


@method(
    asks="Does this hypothesis explain what the network does?",
    cites="chan2022",
    needs=("unembedding", "attention"),
)
def causal_scrubbing(
    model: Model,
    task: Task,
    *,
    hypothesis: Annotated[
        str,
        Field(
            description="clauses `name: sites ~ features direct > parent`, separated by semicolons, as "
            "'z[9].head[6]@end ~ answer'; features: answer, wrong, template, prompt, named words; empty: the stream at the "
            "last token in the middle ~ answer"
        ),
    ] = "",
    samples: Annotated[int, Field(ge=2, description="resamplings of every prompt")] = 10,
    controls: Annotated[
        int,
        Field(ge=0, description="hypotheses with shuffled features, and with other parts, 5 or more; 0: no checks"),
        AfterValidator(enough),
    ] = 10,
    seed: Annotated[int, Field(ge=0, description="draws prompts and controls")] = 0,
) -> Result:
    """Resample everything that a hypothesis allows, and measure how much of the loss is recovered."""
    encoded, said = with_answers(model, task.encode(model.tokenizer))
    features = features_of(encoded)
    tree = parse_hypothesis(hypothesis or _usual(model))
    require_features(tree, features)
    for node in tree:
        model.expand(list(node.sites))  # refuses what the network does not have
    sampler = Sampler(features, [len(ids) for ids in encoded.ids])
    scrub = Scrub(model, encoded, sampler)
    found = recovered(scrub, tree, samples=samples, seed=seed)
    others: tuple[tuple[str, str, list[float]], ...] = ()
    if controls:
        others = _controls(scrub, tree, found, controls, seed)
    return Result(
        data=_dataset(found, others),
        metrics={
            "recovered": found.share,
            "loss_model": found.model,
            "loss_scrubbed": float(np.mean(found.scrubbed)),
            "loss_random": found.random,
        },
        views=_views(),
        checks=_checks(found, others),
        notes=(*encoded.notes, *said, *_narrow(tree, sampler), *unchecked(controls)),
    )


def _usual(model: Model) -> str:
    layer = max(0, model.anatomy.n_layers // 2 - 1)
    kind = "resid_post" if "resid_post" in model.anatomy.layer(Site("z", layer)).places else "resid_pre"
    return f"{kind}[{layer}]@end ~ answer"


# --- the controls ------------------------------------------------------------------------------------------------


def _controls(
    scrub: Scrub, tree: Node, ends: Recovered, count: int, seed: int
) -> tuple[tuple[str, str, list[float]], ...]:
    """Shares recovered with shuffled features and, where there are others of their kind, with other parts."""
    random = np.random.default_rng(seed + 1)
    shuffled = []
    for number in track(range(count), "scrubbing with shuffled features"):
        other = replace(scrub, sampler=scrub.sampler.with_shuffled_features(random))
        shuffled.append(recovered(other, tree, samples=2, seed=seed + number, ends=ends).share)
    found = [("shuffled features", "the features that it names", shuffled)]
    trees = other_parts(scrub.model, tree, count, seed)
    if trees:
        moved = [
            recovered(scrub, other, samples=2, seed=seed + number, ends=ends).share
            for number, other in enumerate(track(trees, "scrubbing other parts"))
        ]
        found.append(("other parts", "the parts that it names", moved))
    return tuple(found)


def other_parts(model: Model, tree: Node, count: int, seed: int) -> list[Node]:
    """The same tree with other parts of the same kinds; none where the network has too few of them."""
    chosen = [site for node in tree for site in model.expand(list(node.sites))]
    # Children stand below their parents: a part moves within its layer where the tree has more than one level.
    deep = any(node.children for child in tree.children for node in child)
    pool = [site for one in dict.fromkeys(chosen) for site in _kind(model, one, within=deep)]
    if len(set(pool) - set(chosen)) < len(set(chosen)) or len(set(chosen)) != len(chosen):
        return []
    sets = sets_like(chosen, pool, count, seed, lambda s: (s.kind, s.position, s.layer if deep else None))
    found = []
    for one in sets:
        moved = dict(zip(_sorted_as(chosen, one, deep), one, strict=True))
        found.append(_moved(model, tree, moved))
    return found


def _kind(model: Model, site: Site, *, within: bool) -> list[Site]:
    head, unit = (EVERY if part is not None else None for part in (site.head, site.unit))
    layer = site.layer if within else EVERY
    return model.anatomy.expand(replace(site, layer=layer, head=head, unit=unit))


def _sorted_as(chosen: list[Site], drawn: list[Site], deep: bool) -> list[Site]:
    """The chosen parts in the order in which their substitutes were drawn: sort by sort."""
    left = list(chosen)
    order = []
    for site in drawn:
        same = next(
            s
            for s in left
            if (s.kind, s.position, s.layer if deep else None)
            == (site.kind, site.position, site.layer if deep else None)
        )
        left.remove(same)
        order.append(same)
    return order


def _moved(model: Model, node: Node, to: dict[Site, Site]) -> Node:
    sites = tuple(to[site] for site in model.expand(list(node.sites))) if node.sites else ()
    return replace(node, sites=sites, children=tuple(_moved(model, child, to) for child in node.children))


def _checks(found: Recovered, others: tuple[tuple[str, str, list[float]], ...]) -> tuple[Check, ...]:
    how = {
        "shuffled features": "Scrub it; the control deals the prompts' features out anew among prompts of one length.",
        "other parts": "Scrub it; the control names other parts of the same kinds, drawn by lot.",
    }
    return tuple(
        compared(
            found.share,
            values,
            claim=f"The hypothesis recovers more of the loss than one that is wrong about {what}.",
            how=how[name],
            unit="share of the loss",
        )
        for name, what, values in others
    )


def _narrow(tree: Node, sampler: Sampler) -> tuple[str, ...]:
    """Where there is little to exchange, a hypothesis passes for that reason."""
    notes = []
    for node in tree:
        choices = sampler.choices(node.agree)
        if node.sites and choices < 2:
            notes.append(
                f"A prompt has {choices:.1f} others to be exchanged for at {node.name!r}, itself included: "
                "a task with more prompts that agree would test more."
            )
    return tuple(notes)


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(found: Recovered, others: tuple[tuple[str, str, list[float]], ...]) -> xr.Dataset:
    rows = [("hypothesis", list(found.shares)), *((name, values) for name, _, values in others)]
    bands = [interval(values) for _, values in rows]
    data = xr.Dataset(
        {
            "recovered": ("what", [float(np.mean(values)) for _, values in rows]),
            "low": ("what", [min(band[0], float(np.mean(v))) for band, (_, v) in zip(bands, rows, strict=True)]),
            "high": ("what", [max(band[2], float(np.mean(v))) for band, (_, v) in zip(bands, rows, strict=True)]),
            "loss": ("end", [found.model, float(np.mean(found.scrubbed)), found.random]),
            "resampled": ("sample", list(found.scrubbed)),
        },
        coords={"what": [name for name, _ in rows], "end": ["model", "scrubbed", "prompts by lot"]},
    )
    return described(data, recovered=(SHARE, "share of the loss"), loss=("loss", "nats"), what="hypothesis")


def _views() -> tuple[views.View, ...]:
    return (
        views.bars(value="recovered", label="what", low="low", high="high", title="Share of the loss recovered"),
        views.bars(value="loss", label="end", title="Loss of the model, of the hypothesis, and of prompts by lot"),
    )
