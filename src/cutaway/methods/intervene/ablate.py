"""Which parts does the answer need? Take them out, one after another or together.

A part (a head, an MLP, a neuron, a position of the stream, a whole layer) is replaced by zero, by its mean over the
prompts and positions, or by its value in another prompt, and the task's metric is measured again:
effect = metric(without the part) - metric. A mean takes away what the part says about this prompt and leaves what
it always says; zero takes both; another prompt's value keeps the network on ground it knows [@wang2022; @zhang2023].

The check takes the parts with the largest effects (or those that were named) out together, against as many random
parts of the same kind.
Limits: later parts may make up for what is missing, so a small effect does not prove that a part is idle; effects
of single parts do not add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.errors import ParameterError, TaskError
from cutaway.core.method import method
from cutaway.core.result import Check, Result
from cutaway.core.site import EVERY, Site
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.cells import cells_of, grids, in_words, map_views
from cutaway.methods.control import compared, enough, interval, sets_like, unchecked
from cutaway.methods.labels import described
from cutaway.methods.scoring import UNITS, as_words, metric_for
from cutaway.methods.sets import Write, mean_writes, scores
from cutaway.models.metric import Metric
from cutaway.models.model import Model

How = Literal["mean", "zero", "resample"]
SHOWN = 12


@method(
    asks="Which parts does the answer need?",
    cites="wang2022, zhang2023",
    needs=("unembedding",),
)
def ablate(
    model: Model,
    task: Task,
    *,
    sites: Annotated[
        str,
        Field(
            description="parts: z[*].head[*] (heads), mlp_out[*] (MLPs), mlp_act[5].unit[*] (neurons), "
            "resid_post[*]@* (layers and positions)"
        ),
    ] = "z[*].head[*], mlp_out[*]",
    how: Annotated[
        How, Field(description="what is put in: the mean over prompts and positions, zero, or another prompt's value")
    ] = "mean",
    together: Annotated[bool, Field(description="take all named parts out at once")] = False,
    by_layer: Annotated[bool, Field(description="take the named parts of one layer out at once")] = False,
    top: Annotated[int, Field(ge=1, description="parts that the check takes out together")] = 5,
    controls: Annotated[
        int,
        Field(ge=0, description="random sets that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random sets and the other prompts")] = 0,
) -> Result:
    """Take parts out and measure what the metric loses."""
    if together and by_layer:
        raise ParameterError(
            "together and by_layer are both true;",
            "parts are taken out all at once, or layer by layer.",
            "Leave one of them out.",
        )
    encoded = task.encode(model.tokenizer)
    metric, said = metric_for(model, encoded)
    parts = cells_of(model, sites, max(map(len, encoded.ids)))
    others = _others(encoded, seed) if how == "resample" else ()
    if together or by_layer:
        groups = _groups(parts, by_layer)
        effect, base = _of_groups(model, encoded, list(groups.values()), how, others, metric)
    else:
        groups = {str(site): [site] for site in parts}
        effect, base = _one_by_one(model, encoded, parts, how, others, metric)
    mean = np.nanmean(effect, axis=0)
    best = np.argsort(-np.abs(mean), kind="stable")[: max(1, min(top, len(groups) // 3))]
    chosen = [site for i in best for site in list(groups.values())[i]]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = unchecked(controls)
    if controls:
        check, notes = _check(model, encoded, metric, chosen, parts, how, others, controls, seed)
        checks = (check,)
    data = _dataset(encoded, list(groups), effect, base)
    data = described(data, largest_mean_effect=_changed(metric), largest="part")
    maps = xr.Dataset() if together or by_layer else grids(model, encoded.ids, parts, mean, _changed(metric))
    return Result(
        data=data.merge(maps),
        metrics=_metrics(data),
        views=(*_views(len(encoded), metric), *map_views(maps, f"Change of the {_words(metric)} without")),
        checks=checks,
        notes=(*encoded.notes, *said, *notes),
    )


def _words(metric: Metric) -> str:
    return as_words(metric.name)


def _changed(metric: Metric) -> tuple[str, str]:
    return f"change of the {_words(metric)}", UNITS[metric.name]


def _groups(parts: Sequence[Site], by_layer: bool) -> dict[str, list[Site]]:
    if not by_layer:
        return {"all together": list(parts)}
    groups: dict[str, list[Site]] = {}
    for site in parts:
        groups.setdefault(f"layer {site.layer}", []).append(site)
    return groups


# --- measuring ---------------------------------------------------------------------------------------------------


def _one_by_one(
    model: Model, encoded: EncodedTask, parts: list[Site], how: How, others: Sequence[Sequence[int]], metric: Metric
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Effect of each part [prompt, part] and the metric of the whole network [prompt]."""
    if how == "resample":
        contrasted = replace(encoded, contrast_ids=tuple(tuple(ids) for ids in others))
        sweep = model.sweep(contrasted, over=parts, edit="patch", direction="noise", metric=metric)
    else:
        sweep = model.sweep(encoded, over=parts, edit=how, metric=metric)
    effect = (sweep.values - sweep.base[:, None]).double().cpu().numpy()
    return effect, sweep.base.double().cpu().numpy()


def _of_groups(
    model: Model,
    encoded: EncodedTask,
    groups: Sequence[Sequence[Site]],
    how: How,
    others: Sequence[Sequence[int]],
    metric: Metric,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same for groups of parts, each taken out at once [prompt, group]."""
    sets = _writes(model, encoded, groups, how, others)
    found = scores(model, encoded.ids, [[], *sets], metric, named=encoded.positions, what="taking parts out")
    base = found[0].double().numpy()
    return found[1:].T.double().numpy() - base[:, None], base


def _writes(
    model: Model,
    encoded: EncodedTask,
    groups: Sequence[Sequence[Site]],
    how: How,
    others: Sequence[Sequence[int]],
) -> list[list[Write]]:
    """What is put in for each part of each group."""
    if how == "zero":
        return [[Write(site) for site in group] for group in groups]
    wholes = list(dict.fromkeys(site.whole for group in groups for site in group))
    if how == "mean":
        run = model.run(encoded, read=wholes, logits="none")
        return [mean_writes(run, group) for group in groups]
    run = model.run([list(ids) for ids in others], read=wholes, logits="none")
    return [[Write(site, source=run[site.whole]) for site in group] for group in groups]


def _others(encoded: EncodedTask, seed: int) -> tuple[tuple[int, ...], ...]:
    """For each prompt another one of the task with as many tokens; its contrast where there is none."""
    random = np.random.default_rng(seed)
    by_length: dict[int, list[int]] = {}
    for prompt, ids in enumerate(encoded.ids):
        by_length.setdefault(len(ids), []).append(prompt)
    found: dict[int, tuple[int, ...]] = {}
    for prompts in by_length.values():
        order = [prompts[i] for i in random.permutation(len(prompts))]
        for prompt, other in zip(order, [*order[1:], order[0]], strict=True):
            found[prompt] = encoded.ids[other]
            if prompt == other:
                found[prompt] = _contrast(encoded, prompt)
    return tuple(found[prompt] for prompt in range(len(encoded)))


def _contrast(encoded: EncodedTask, prompt: int) -> tuple[int, ...]:
    if encoded.contrast_ids:
        return encoded.contrast_ids[prompt]
    raise TaskError(
        f"prompt {encoded.kept[prompt]} is the only one of {len(encoded.ids[prompt])} tokens;",
        "resampling takes the value of another prompt of the task with as many tokens, or of the contrast.",
        'Give contrasts, more prompts, or how="mean".',
    )


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(
    encoded: EncodedTask, names: list[str], effect: NDArray[np.float64], base: NDArray[np.float64]
) -> xr.Dataset:
    """Effects by prompt and part, their means, and the largest."""
    mean = np.nanmean(effect, axis=0)
    bands = np.array([interval(column[np.isfinite(column)]) for column in effect.T])
    data = xr.Dataset(
        {
            "effect": (("prompt", "part"), effect),
            "metric": ("prompt", base),
            "mean_effect": ("part", mean),
            "effect_low": ("part", bands[:, 0]),
            "effect_high": ("part", bands[:, 2]),
        },
        coords={"prompt": list(encoded.prompts), "part": names},
    )
    largest = np.argsort(-np.abs(mean), kind="stable")[:SHOWN]
    for name in ("mean_effect", "effect_low", "effect_high"):
        data[f"largest_{name}"] = ("largest", data[name].values[largest])
    return data.assign_coords(largest=[names[i] for i in largest])


def _metrics(data: xr.Dataset) -> dict[str, float | str]:
    return {
        "metric": float(data["metric"].mean()),
        "largest_effect": float(data["largest_mean_effect"].values[0]),
        "part_with_largest_effect": str(data["largest"].values[0]),
        "parts": int(data.sizes["part"]),
    }


def _views(prompts: int, metric: Metric) -> tuple[views.View, ...]:
    low, high = ("largest_effect_low", "largest_effect_high") if prompts > 1 else (None, None)
    title = f"Change of the {_words(metric)} without each part"
    return (views.bars(value="largest_mean_effect", label="largest", low=low, high=high, title=title),)


# --- the check ---------------------------------------------------------------------------------------------------


def _check(
    model: Model,
    encoded: EncodedTask,
    metric: Metric,
    chosen: list[Site],
    parts: list[Site],
    how: How,
    others: Sequence[Sequence[int]],
    controls: int,
    seed: int,
) -> tuple[Check, tuple[str, ...]]:
    """Take the chosen parts out together, and as many random ones of the same kinds."""
    alone = len(parts) < 2 * len(chosen)
    pool = _everywhere(model, chosen) if alone else parts
    sets = sets_like(chosen, pool, controls, seed, sort=lambda site: (site.kind, site.position if alone else None))
    effects, _ = _of_groups(model, encoded, [chosen, *sets], how, others, metric)
    changes = np.abs(np.nanmean(effects, axis=0))
    more = f" and {len(chosen) - 6} more" if len(chosen) > 6 else ""
    names = (
        f"{in_words(model, encoded.ids, chosen[:6])}{more} ({', '.join(map(str, chosen[:6]))}{', …' if more else ''})"
    )
    check = compared(
        float(changes[0]),
        changes[1:].tolist(),
        claim=f"The answer depends on {names} more than on other parts.",
        how=f"Take them out together ({how}) and measure how far the {_words(metric)} moves; the control takes out as "
        "many random parts of the same kind.",
        unit=UNITS[metric.name],
    )
    few = any(set(chosen) & set(other) for other in sets)
    return check, ("There are too few other parts of the kind: random sets share parts with the tested one.",) * few


def _everywhere(model: Model, chosen: Sequence[Site]) -> list[Site]:
    """Parts of the same kinds in all layers, heads and units."""
    found: dict[Site, None] = {}
    for site in chosen:
        head, unit = (EVERY if part is not None else None for part in (site.head, site.unit))
        found[replace(site, layer=EVERY, head=head, unit=unit)] = None
    return list(dict.fromkeys(one for pattern in found for one in model.anatomy.expand(pattern)))
