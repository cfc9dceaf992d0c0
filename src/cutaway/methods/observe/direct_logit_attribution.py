"""Which parts write the answer into the last token's logits?

The residual stream is a sum of what every part wrote, and once the final norm's statistics are frozen at what they
were, the way from the stream to a logit is linear [@elhage2021]. So the answer's logit (or its lead over the wrong
answer) is a sum over parts: c = w · (gain * (part - mean) * scale), with w = W_U[answer] - W_U[wrong]. Parts are the
embedding, the position embedding (what is added to it), every head (z_h W_O_h, through a frozen post-norm where
there is one), the attention biases, every MLP, the final norm's bias and the unembedding's bias. They sum to the
logit up to rounding; the gap is reported. With `neurons=20` the MLPs are split further: the twenty neurons that
contribute most are parts of their own, and the other neurons and the bias of each MLP are one.

The check takes the parts with the largest contributions out together, against random parts of the same kinds.
Limits: it is the direct path only, what a part does through later parts is not seen; frozen statistics hide that
taking a part out rescales all others. A soft-cap after the unembedding is left out. Where the heads do not sum to
what attention returns (a gate), the layer's attention is one part; where neurons do not sum to what the MLP returns
(experts), the MLP is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.errors import MethodError
from cutaway.core.method import method
from cutaway.core.result import Check, Result
from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.answer_direction import Direction, Gaps
from cutaway.methods.contributions import (
    ROUNDING,
    Neurons,
    end_sites,
    neurons_of,
    pulled_back,
    strongest,
    written_by_layer,
)
from cutaway.methods.control import compared, enough, interval, sets_like, unchecked
from cutaway.methods.labels import described
from cutaway.methods.scoring import UNITS, with_answers, words
from cutaway.methods.sets import Write, mean_writes, scores
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.models.unembedding import FrozenNorm, Unembedding

END = "@-1"


@method(
    asks="Which parts write the answer into the logits?",
    cites="elhage2021",
    needs=("unembedding",),
)
def direct_logit_attribution(
    model: Model,
    task: Task,
    *,
    against: Annotated[
        Literal["wrong", "mean", "nothing"],
        Field(
            description="what the answer's logit is compared with: the wrong answers (where the task has them), "
            "the mean over the vocabulary, or nothing"
        ),
    ] = "wrong",
    neurons: Annotated[
        int,
        Field(ge=0, description="split the MLPs: so many neurons with the largest contributions are parts; 0: none"),
    ] = 0,
    top: Annotated[int, Field(ge=1, description="parts that are shown and taken out together")] = 5,
    ablation: Annotated[Literal["mean", "zero"], Field(description="how the check takes parts out")] = "mean",
    controls: Annotated[
        int,
        Field(ge=0, description="random sets that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random sets")] = 0,
) -> Result:
    """Split the answer's logit at the last token into what each part wrote."""
    encoded = task.encode(model.tokenizer)
    encoded, said = with_answers(model, encoded)
    ends = Unembedding.of(model)
    if not ends.exact:
        raise MethodError(
            f"the unembedding of {model.name!r} is more than a matrix, a scale and a soft-cap;",
            "direct attribution needs a linear way from the stream to the logits.",
            "Use `ablate` instead.",
        )
    run = model.run(encoded, read=end_sites(model, neurons=neurons > 0), logits="last")
    direction = Direction.of(encoded, ends, against)
    parts, notes = _parts(model, run, ends, direction, neurons)
    data = _named(_dataset(model, encoded, parts, top), direction)
    gaps = Gaps.of(run.last_logits, ends, direction, [part.value for part in parts])
    _refuse_gap(model, gaps)
    data["logit"] = ("prompt", gaps.logit)
    check = _check(model, encoded, run.last_logits, data, top, ablation, controls, seed) if controls else None
    return Result(
        data=data,
        metrics={
            "completeness_gap": float(np.abs(gaps.gap).max()),
            "relative_gap": float((np.abs(gaps.gap) / gaps.size).max()),
            "logit": float(gaps.logit.mean()),
            "sum_of_parts": float(gaps.total.mean()),
            "parts": len(parts),
        },
        views=_views(encoded, direction),
        checks=(check,) if check else (),
        notes=(*encoded.notes, *said, *notes, *(_no_check(check) if controls else unchecked(controls))),
    )


# --- the parts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """One term of the sum.

    Attributes:
        name: for people.
        kind: `embed`, `position`, `head`, `attention`, `attention_bias`, `mlp`, `neuron`, `neurons` (the others of an
            MLP), `rest`, `norm_bias`, `bias`.
        layer, head, unit: -1 where it has none; a unit is a neuron of an MLP.
        value: contribution for each prompt.
    """

    name: str
    kind: str
    layer: int
    head: int
    value: NDArray[np.float64]
    unit: int = -1


@torch.no_grad()
def _parts(
    model: Model, run: Run, ends: Unembedding, direction: Direction, neurons: int
) -> tuple[list[_Part], tuple[str, ...]]:
    wide, device = direction.vector.dtype, direction.vector.device
    stream = run[Site("resid_post", model.anatomy.n_layers - 1, position=-1)]
    norm = FrozenNorm(ends.norm.gain.to(wide), ends.norm.bias.to(wide), ends.norm.centres, ends.norm.module)
    scale = ends.norm.scale(stream).to(device, wide)

    def value(written: Tensor) -> NDArray[np.float64]:
        """Contribution of what was written [prompt, d_model]."""
        linear = norm.linear(written.to(device, wide), scale)
        return (linear * direction.vector).sum(dim=-1).double().cpu().numpy()

    embedded, entered = run["embed" + END].to(wide), run["resid_pre[0]" + END].to(wide)
    parts = [_Part("embedding", "embed", -1, -1, value(embedded))]
    if not torch.equal(embedded, entered):
        parts.append(_Part("position and scale of the embedding", "position", -1, -1, value(entered - embedded)))
    notes: dict[str, list[int]] = {}
    split: dict[int, Neurons] = {}
    along = pulled_back(norm, direction.vector, scale)
    before = entered
    for layer in model.anatomy.stacks[""].layers:
        after = run[Site("resid_post", layer.index, position=-1)].to(wide)
        terms, said = written_by_layer(model, layer, run, before, after)
        parts += [_Part(t.name, t.kind, layer.index, t.head, value(t.vector)) for t in terms]
        inside = neurons_of(model, layer, run, along) if neurons else None
        if inside is not None:
            split[layer.index] = inside
        elif neurons:
            said.append("the MLP is one part, for its neurons do not sum to what it writes")
        for reason in said:
            notes.setdefault(reason, []).append(layer.index)
        before = after
    parts = _with_neurons(parts, split, neurons) if split else parts
    bias = (norm.bias.to(device) * direction.vector).sum(dim=-1).double().cpu().numpy()
    if norm.bias.any():
        parts.append(_Part("bias of the final norm", "norm_bias", -1, -1, bias))
    if ends.bias is not None:
        parts.append(_Part("bias of the unembedding", "bias", -1, -1, direction.offset.double().cpu().numpy()))
    said = [f"In layers {_listed(layers)} {reason}." for reason, layers in notes.items()]
    if ends.softcap is not None:
        said.append(f"The logits are soft-capped at ±{ends.softcap:g} afterwards: parts sum to the logit before that.")
    return parts, tuple(said)


def _with_neurons(parts: Sequence[_Part], split: Mapping[int, Neurons], most: int) -> list[_Part]:
    """The parts with MLPs in pieces: the neurons that contribute most, and of each MLP the others and the bias."""
    chosen = strongest(split, most)
    found: list[_Part] = []
    for part in parts:
        if part.kind != "mlp" or part.layer not in split:
            found.append(part)
            continue
        table, units = split[part.layer], sorted(chosen.get(part.layer, ()))
        found += [
            _Part(f"neuron {part.layer}.{unit}", "neuron", part.layer, -1, table.each[:, unit], unit) for unit in units
        ]
        others = np.delete(table.each, units, axis=1).sum(axis=1) + table.constant
        found.append(_Part(f"other neurons of mlp {part.layer}", "neurons", part.layer, -1, others))
    return found


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (f", … ({len(numbers)} in all)" if len(numbers) > 8 else "")


def _refuse_gap(model: Model, gaps: Gaps) -> None:
    """Parts that do not sum to the logit are not shown."""
    relative = float((np.abs(gaps.gap) / gaps.size).max())
    if not relative <= 10 * ROUNDING.get(model.dtype, 5e-2):
        raise MethodError(
            f"the parts of {model.name!r} sum to {gaps.total[0]:.6g} and not to its logit {gaps.logit[0]:.6g};",
            "between its last layer and its logits is more than a norm, a matrix, a scale and a soft-cap.",
            "Use `ablate` instead.",
        )


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(model: Model, encoded: EncodedTask, parts: Sequence[_Part], top: int) -> xr.Dataset:
    values = np.stack([part.value for part in parts], axis=1)  # prompt part
    data = xr.Dataset({"contribution": (("prompt", "part"), values)})
    data = data.assign_coords(
        prompt=list(encoded.prompts),
        part=[part.name for part in parts],
        kind=("part", [part.kind for part in parts]),
        part_layer=("part", [part.layer for part in parts]),
        part_head=("part", [part.head for part in parts]),
        part_unit=("part", [part.unit for part in parts]),
    )
    bands = np.array([interval(column) for column in values.T])
    for name, column in (("low", bands[:, 0]), ("mean", values.mean(axis=0)), ("high", bands[:, 2])):
        data[f"contribution_{name}"] = ("part", column)
    largest = np.argsort(-np.abs(values.mean(axis=0)), kind="stable")[: max(top, 2 * top)]
    data = data.assign_coords(largest=[parts[i].name for i in largest])
    for name in ("low", "mean", "high"):
        data[f"largest_{name}"] = ("largest", data[f"contribution_{name}"].values[largest])
    return _with_grids(data, model, parts, values.mean(axis=0))


def _with_grids(data: xr.Dataset, model: Model, parts: Sequence[_Part], mean: NDArray[np.float64]) -> xr.Dataset:
    """Heads by layer, MLPs by layer, and the sum of everything written up to each layer."""
    layers, heads = model.anatomy.n_layers, max(model.anatomy.n_heads, 1)
    by_head = np.full((layers, heads), np.nan)
    by_kind: Mapping[str, NDArray[np.float64]] = {kind: np.zeros(layers) for kind in ("attention", "mlp", "other")}
    before = 0.0
    for part, value in zip(parts, mean, strict=True):
        if part.layer < 0:
            before += float(value)
            continue
        if part.kind == "head" and part.head < heads:
            by_head[part.layer, part.head] = value
        name = (
            "mlp"
            if part.kind in ("mlp", "neuron", "neurons")
            else "other"
            if part.kind in ("rest", "layer")
            else "attention"
        )
        by_kind[name][part.layer] += value
    data["head_contribution"] = (("layer", "head"), by_head)
    for name, column in by_kind.items():
        data[f"{name}_contribution"] = ("layer", column)
    data["accumulated"] = ("layer", before + np.cumsum(sum(by_kind.values())))
    return data.assign_coords(layer=range(layers), head=range(heads))


def _named(data: xr.Dataset, direction: Direction) -> xr.Dataset:
    shown = ("largest_mean", "head_contribution", "mlp_contribution")
    said = dict.fromkeys(shown, (f"part of the {direction.name}", "logits"))
    return described(data, largest="part", accumulated=(direction.name, "logits"), **said)


def _views(encoded: EncodedTask, direction: Direction) -> tuple[views.View, ...]:
    what = direction.name
    low, high = ("largest_low", "largest_high") if len(encoded) > 1 else (None, None)
    return (
        views.bars(
            value="largest_mean",
            label="largest",
            low=low,
            high=high,
            title=f"Parts that contribute most to the {what}",
        ),
        views.heatmap(
            value="head_contribution",
            x="head",
            y="layer",
            title=f"What each head adds to the {what}",
            scale="diverging",
        ),
        views.curves(value="mlp_contribution", x="layer", title=f"What each MLP adds to the {what}"),
        views.curves(value="accumulated", x="layer", title=f"The {what}, added up to each layer (final norm frozen)"),
    )


# --- the check ---------------------------------------------------------------------------------------------------


def _check(
    model: Model,
    encoded: EncodedTask,
    logits: Tensor,
    data: xr.Dataset,
    top: int,
    ablation: str,
    controls: int,
    seed: int,
) -> Check | None:
    """Take the parts with the largest positive contributions out together, against random parts of the same kinds."""
    pool, written = _ablatable(data)
    best = [pool[i] for i in np.argsort(-written, kind="stable")[:top] if written[i] > 0]
    if not best or len(pool) <= len(best):
        return None
    metric = metric_of(encoded, None if any(encoded.wrong_ids) else "log_probability")
    random = sets_like(best, [*pool, *_neighbours(model, best)], controls, seed, sort=_sort)
    writes = _writes(model, encoded, [best, *random], ablation)
    drops = (metric(logits) - scores(model, encoded.ids, writes, metric, what="taking parts out")).mean(dim=1)
    names = ", ".join(_name(site) for site in best)
    return compared(
        float(drops[0]),
        drops[1:].tolist(),
        claim=f"The parts that write most of {words(model, [i for ids in encoded.answer_ids for i in ids])} "
        f"({names}) are needed for it.",
        how=f"Take them out together at the last token ({ablation} ablation) and measure how much the "
        f"{metric.name.replace('_', ' ')} falls; the control takes out as many random {_others(best)}.",
        unit=UNITS[metric.name],
    )


def _writes(model: Model, encoded: EncodedTask, sets: Sequence[Sequence[Site]], ablation: str) -> list[list[Write]]:
    """Zero, or the part's mean over all prompts and positions, at each site of each set."""
    if ablation == "zero":
        return [[Write(site) for site in chosen] for chosen in sets]
    wholes = tuple({site.whole for chosen in sets for site in chosen})
    run = model.run(encoded, read=wholes, logits="none")
    return [mean_writes(run, chosen) for chosen in sets]


def _ablatable(data: xr.Dataset) -> tuple[list[Site], NDArray[np.float64]]:
    """Heads and MLPs at the last token with their mean contributions."""
    sites, means = [], []
    columns = ("kind", "part_layer", "part_head", "part_unit", "contribution_mean")
    for kind, layer, head, unit, score in zip(*(data[name].values.tolist() for name in columns), strict=True):
        site = (
            {
                "head": Site("z", layer, head=head, position=-1),
                "attention": Site("attn_contrib", layer, position=-1),
                "mlp": Site("mlp_contrib", layer, position=-1),
                "neuron": Site("mlp_act", layer, unit=unit, position=-1),
            }.get(kind)
            if layer >= 0
            else None
        )
        if site is not None:
            sites.append(site)
            means.append(score)
    return sites, np.array(means)


def _neighbours(model: Model, best: Sequence[Site]) -> list[Site]:
    """All neurons of the layers from which one is taken out."""
    layers = dict.fromkeys(site.layer for site in best if site.kind == "mlp_act")
    return [site for layer in layers for site in model.expand(f"mlp_act[{layer}].unit[*]@-1")]


def _sort(site: Site) -> tuple[str, object]:
    """Neurons are compared with those of their layer, for sizes differ between layers; others with all of their kind."""
    return site.kind, site.layer if site.kind == "mlp_act" else None


def _others(best: Sequence[Site]) -> str:
    return "heads, and neurons of the same layers" if any(site.kind == "mlp_act" for site in best) else "heads and MLPs"


def _name(site: Site) -> str:
    match site.kind:
        case "mlp_act":
            return f"neuron {site.layer}.{site.unit}"
        case "z":
            return f"head {site.layer}.{site.head}"
        case "mlp_contrib":
            return f"mlp {site.layer}"
        case _:
            return f"attention {site.layer}"


def _no_check(check: Check | None) -> tuple[str, ...]:
    return () if check else ("No head, MLP or neuron adds to the answer, so nothing was taken out.",)
