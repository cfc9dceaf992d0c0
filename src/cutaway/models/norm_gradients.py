"""What is a gradient after a norm, before it? By the norm's own Jacobian, for many gradients at one stream.

LayerNorm and RMSNorm have a Jacobian in closed form once their gain and scale are known; both are learned from the
module itself, and the formula is compared with autograd once. A norm that does otherwise is left to autograd.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.models.edge_parts import Norm
from cutaway.models.unembedding import FrozenNorm


@dataclass(frozen=True, eq=False)
class NormSlope:
    """The Jacobian of a norm at each place of a stream.

    With y = gain * x̂ * s and s = (mean x̂² + ε)^-½, the slope of s takes out what lies along the stream.

    Attributes:
        straight: gain * s.
        weights: gain * x̂, by which gradients are summed.
        along: -x̂ * s³ / d_model, by which their sum is taken out.
        centres: whether the mean is taken out too.
    """

    straight: Float[Tensor, "*place d_model"]
    weights: Float[Tensor, "*place d_model"]
    along: Float[Tensor, "*place d_model"]
    centres: bool

    @staticmethod
    def of(
        norm: FrozenNorm, stream: Float[Tensor, "*place d_model"], scale: Float[Tensor, "*place 1"] | None = None
    ) -> NormSlope:
        """The Jacobian at a stream; `scale` is s there, where it is known."""
        gain, scale = norm.gain.to(stream), norm.scale(stream) if scale is None else scale
        centred = stream - stream.mean(dim=-1, keepdim=True) if norm.centres else stream
        return NormSlope(gain * scale, gain * centred, centred * (-(scale**3) / stream.shape[-1]), norm.centres)

    def __call__(
        self, grads: Float[Tensor, "*target place d_model"], onto: Float[Tensor, "*target place d_model"] | None = None
    ) -> Float[Tensor, "*target place d_model"]:
        """Gradients after the norm as gradients before it; added to others where those are given."""
        along = (grads * self.weights).sum(dim=-1, keepdim=True)
        found = grads * self.straight if onto is None else torch.addcmul(onto, grads, self.straight)
        found.addcmul_(self.along, along)
        return found.sub_((grads * self.straight).mean(dim=-1, keepdim=True)) if self.centres else found


def pulled_back(
    norm: Norm, stream: Float[Tensor, "token d_model"], grads: Float[Tensor, "target token d_model"]
) -> Float[Tensor, "target token d_model"]:
    """Gradients after a norm as gradients before it, by the norm's own Jacobian at a stream."""
    if norm.module is None:
        return grads
    frozen = frozen_of(norm, stream)
    return _by_autograd(norm, stream, grads) if frozen is None else NormSlope.of(frozen, stream)(grads)


def frozen_of(norm: Norm, stream: Float[Tensor, "*place d_model"]) -> FrozenNorm | None:
    """The norm as gain and scale; None where its Jacobian is not that of the formula. Learned once, at a stream."""
    if not norm.learned:
        norm.learned.append(_frozen(norm, stream.reshape(-1, stream.shape[-1])))
    return norm.learned[0]


def _frozen(norm: Norm, stream: Tensor) -> FrozenNorm | None:
    """The norm as gain and scale, where its Jacobian is that of the formula."""
    found = FrozenNorm.of(norm.module, stream.shape[-1], stream.device, stream.dtype)
    few = stream[:3]
    noise = torch.randn((2, *few.shape), generator=torch.Generator().manual_seed(0)).to(stream)
    theirs = _by_autograd(norm, few, noise)
    tolerance = 1e-4 if stream.dtype in (torch.float32, torch.float64) else 5e-2
    fits = (NormSlope.of(found, few)(noise) - theirs).norm() <= tolerance * theirs.norm()
    return found if bool(fits) else None


def _by_autograd(norm: Norm, stream: Tensor, grads: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        wide = stream.detach().expand_as(grads).clone().requires_grad_(True)
        (found,) = torch.autograd.grad(norm(wide), wide, grads)
    return found
