"""What did each part write into the residual stream? Heads, biases, MLPs, as vectors at the last token.

A layer adds what attention and MLP give, after a norm or a multiplier of their own where the architecture has one.
A head's share goes through that norm with its statistics frozen, so that the shares sum to what was added. What is
not such a sum is not split: heads behind a gate are one part, and so is a layer that normalises the stream itself.
Every split is compared with what was really written before it is used.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.models.anatomy import Layer
from cutaway.models.model import Model
from cutaway.models.place import projection_weight
from cutaway.models.unembedding import FrozenNorm

END = "@-1"
ROWS_AT_ONCE = 4096  # of a matrix that is made wide
# Relative rounding of a network's own sums. Norms of many models compute in single precision whatever the weights are.
ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Written:
    """What one part added to the stream at the last token.

    Attributes:
        name: for people.
        kind: `head`, `attention` (all heads of a layer), `attention_bias`, `mlp`, `layer` (a whole one), or `rest`.
        head: which one; -1 for others.
        vector: [prompt, d_model].
    """

    name: str
    kind: str
    head: int
    vector: Tensor


@dataclass(frozen=True)
class Neurons:
    """What each neuron of an MLP added to the stream at the last token, along one direction for each prompt.

    Attributes:
        each: [prompt, neuron].
        constant: what no neuron writes, the biases [prompt].
    """

    each: NDArray[np.float64]
    constant: NDArray[np.float64]


def end_sites(model: Model, *, neurons: bool = False) -> list[str]:
    """Sites at the last token, of each layer those that it has."""
    reads = ["embed" + END, "resid_pre[0]" + END, "resid_post[*]" + END]
    for layer in model.anatomy.stacks[""].layers:
        kinds = ("z", "attn_out", "attn_contrib", "mlp_contrib", *(("mlp_act", "mlp_out") if neurons else ()))
        reads += [f"{kind}[{layer.index}]{END}" for kind in kinds if kind in layer.places]
    return reads


def written_by_layer(
    model: Model, layer: Layer, run: Run, before: Tensor, after: Tensor
) -> tuple[list[Written], list[str]]:
    """What a layer wrote into the stream [prompt, d_model], in parts; whatever they do not explain is the rest."""
    number, terms, notes = layer.index, [], []
    tolerance = ROUNDING.get(model.dtype, 5e-2)
    left = after - before
    if layer.post_norm:
        reason = "the whole layer is one part, for the stream is normalised after each sum"
        return [Written(f"layer {number}", "layer", -1, left)], [reason]
    if "attn_contrib" in layer.places:
        written = run[Site("attn_contrib", number, position=-1)].to(left)
        heads = _heads(model, layer, run, written, tolerance)
        if heads is None:
            heads = [Written(f"attention {number}", "attention", -1, written)]
            notes.append("attention is one part, for its heads do not sum to what it writes")
        terms += heads
        left = left - written
    if "mlp_contrib" in layer.places:
        written = run[Site("mlp_contrib", number, position=-1)].to(left)
        terms.append(Written(f"mlp {number}", "mlp", -1, written))
        left = left - written
    if not terms:
        terms.append(Written(f"layer {number}", "layer", -1, left))
        reason = layer.refused.get("attn_contrib", "its branches are not known")
        notes.append(f"the whole layer is one part, for {reason}")
    elif float(left.norm()) > 10 * tolerance * float(after.norm()):
        terms.append(Written(f"rest of layer {number}", "rest", -1, left))
        notes.append("something other than attention and MLP writes too, and is a part of its own")
    return terms, notes


def _heads(model: Model, layer: Layer, run: Run, written: Tensor, tolerance: float) -> list[Written] | None:
    """Each head's part of what attention writes, and the bias; None where they do not sum to it."""
    if layer.output_projection is None or not {"z", "attn_out"} <= set(layer.places):
        return None
    z = run[Site("z", layer.index, position=-1)].to(written)
    matrix = model.W_O(layer.index).to(written)
    if z.dim() != 3 or z.shape[1:] != matrix.shape[:2]:
        return None
    each = torch.einsum("phd,hdm->phm", z, matrix)
    bias = model.attention_bias(layer.index)
    constant = torch.zeros_like(each[:, 0]) if bias is None else bias.to(written).expand_as(each[:, 0])
    out = run[Site("attn_out", layer.index, position=-1)]
    if not _near(each.sum(dim=1) + constant, out.to(written), tolerance):
        return None
    through = _post_norm(model, layer, "attn_contrib", out, written, tolerance)
    if through is None:
        return None
    scale, norm = through
    if norm is not None:
        each = norm.linear(each, scale[:, None])
        constant = norm.linear(constant, scale) + norm.bias * layer.places["attn_contrib"].scale
    else:
        each, constant = each * scale[:, None], constant * scale
    number = layer.index
    terms = [Written(f"head {number}.{head}", "head", head, each[:, head]) for head in range(each.shape[1])]
    if bool(constant.any()):
        terms.append(Written(f"attention bias {number}", "attention_bias", -1, constant))
    return terms


def _post_norm(
    model: Model, layer: Layer, kind: str, out: Tensor, written: Tensor, tolerance: float
) -> tuple[Tensor, FrozenNorm | None] | None:
    """The linear map from what a branch returns to what is added: a multiplier, or a norm with frozen statistics."""
    place = layer.places[kind]
    factor = torch.full_like(written[:, :1], place.scale)
    if _near(out.to(written) * factor, written, tolerance):
        return factor, None
    found = FrozenNorm.of(place.module, model.anatomy.d_model, out.device, out.dtype)
    scale = found.scale(out).to(written) * factor
    norm = FrozenNorm(found.gain.to(written), found.bias.to(written), found.centres, found.module)
    whole = norm.linear(out.to(written), scale) + norm.bias * place.scale
    return (scale, norm) if _near(whole, written, tolerance) else None


def strongest(split: Mapping[int, Neurons], most: int) -> dict[int, list[int]]:
    """Of the neurons of several layers those with the largest mean contributions, at most so many, by layer."""
    sizes = [
        (abs(mean), -layer, -unit)
        for layer, found in split.items()
        for unit, mean in enumerate(found.each.mean(axis=0))
    ]
    chosen: dict[int, list[int]] = {}
    for _, layer, unit in heapq.nlargest(most, sizes):
        chosen.setdefault(-layer, []).append(-unit)
    return {layer: sorted(units) for layer, units in chosen.items()}


def pulled_back(norm: FrozenNorm, along: Tensor, scale: Tensor) -> Tensor:
    """The direction before a frozen norm whose product with a part is that of `along` with what the norm makes of it."""
    before = along * norm.gain.to(along) * scale
    return before - before.mean(dim=-1, keepdim=True) if norm.centres else before


def neurons_of(model: Model, layer: Layer, run: Run, along: Tensor) -> Neurons | None:
    """What each neuron of a layer's MLP writes along directions [prompt, d_model]; None where they do not sum to it.

    A neuron writes its activation times its row of the matrix that leaves the MLP, through a frozen norm after it where
    there is one.
    """
    if not {"mlp_act", "mlp_out", "mlp_contrib"} <= set(layer.places):
        return None
    number, tolerance = layer.index, ROUNDING.get(model.dtype, 5e-2)
    module = layer.places["mlp_act"].module
    active = run[Site("mlp_act", number, position=-1)]
    out = run[Site("mlp_out", number, position=-1)]
    written = run[Site("mlp_contrib", number, position=-1)].to(along)
    matrix = projection_weight(module)
    if matrix.device.type == "meta":  # fetched for each use: only the module has it
        return None
    through = _post_norm(model, layer, "mlp_contrib", out, written, tolerance)
    if active.dim() != 2 or matrix.shape != (active.shape[-1], written.shape[-1]) or through is None:
        return None
    scale, norm = through
    inner = along * scale if norm is None else pulled_back(norm, along, scale)
    bias = getattr(module, "bias", None)
    constant = torch.zeros_like(inner[:, 0]) if bias is None else inner @ bias.to(inner)
    if norm is not None:
        constant = constant + along @ norm.bias.to(along) * layer.places["mlp_contrib"].scale
    rows = torch.cat([inner @ piece.to(inner).T for piece in matrix.split(ROWS_AT_ONCE)], dim=1)
    each = active.to(inner) * rows
    whole = (written * along).sum(dim=1)
    size = each.abs().sum(dim=1) + constant.abs() + 1e-12
    if bool(((each.sum(dim=1) + constant - whole).abs() > 10 * tolerance * size).any()):
        return None
    return Neurons(each.double().cpu().numpy(), constant.double().cpu().numpy())


def _near(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return bool((ours - theirs).norm() <= 10 * tolerance * theirs.norm() + 1e-12)
