"""Where is the cell, and what stands around it? One position of one layer on one prompt, with the rows it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.apps.inspection.parts import is_norm
from cutaway.apps.inspection.readings import readings
from cutaway.core.errors import SiteError
from cutaway.core.site import Site
from cutaway.models.anatomy import Layer
from cutaway.models.model import Model
from cutaway.models.place import projection_weight


@dataclass(frozen=True, eq=False)
class Matrix:
    """A linear map of the network: weight [in, out], and bias [out] or None."""

    name: str
    weight: Tensor
    bias: Tensor | None

    def apply(self, x: Tensor, columns: Tensor | slice = slice(None)) -> Tensor:
        """The outputs of some columns."""
        out = x.to(self.weight) @ self.weight[:, columns]
        return out if self.bias is None else out + self.bias[columns]


@dataclass(frozen=True, eq=False)
class Spot:
    """A layer and a position of a prompt.

    Attributes:
        model, ids: the network and the prompt.
        layer: the layer; None at the ends of the network.
        position: which token.
    """

    model: Model
    ids: tuple[int, ...]
    layer: Layer | None
    position: int

    def whole(self, kind: str, layer: int | None = None) -> Tensor:
        """The whole value of a site of this layer, or of another one, without the prompt's dimension."""
        if layer is None and self.layer is not None and kind not in ("embed", "final", "logits"):
            layer = self.layer.index
        site = Site(kind, layer)
        value = readings(self.model).run(self.model, self.ids, [site])[site][0]
        return value.detach()

    def row(self, kind: str, layer: int | None = None) -> Tensor:
        """The values at this position."""
        return self.whole(kind, layer)[self.position]

    def has(self, *kinds: str) -> bool:
        """True when the layer serves all of these."""
        return self.layer is not None and all(kind in self.layer.places for kind in kinds)

    def site(self, kind: str, layer: int | None = None, head: int | None = None) -> Callable[[int], str]:
        """The name of a unit's site."""
        if layer is None and self.layer is not None and kind not in ("embed", "final", "logits"):
            layer = self.layer.index
        return lambda unit: str(Site(kind, layer, head=head, unit=unit, position=self.position))

    def matrices(self, inputs: int, outputs: int = 0) -> Iterator[Matrix]:
        """The layer's linear maps from so many numbers to at least so many."""
        assert self.layer is not None
        for path, module in self.layer.module.named_modules():
            found = matrix(path, module)
            if found is not None and found.weight.shape[0] == inputs and found.weight.shape[1] >= outputs:
                yield found

    def norms(self) -> Iterator[nn.Module]:
        """The norms of the layer; at the ends, those outside of all layers."""
        if self.layer is not None:
            yield from (module for module in self.layer.module.modules() if is_norm(module))
            return
        inside = {id(m) for layer in self.model.anatomy.stacks[""].layers for m in layer.module.modules()}
        yield from (module for module in self.model.hf.modules() if is_norm(module) and id(module) not in inside)


def spot(model: Model, ids: Sequence[int], site: Site) -> Spot:
    """The spot of a site with a position."""
    if not isinstance(site.position, int):
        raise SiteError(f"'{site}' has no position.", "A cell is one number,", "as in resid_post[3].unit[7]@5.")
    layer = model.anatomy.layer(site) if site.layer is not None else None
    return Spot(model, tuple(ids), layer, site.position % len(ids))


def matrix(path: str, module: nn.Module) -> Matrix | None:
    """A module as a linear map, where it is one with plain weights."""
    weight = getattr(module, "weight", None)
    plain = isinstance(weight, nn.Parameter) and weight.dim() == 2 and weight.dtype.is_floating_point
    if not plain or isinstance(module, nn.Embedding) or weight.device.type == "meta":  # type: ignore[union-attr]
        return None
    bias = getattr(module, "bias", None)
    name = path.rpartition(".")[2] or type(module).__name__
    return Matrix(name, projection_weight(module).detach(), bias.detach() if isinstance(bias, Tensor) else None)


def epsilon(norm: nn.Module) -> float:
    """The number that a norm adds before its root."""
    for name in ("variance_epsilon", "eps", "epsilon", "layer_norm_epsilon"):
        value = getattr(norm, name, None)
        if isinstance(value, float):
            return value
    return float(torch.finfo(torch.float32).eps)
