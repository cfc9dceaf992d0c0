"""What is a gradient after a norm, before it? By the norm's own Jacobian, for many gradients at one stream.

LayerNorm and RMSNorm have a Jacobian in closed form once their gain and scale are known; both are learned from the
module itself, and the formula is compared with autograd once. A norm that does otherwise is left to autograd.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.models.edge_parts import Norm
from cutaway.models.unembedding import FrozenNorm


def pulled_back(
    norm: Norm, stream: Float[Tensor, "token d_model"], grads: Float[Tensor, "target token d_model"]
) -> Float[Tensor, "target token d_model"]:
    """Gradients after a norm as gradients before it, by the norm's own Jacobian at a stream."""
    if norm.module is None:
        return grads
    if not norm.learned:
        norm.learned.append(_frozen(norm, stream))
    frozen = norm.learned[0]
    return _by_autograd(norm, stream, grads) if frozen is None else _by_formula(frozen, stream, grads)


def _by_formula(frozen: FrozenNorm, stream: Tensor, grads: Tensor) -> Tensor:
    # y = gain * x̂ * s with s = (mean x̂² + ε)^-½: the slope of s takes out what lies along the stream.
    scale = frozen.scale(stream)
    centred = stream - stream.mean(dim=-1, keepdim=True) if frozen.centres else stream
    before = grads * frozen.gain.to(grads)
    along = torch.einsum("ntd,td->nt", before, centred)
    found = before.mul_(scale).sub_(along[..., None] * (centred * scale**3 / stream.shape[-1]))
    return found.sub_(found.mean(dim=-1, keepdim=True)) if frozen.centres else found


def _frozen(norm: Norm, stream: Tensor) -> FrozenNorm | None:
    """The norm as gain and scale, where its Jacobian is that of the formula."""
    found = FrozenNorm.of(norm.module, stream.shape[-1], stream.device, stream.dtype)
    few = stream[:3]
    noise = torch.randn((2, *few.shape), generator=torch.Generator().manual_seed(0)).to(stream)
    theirs = _by_autograd(norm, few, noise)
    tolerance = 1e-4 if stream.dtype in (torch.float32, torch.float64) else 5e-2
    fits = (_by_formula(found, few, noise) - theirs).norm() <= tolerance * theirs.norm()
    return found if bool(fits) else None


def _by_autograd(norm: Norm, stream: Tensor, grads: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        wide = stream.detach().expand_as(grads).clone().requires_grad_(True)
        (found,) = torch.autograd.grad(norm(wide), wide, grads)
    return found
