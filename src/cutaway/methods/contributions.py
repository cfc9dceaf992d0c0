"""What did each part write into the residual stream? Heads, biases, MLPs, as vectors at the last token.

A layer adds what attention and MLP give, after a norm or a multiplier of their own where the architecture has one.
A head's share goes through that norm with its statistics frozen, so that the shares sum to what was added. What is
not such a sum is not split: heads behind a gate are one part, and so is a layer that normalises the stream itself.
Every split is compared with what was really written before it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.models.anatomy import Layer
from cutaway.models.model import Model
from cutaway.models.unembedding import FrozenNorm

END = "@-1"
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


def end_sites(model: Model) -> list[str]:
    """Sites at the last token, of each layer those that it has."""
    reads = ["embed" + END, "resid_pre[0]" + END, "resid_post[*]" + END]
    for layer in model.anatomy.stacks[""].layers:
        kinds = ("z", "attn_out", "attn_contrib", "mlp_contrib")
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
    through = _post_norm(model, layer, out, written, tolerance)
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
    model: Model, layer: Layer, out: Tensor, written: Tensor, tolerance: float
) -> tuple[Tensor, FrozenNorm | None] | None:
    """The linear map from what attention returns to what is added: a multiplier, or a norm with frozen statistics."""
    place = layer.places["attn_contrib"]
    factor = torch.full_like(written[:, :1], place.scale)
    if _near(out.to(written) * factor, written, tolerance):
        return factor, None
    found = FrozenNorm.of(place.module, model.anatomy.d_model, out.device, out.dtype)
    scale = found.scale(out).to(written) * factor
    norm = FrozenNorm(found.gain.to(written), found.bias.to(written), found.centres, found.module)
    whole = norm.linear(out.to(written), scale) + norm.bias * place.scale
    return (scale, norm) if _near(whole, written, tolerance) else None


def _near(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return bool((ours - theirs).norm() <= 10 * tolerance * theirs.norm() + 1e-12)
