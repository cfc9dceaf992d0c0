"""Which parts of the network need not run when edges are changed? Those from which no unchanged edge leads to the logits.

Where every edge that leaves a part, towards parts that matter, carries something else, the part's own value is taken
out again wherever it is read. So it may write anything: here, what it wrote in the base run. A layer without a part
that matters is passed over, an attention module or MLP alone where its module takes and gives the values of the sites.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cutaway.core.edge import Bools, EdgeGraph
from cutaway.core.site import Site
from cutaway.models import taps
from cutaway.models.edge_parts import LayerParts, Parts
from cutaway.models.recording import Recording
from cutaway.models.resume import for_rows


@dataclass(frozen=True, eq=False)
class Idle:
    """What of a network need not run for some sets of changed edges.

    Attributes:
        attention, mlp: the layers whose branch does not run.
        sources: which sources are computed by these [source].
        reading: which targets matter [target]: the others can be left as they are.
    """

    attention: frozenset[int]
    mlp: frozenset[int]
    sources: Bools
    reading: Bools

    @staticmethod
    def none(graph: EdgeGraph) -> Idle:
        """Everything runs."""
        return Idle(frozenset(), frozenset(), np.zeros(graph.shape[0], bool), np.ones(graph.shape[1], bool))

    @staticmethod
    def of(parts: Parts, recording: Recording, changed: Bool[Tensor, "set source target"]) -> Idle:
        """What need not run for sets that are run together.

        Args:
            parts: of the network.
            recording: the base run, which says what the parts write instead.
            changed: the sets.
        """
        graph = parts.graph
        writing, reading = graph.reaching(graph.exists & ~changed.all(dim=0).cpu().numpy())
        attention: set[int] = set()
        mlp: set[int] = set()
        sources = np.zeros(graph.shape[0], bool)
        for part in parts.layers:
            mine = {site.kind: parts.numbers[part.index, site.kind] for site in part.source_sites}
            idle = [kind for kind, numbers in mine.items() if not writing[numbers].any()]
            for kind in idle:
                alone = _mlp_alone if kind == "mlp_contrib" else _attention_alone
                if len(idle) == len(mine) or alone(part, recording):
                    (mlp if kind == "mlp_contrib" else attention).add(part.index)
                    sources[mine[kind]] = True
        return Idle(frozenset(attention), frozenset(mlp), sources, reading)

    def layer(self, part: LayerParts) -> bool:
        """Whether nothing of a layer runs."""
        return (part.index in self.attention or not part.attention) and (part.index in self.mlp or not part.mlp)


def _attention_alone(part: LayerParts, recording: Recording) -> bool:
    place = part.layer.places.get("attn_out")
    return place is not None and place.side == "out" and not place.flat and recording.attention[part.index] is not None


def _mlp_alone(part: LayerParts, recording: Recording) -> bool:
    inside, out = (part.layer.places.get(kind) for kind in ("mlp_in", "mlp_out"))
    if inside is None or out is None or inside.side != "in" or out.side != "out" or inside.module is not out.module:
        return False
    return out.index is None and out.is_plain and Site("mlp_out", part.index) in recording.sites


def idle_layer(part: LayerParts, recording: Recording, sets: int) -> taps.ModuleTap:
    """A layer that adds what it added in the base run, for so many sets of its prompts."""
    before, after = recording.streams[part.index], recording.streams[part.index + 1]
    template = repeated(recording.outputs[part.index], len(recording.ids), sets)
    return taps.ModuleTap(part.layer.module, "skip", _adding(after - before, sets), part.layer.out_index, template)


def _adding(added: Tensor, sets: int) -> Callable[[Tensor], Tensor]:
    return lambda hidden: hidden + added.repeat(sets, 1, 1).to(hidden)


def idle_attention(part: LayerParts, recording: Recording, sets: int) -> taps.ModuleTap:
    """An attention module that returns what it returned in the base run."""
    place = part.layer.places["attn_out"]
    expanded = repeated(recording.attention[part.index], len(recording.ids), sets)
    own = expanded if isinstance(expanded, Tensor) else expanded[place.index or 0]
    return taps.ModuleTap(place.module, "skip", lambda hidden: own, place.index, expanded)


def idle_mlp(part: LayerParts, recording: Recording, sets: int) -> taps.ModuleTap:
    """An MLP that returns what it returned in the base run."""
    place = part.layer.places["mlp_out"]
    own = recording.sites[Site("mlp_out", part.index)].repeat(sets, 1, 1)
    return taps.ModuleTap(place.module, "skip", lambda hidden: own, place.index, own)


def repeated(output: Any, prompts: int, sets: int) -> Any:
    """What a module returned for some prompts, as it would return it for so many sets of them."""
    return for_rows(output, torch.arange(prompts).repeat(sets), prompts)
