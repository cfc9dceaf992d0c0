"""What would the network say with something added at one place, and how does that change with it?

Methods that look for a value or a change of weights by gradient steps try it first, without touching a weight: a vector
is added to what a layer gives at one token of each row, or a change of a matrix to what a linear map gives. Only the
logits that are asked for are computed, and the graph begins at the layer of the change.
Limits: rows are padded to the right, so the network must be causal; logits come for chosen positions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.core.errors import ModelError
from cutaway.core.site import Site
from cutaway.models import forward, taps
from cutaway.models.model import Model
from cutaway.models.multigrad import _weights_at_rest
from cutaway.models.taps import ModuleTap

TOKENS_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class Projection:
    """The linear map that takes an MLP's neurons to what the MLP gives.

    Attributes:
        layer: of the network.
        name: of its weights in `model.hf`.
        module: a `Linear`, or a `Conv1D`, whose weights are transposed.
        transposed: the weights are [neuron, d_model].
    """

    layer: int
    name: str
    module: nn.Module
    transposed: bool

    @property
    def weight(self) -> Tensor:
        """The matrix [d_model, neuron]."""
        held: Tensor = self.module.weight.detach()  # type: ignore[operator]
        return held.T if self.transposed else held

    @property
    def bias(self) -> Tensor | None:
        """What is added [d_model]."""
        found = getattr(self.module, "bias", None)
        return found.detach() if isinstance(found, Tensor) else None

    def stored(self, matrix: Tensor) -> Tensor:
        """A matrix [d_model, neuron] as the module keeps it."""
        return (matrix.T if self.transposed else matrix).contiguous()


def down_projection(model: Model, layer: int) -> Projection:
    """The linear map at the end of a layer's MLP.

    Raises:
        SiteError: the layer has no such MLP.
        ModelError: its weights are not a plain matrix.
    """
    place = model.anatomy.place(Site("mlp_act", layer))
    model.anatomy.place(Site("mlp_out", layer))
    weight = getattr(place.module, "weight", None)
    name = next((name for name, held in model.hf.named_parameters() if held is weight), None)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or not weight.is_floating_point() or name is None:
        raise ModelError(
            f"The last linear map of the MLP of layer {layer} ({place.path}) is a {type(place.module).__name__}.",
            "Weights are changed where they are a matrix of floating-point numbers, not quantised ones.",
        )
    return Projection(layer, name, place.module, type(place.module).__name__ == "Conv1D")


def vector_added(model: Model, site: Site, places: Sequence[int], vectors: Tensor) -> list[ModuleTap]:
    """Taps that add a vector to a site at one token of each row.

    Args:
        model: the network.
        site: a whole site with a `d_model`, such as `mlp_out[5]`.
        places: the token of each row.
        vectors: one for all rows [d_model], or one for each [row, d_model].
    """
    place = model.anatomy.place(site)
    rows = torch.arange(len(places))
    where = torch.tensor(list(places))

    def visit(raw: Tensor) -> Tensor:
        value = place.get(raw, len(places))
        added = torch.zeros_like(value)
        added = added.index_put((rows, where), vectors.to(value).expand(len(places), -1))
        return place.put(raw, value + added)

    return [ModuleTap(place.module, place.side, visit, place.index)]


def matrix_added(projection: Projection, change: Tensor) -> list[ModuleTap]:
    """Taps that let a linear map act as if `change` [d_model, neuron] were added to its matrix."""
    taken: list[Tensor] = []

    def keep(value: Tensor) -> None:
        taken[:] = [value]

    def add(value: Tensor) -> Tensor:
        return value + taken[0] @ change.to(value).T

    return [ModuleTap(projection.module, "in", keep), ModuleTap(projection.module, "out", add)]


def logits_at(
    model: Model, rows: Sequence[Sequence[int]], at: Sequence[Sequence[int]], added: Sequence[ModuleTap] = ()
) -> list[Tensor]:
    """Logits at chosen positions of each row: [len(at[row]), vocab] for each.

    Args:
        model: a causal network.
        rows: token ids.
        at: positions of each row.
        added: taps of this module; gradients flow to what they hold, never to weights.
    """
    grad = any(True for _ in added) and torch.is_grad_enabled()
    with _weights_at_rest(model.hf), torch.set_grad_enabled(grad):
        flat = _logits(model, rows, at, added)
    return list(flat.split([len(places) for places in at]))


def in_batches(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of rows that go into one pass: of similar lengths, with at most so many tokens."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    batches: list[list[int]] = []
    for row in order:
        if batches and (len(batches[-1]) + 1) * len(rows[row]) <= TOKENS_AT_ONCE:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _logits(
    model: Model, rows: Sequence[Sequence[int]], at: Sequence[Sequence[int]], added: Sequence[ModuleTap]
) -> Tensor:
    """[place, vocab], the places of all rows after one another."""
    unembed = model.anatomy.unembed
    first = [row for row, places in enumerate(at) for _ in places]
    second = [place for places in at for place in places]
    inputs = forward.model_inputs(model.hf, rows)
    plain = unembed is not None and "final" not in model.anatomy.refused_ends
    gather = [ModuleTap(unembed, "in", lambda hidden: hidden[first, second][None])] if plain and unembed else []
    with taps.module_taps([*added, *gather]):
        logits = model.hf(**inputs).logits
    found: Tensor = logits[0] if plain else logits[first, second]
    return found
