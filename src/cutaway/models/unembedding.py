"""What does the end of the network make of a residual stream? The final norm and the unembedding, whole or in part.

Logits of a few tokens need a few rows of the unembedding only. What follows the unembedding in a model's own code (a
scale, a soft-cap) is learned from the model's configuration and *checked* on a real pass; where the parts do not give
the model's own logits, the model's own modules are used and all rows are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.errors import ModelError
from cutaway.core.site import Site
from cutaway.models import taps
from cutaway.models.place import projection_weight

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass(frozen=True)
class FrozenNorm:
    """A norm as an affine map once its statistics are frozen: `gain * (x - mean(x)) * scale + bias`.

    Attributes:
        gain, bias: [d_model].
        centres: True for LayerNorm, which takes the mean out; False for RMSNorm.
        module: the norm itself.
    """

    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centres: bool
    module: nn.Module | None

    @staticmethod
    def of(module: nn.Module | None, d_model: int, device: torch.device, dtype: torch.dtype) -> FrozenNorm:
        """Learn the map of a norm from what it does to a few vectors (no table of norm classes)."""
        if module is None:
            one = torch.ones(d_model, device=device, dtype=dtype)
            return FrozenNorm(one, torch.zeros_like(one), False, None)
        # Signs have mean 0 and mean square 1, so both kinds of norm give ±gain + bias.
        signs = torch.ones(d_model, device=device, dtype=dtype)
        signs[1::2] = -1
        with torch.no_grad():
            up, down = (_apply_norm(module, (s * 1e3)[None, None])[0, 0] for s in (signs, -signs))
            shifted = _apply_norm(module, (signs * 1e3 + 1e3)[None, None])[0, 0]
        gain, bias = (up - down) / 2 * signs, (up + down) / 2
        centres = d_model % 2 == 0 and bool(torch.allclose(shifted, up, rtol=1e-3, atol=1e-3))
        return FrozenNorm(gain, bias, centres, module)

    def scale(self, resid: Float[Tensor, "*place d_model"]) -> Float[Tensor, "*place 1"]:
        """The factor [..., 1] by which the norm multiplies at each position of `resid` [..., d_model]."""
        if self.module is None:
            return torch.ones_like(resid[..., :1])
        centred = self._centred(resid) * self.gain
        out = _apply_norm(self.module, resid) - self.bias
        return (out * centred).sum(-1, keepdim=True) / (centred * centred).sum(-1, keepdim=True)

    def linear(
        self, part: Float[Tensor, "*part d_model"], scale: Float[Tensor, "*#part 1"]
    ) -> Float[Tensor, "*out d_model"]:
        """What a part of the stream becomes under the frozen norm: `gain * (part - mean) * scale`, without bias."""
        return self._centred(part) * self.gain * scale

    def _centred(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True) if self.centres else x


def _apply_norm(module: nn.Module, x: Tensor) -> Tensor:
    out = module.forward(x)  # past its hooks: what somebody adds there is not the norm's own
    return out if isinstance(out, Tensor) else out[0]


@dataclass(frozen=True)
class Unembedding:
    """From the residual stream to logits.

    Attributes:
        norm: the final norm.
        weight, bias: of the unembedding: [vocab, d_model], [vocab] or None.
        multiplier, softcap: what the model's code does to the logits afterwards.
        exact: True when the parts give the model's own logits; otherwise rows cannot be computed alone.
        model: where the modules are.
        from_stream: True when nothing but the norm stands between the last layer and the unembedding.
    """

    norm: FrozenNorm
    weight: Float[Tensor, "vocab d_model"]
    bias: Float[Tensor, " vocab"] | None
    multiplier: float
    softcap: float | None
    exact: bool
    model: Any
    from_stream: bool = True

    @staticmethod
    def of(model: Model) -> Unembedding:
        """Find the final norm and check the parts against the model's own logits on a short pass."""
        anatomy = model.anatomy
        if anatomy.unembed is None:
            raise ModelError(
                f"{type(model.hf).__name__} has no unembedding.",
                "It cannot turn a residual stream into logits.",
            )
        if "final" in anatomy.refused_ends:
            reason = anatomy.refused_ends["final"]
            raise ModelError(
                f"The unembedding of {type(model.hf).__name__} cannot be tapped: {reason}.",
                "Its logits can only be had from a whole run.",
            )
        stream, final, logits, module = _ends(model)
        norm = FrozenNorm.of(module, stream.shape[-1], stream.device, stream.dtype)
        # Some networks do more between the last layer and the unembedding than a norm: there the lens has no meaning.
        plain = _close(stream if module is None else _apply_norm(module, stream), final)
        weight = projection_weight(anatomy.unembed).T
        bias = getattr(anatomy.unembed, "bias", None)
        for multiplier, softcap in _candidates(anatomy.text_config):
            found = Unembedding(norm, weight, bias, multiplier, softcap, True, model, plain)
            raw = anatomy.unembed(final) if found.is_elsewhere else functional.linear(final, weight, bias)
            if _close(found._after(raw), logits):
                return found
        return Unembedding(norm, weight, bias, 1.0, None, False, model, plain)

    @property
    def is_elsewhere(self) -> bool:
        """True when the weights are fetched for each use (by accelerate): only their module has them."""
        return self.weight.device.type == "meta"

    def logits(
        self, resid: Float[Tensor, "*place d_model"], tokens: Sequence[int] | Int[Tensor, " token"] | None = None
    ) -> Float[Tensor, "*place vocab"]:
        """Logits [..., vocab or len(tokens)] of residual stream values [..., d_model]."""
        if not self.from_stream:
            raise ModelError(
                f"{type(self.model.hf).__name__} does more than a norm between its last layer and its unembedding.",
                "A residual stream cannot be read as logits there.",
            )
        flat = resid.reshape(1, -1, resid.shape[-1])
        final = flat if self.norm.module is None else _apply_norm(self.norm.module, flat)
        return self.of_final(final, tokens).reshape(*resid.shape[:-1], -1)

    def of_final(
        self, final: Float[Tensor, "*place d_model"], tokens: Sequence[int] | Int[Tensor, " token"] | None = None
    ) -> Float[Tensor, "*place vocab"]:
        """Logits of values after the final norm."""
        if not self.exact:
            raise ModelError(
                f"The unembedding of {type(self.model.hf).__name__} is more than a matrix, a scale and a soft-cap.",
                "Its logits can only be had from a whole run.",
            )
        if self.is_elsewhere:
            whole = self._after(self.model.anatomy.unembed(final))
            return whole if tokens is None else whole[..., torch.as_tensor(tokens, device=whole.device)]
        if tokens is None:
            # The module itself: quantised or sharded weights stay what they are.
            return self._after(self.model.anatomy.unembed(final.to(self.weight.device)))
        rows = torch.as_tensor(tokens, device=self.weight.device, dtype=torch.long)
        bias = None if self.bias is None else self.bias[rows]
        return self._after(functional.linear(final.to(self.weight.device), self.weight[rows], bias))

    def _after(self, logits: Float[Tensor, "*place vocab"]) -> Float[Tensor, "*place vocab"]:
        if self.multiplier != 1.0:
            logits = logits * self.multiplier
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


def _candidates(config: Any) -> list[tuple[float, float | None]]:
    """Scales and soft-caps that a configuration names, none first."""
    caps = [getattr(config, "final_logit_softcapping", None), getattr(config, "logits_soft_cap", None)]
    factors = [1.0]
    for name in (
        "logit_scale",
        "lm_head_multiplier",
        "logits_scaling",
        "output_multiplier_scale",
        "mup_logits_scale",
    ):
        value = getattr(config, name, None)
        if isinstance(value, int | float) and value:
            factors += [float(value), 1.0 / float(value)]
    base = getattr(config, "dim_model_base", None)
    if base and getattr(config, "hidden_size", None):
        factors.append(float(base) / config.hidden_size)
    if isinstance(getattr(config, "d_model", None), int):
        factors.append(config.d_model**-0.5)
    return [(factor, cap) for cap in [None, *[c for c in caps if c]] for factor in factors]


def _close(ours: Tensor, theirs: Tensor) -> bool:
    if ours.shape != theirs.shape:
        return False
    tolerance = 1e-4 if theirs.dtype in (torch.float32, torch.float64) else 3e-2
    return bool((ours.float() - theirs.float()).norm() <= tolerance * theirs.float().norm())


def _ends(model: Model) -> tuple[Tensor, Tensor, Tensor, nn.Module | None]:
    """The stream after the last layer, the unembedding's input, the logits, and the norm between them."""
    from cutaway.models.anatomy import _probe_inputs

    anatomy = model.anatomy
    seen: dict[str, Tensor] = {}
    assert anatomy.unembed is not None
    last = Site("resid_post", anatomy.n_layers - 1)
    place = anatomy.place(last)
    called: list[tuple[nn.Module, Tensor, Tensor]] = []

    def leaf(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        found = taps.first_tensor(args, kwargs)
        if found is not None and isinstance(output, Tensor) and "stream" in seen:
            called.append((module, found[1], output))

    leaves = {
        name: m
        for name, m in model.hf.named_modules()
        if next(m.children(), None) is None and not any(True for p in m.parameters() if p.dim() > 1)
    }
    unembed_in = taps.ModuleTap(anatomy.unembed, "in", lambda t: seen.__setitem__("final", t))
    stream_out = taps.ModuleTap(place.module, "out", lambda t: seen.__setitem__("stream", t), place.index)
    with torch.no_grad(), taps.watching(leaves, leaf), taps.module_taps([unembed_in, stream_out]):
        logits = model.hf(**_probe_inputs(anatomy)).logits
    stream, final = seen["stream"], seen["final"]
    norm = next(
        (
            m
            for m, inp, out in called
            if inp.shape == stream.shape and torch.equal(inp, stream) and out.shape == final.shape
        ),
        None,
    )
    if norm is not None and not _close(_apply_norm(norm, stream), final):
        norm = None if _close(stream, final) else norm
    return stream, final, logits, norm
