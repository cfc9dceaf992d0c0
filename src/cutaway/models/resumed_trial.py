"""How is a vector tried many times at little cost? Only what it changes is computed anew.

A vector that is added at layer l and token p of a row leaves all layers below l as they were, and in a causal network all
tokens before p. One plain pass keeps the stream below the layer, and the keys and values before the token; each trial
then runs the tokens from p on through the layers from l on. Rows differ in where their token stands: their kept keys
are aligned at its place, with padding to the left that nobody attends to.
The first trial is compared with a whole pass; where a network does not give the same, whole passes are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from cutaway.core.errors import CutawayError
from cutaway.core.site import Site
from cutaway.models import forward, taps
from cutaway.models.anatomy import probe_tolerance
from cutaway.models.model import Model
from cutaway.models.multigrad import _weights_at_rest
from cutaway.models.recording import _Prefix
from cutaway.models.taps import ModuleTap
from cutaway.models.trial import logits_at, vector_added


@dataclass(frozen=True, eq=False)
class Trial:
    """Rows to which a vector is added, each at its place.

    Attributes:
        model: the network.
        site: where: a whole site with a `d_model`.
        rows: token ids.
        places: the token of each row.
        kept: what a resumed pass needs; None for whole passes.
    """

    model: Model
    site: Site
    rows: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]
    kept: _Kept | None

    def logits(self, vector: Tensor, at: Sequence[Sequence[int]]) -> list[Tensor]:
        """Logits at chosen positions of each row, none before its place: [len(at[row]), vocab] for each."""
        if self.kept is None:
            added = vector_added(self.model, self.site, self.places, vector)
            return logits_at(self.model, self.rows, at, added)
        with _weights_at_rest(self.model.hf):
            flat = self._resumed(self.kept, vector, at)
        return list(flat.split([len(places) for places in at]))

    def _resumed(self, kept: _Kept, vector: Tensor, at: Sequence[Sequence[int]]) -> Tensor:
        model, layers = self.model, self.model.anatomy.stacks[""].layers
        assert isinstance(self.site.layer, int) and model.anatomy.unembed is not None
        first = [row for row, places in enumerate(at) for _ in places]
        second = [place - self.places[row] for row, places in enumerate(at) for place in places]
        modules = [
            ModuleTap(layer.module, "skip", lambda hidden: hidden, layer.out_index, kept.templates[layer.index])
            for layer in layers[: self.site.layer]
        ]
        modules.append(ModuleTap(layers[self.site.layer].module, "in", lambda hidden: kept.stream))
        modules += vector_added(model, self.site, [0] * len(self.rows), vector)
        modules.append(ModuleTap(model.anatomy.unembed, "in", lambda hidden: hidden[first, second][None]))
        with taps.module_taps(modules):
            logits: Tensor = model.hf(**kept.inputs, past_key_values=Cache(layers=list(kept.prefixes))).logits[0]
        return logits


@dataclass(frozen=True, eq=False)
class _Kept:
    """Of one plain pass: the stream from each row's place on, templates of outputs, keys and values before the places."""

    stream: Tensor
    templates: tuple[Any, ...]
    prefixes: tuple[_Prefix, ...]
    inputs: dict[str, Any]


def trial(model: Model, site: Site, rows: Sequence[Sequence[int]], places: Sequence[int]) -> Trial:
    """Rows made ready for many trials.

    Args:
        model: a causal network.
        site: `mlp_out[5]`, `resid_post[8]` or another whole site with a `d_model` within a layer.
        rows: token ids.
        places: the token of each row at which a vector is added.
    """
    whole = Trial(model, site, tuple(map(tuple, rows)), tuple(places), None)
    try:
        kept = _keep(model, site, whole.rows, whole.places)
    except (CutawayError, NotImplementedError, TypeError, ValueError, RuntimeError):
        kept = None  # a network that takes its arguments otherwise runs whole
    if kept is None:
        return whole
    resumed = Trial(model, site, whole.rows, whole.places, kept)
    return resumed if _agree(whole, resumed) else whole


@torch.no_grad()
def _agree(whole: Trial, resumed: Trial) -> bool:
    """Both give the same logits with a vector in place."""
    at = [[place, len(row) - 1] for row, place in zip(whole.rows, whole.places)]
    width = whole.model.anatomy.d_model
    vector = torch.linspace(-1, 1, width, dtype=whole.model.dtype, device=whole.model.device)
    try:
        pairs = list(zip(whole.logits(vector, at), resumed.logits(vector, at)))
    except (CutawayError, NotImplementedError, TypeError, ValueError, RuntimeError, IndexError):
        return False
    slack = 50 * probe_tolerance(whole.model.hf)
    return all(float((a - b).abs().max()) <= slack * float(a.abs().max()) for a, b in pairs)


@torch.no_grad()
def _keep(model: Model, site: Site, rows: Sequence[Sequence[int]], places: Sequence[int]) -> _Kept | None:
    hf, anatomy = model.hf, model.anatomy
    unusable = anatomy.unembed is None or "final" in anatomy.refused_ends
    if unusable or not all(forward.accepts(hf, name) for name in ("past_key_values", "position_ids", "attention_mask")):
        return None
    if not isinstance(site.layer, int) or site.stack:
        return None
    layers = anatomy.stacks[""].layers
    streams: list[Tensor] = []
    outputs: list[Any] = []

    def seen(name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        found = taps.first_tensor(args, kwargs)
        assert found is not None
        streams.append(found[1])
        outputs.append(output)

    cache = DynamicCache()  # without a configuration every layer keeps all keys
    inputs = {**forward.model_inputs(hf, rows), "past_key_values": cache, "use_cache": True}
    with taps.watching({layer.path: layer.module for layer in layers}, seen):
        hf(**inputs)
    if len(cache.layers) != len(layers) or len(streams) != len(layers):
        return None
    width = max(len(row) - place for row, place in zip(rows, places))
    longest = max(places)
    ends = [len(row) - place for row, place in zip(rows, places)]
    device = inputs["input_ids"].device
    ids = torch.tensor([[*row[place:], *[0] * (width - n)] for row, place, n in zip(rows, places, ends)], device=device)
    mask = torch.tensor(
        [[0] * (longest - p) + [1] * (p + n) + [0] * (width - n) for p, n in zip(places, ends)], device=device
    )
    position = torch.tensor([list(range(p, p + width)) for p in places], device=device)
    stream = torch.stack([_from(streams[site.layer][row], place, width) for row, place in enumerate(places)])
    prefixes = tuple(
        _Prefix(_aligned(one.keys, places, longest), _aligned(one.values, places, longest), longest)
        for one in cache.layers
    )
    resumed = {"input_ids": ids, "attention_mask": mask, "position_ids": position, "use_cache": True}
    return _Kept(stream, tuple(_template(output) for output in outputs), prefixes, resumed)


def _from(values: Tensor, start: int, width: int) -> Tensor:
    """Values from a position on, with zeros after the end."""
    part = values[start : start + width]
    return torch.cat([part, part.new_zeros(width - len(part), *part.shape[1:])])


def _aligned(values: Tensor, places: Sequence[int], longest: int) -> Tensor:
    """Keys or values [row, head, position, d_head] before each row's place, aligned at it, zeros to the left."""
    out = values.new_zeros(*values.shape[:2], longest, values.shape[-1])
    for row, place in enumerate(places):
        out[row, :, longest - place :] = values[row, :, :place]
    return out


def _template(output: Any) -> Any:
    return output if isinstance(output, Tensor) else tuple(output)
