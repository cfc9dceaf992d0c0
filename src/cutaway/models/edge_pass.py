"""How does one forward pass carry many sets of changed edges? Rows of sets and prompts, and what each target reads.

Differences `other - current` of the sources lie as [source, row, position, d_model]. Those of layers below the first
changed target are the base run's, one for each prompt, and shared by all sets; those above belong to their row. What a
target's stream gains is a product of the sets' matrix with them. Only targets that a set changes are computed, only
from the sources it takes, and in the last layer only at the last position (but for keys and values).

A part from which no unchanged edge leads on to the logits, in any of the sets, is *idle*: what it writes is taken out
again wherever it is read, so it need not run and writes what it wrote in the base run (`edge_idle.py`). The fewer
edges a circuit keeps, the less of the network runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from cutaway.core.site import Site
from cutaway.models import taps
from cutaway.models.edge_base import Base, change, whole_of, write
from cutaway.models.edge_idle import Idle, idle_attention, idle_layer, idle_mlp, repeated
from cutaway.models.edge_parts import EMBED, LayerParts, Norm
from cutaway.models.edge_positions import Pool, gained_at
from cutaway.models.forward import model_inputs
from cutaway.models.metric import Metric
from cutaway.models.place import projection_weight
from cutaway.models.program import beside
from cutaway.models.projections import Projection
from cutaway.models.sweep import tier_of

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass
class Pass:
    """One forward pass of `sets` times prompts, the sets outermost.

    Args:
        model: the network.
        base: the base run.
        sets: the changed edges [set, source, target], or at which labels of tokens [set, source, target, label].
        first: the first layer in which a set has a target (n_layers: `logits` only).
        metric: of logits at the last token; None for the logits themselves.
        where: the label of each token, for sets that have labels.
    """

    model: Model
    base: Base
    sets: Bool[Tensor, "set source target *label"]
    first: int
    metric: Callable[[Tensor], Tensor] | None
    where: Int[Tensor, "prompt position"] | None = None
    streams: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph, recording = self.base.parts.graph, self.base.recording
        self.graph, self.layers = graph, self.base.parts.layers
        self.P, self.R, self.T = len(recording.ids), len(self.sets), recording.length
        self.skips = tier_of(self.model) != "full"
        self.first = self.first if self.skips else 0
        wholly = self.sets if self.where is None else self.sets.all(dim=3)
        self.idle = Idle.of(self.base.parts, recording, wholly) if self.skips else Idle.none(graph)
        reading = torch.from_numpy(self.idle.reading).to(self.sets.device)
        self.sets = self.sets & (reading if self.where is None else reading[:, None])
        self.somewhere = self.sets if self.where is None else self.sets.any(dim=3)
        used = self.somewhere.any(dim=0).any(dim=1).cpu()
        # Sources below the first changed target, and idle ones, write what they wrote in the base run.
        as_before = torch.from_numpy((graph.source_layer < self.first) | self.idle.sources)
        self.below = (used & as_before).nonzero()[:, 0].tolist()
        self.above = (used & ~as_before).nonzero()[:, 0].tolist()
        self.known = 0
        stream = recording.streams[0]
        self.shared = self.base.differences(self.below) if self.below else None
        self.pool = Pool(self.below, self.shared, True) if self.shared is not None else None
        self.own = stream.new_empty(len(self.above), self.R * self.P, self.T, stream.shape[-1])
        self.heads: dict[str, list[tuple[int, Tensor, Tensor, bool]]] = {}

    def run(self) -> Tensor:
        """The metric (or the logits) of every row [set * prompt, ...]."""
        found: list[Tensor] = []
        ids = [ids for _ in range(self.R) for ids in self.base.recording.ids]
        with self._taps(found):
            try:
                out = self.model.hf(**model_inputs(self.model.hf, ids))
            except taps.Stop:
                return found[0]
        logits = out.logits[:, -1]
        return logits if self.metric is None else self._scored()(logits)

    def _scored(self) -> Callable[[Tensor], Tensor]:
        assert self.metric is not None
        return self.metric.for_rows(self._rows()) if isinstance(self.metric, Metric) else self.metric

    def _rows(self) -> list[int]:
        return list(self.base.prompts) * self.R

    # --- taps ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _taps(self, found: list[Tensor]) -> Iterator[None]:
        modules: list[taps.ModuleTap] = []
        attention: dict[Any, taps.AttentionTap] = {}
        for part in self.layers:
            if part.index < self.first:
                modules.append(self._passed_over(part))
            elif self.idle.layer(part):
                modules.append(idle_layer(part, self.base.recording, self.R))
            else:
                self._of_layer(part, modules, attention)
        last = self.layers[-1].layer
        modules.append(taps.ModuleTap(last.module, "out", self._leaving, last.out_index))
        assert self.model.anatomy.unembed is not None
        modules.append(taps.ModuleTap(self.model.anatomy.unembed, "in", partial(self._measuring, found)))
        with taps.module_taps(modules), taps.attention_taps(attention):
            yield

    def _passed_over(self, part: LayerParts) -> taps.ModuleTap:
        index = part.layer.out_index
        expanded = repeated(self.base.recording.outputs[part.index], self.P, self.R)
        own = expanded if isinstance(expanded, Tensor) else expanded[index or 0]
        return taps.ModuleTap(part.layer.module, "skip", lambda hidden: own, index, expanded)

    def _of_layer(
        self, part: LayerParts, modules: list[taps.ModuleTap], attention: dict[Any, taps.AttentionTap]
    ) -> None:
        layer, places = part.layer, part.layer.places
        modules.append(taps.ModuleTap(layer.module, "in", partial(self._entering, part)))
        runs_attention, runs_mlp = part.index not in self.idle.attention, part.index not in self.idle.mlp
        if not runs_attention:
            modules.append(idle_attention(part, self.base.recording, self.R))
        elif part.projections is not None:
            makers = dict.fromkeys(own.module for _, own in part.projections)
            modules += [taps.ModuleTap(m, "out", partial(self._projected, part, m)) for m in makers]
        elif part.attention:
            read = partial(self._branch, part, Site("attn_in", part.index), part.attn_norm)
            modules.append(taps.ModuleTap(places["attn_in"].module, "in", read))
        if not runs_mlp:
            modules.append(idle_mlp(part, self.base.recording, self.R))
        elif part.mlp:
            if part.mlp_norm.module is not None and not layer.parallel:
                modules.append(taps.ModuleTap(part.mlp_norm.module, "in", partial(self._passing, part)))
            read = partial(self._branch, part, Site("mlp_in", part.index), part.mlp_norm)
            modules.append(taps.ModuleTap(places["mlp_in"].module, "in", read))
        for site in part.source_sites:
            if not (runs_mlp if site.kind == "mlp_contrib" else runs_attention):
                continue
            place, visit = places[site.kind], partial(self._writing, part, site)
            if place.side == "attention":
                attention[place.module] = beside(place.module, taps.AttentionTap({"z": visit}))
            else:
                modules.append(taps.ModuleTap(place.module, place.side, visit, place.index))

    # --- what is read --------------------------------------------------------------------------------------------

    def _entering(self, part: LayerParts, stream: Tensor) -> None:
        """The stream enters a layer: `embed` is known at the first, and what its heads read is computed."""
        if part.index == 0:
            self._learn(EMBED, stream)
        self.streams[part.index] = stream
        self.heads = {}
        if part.projections is None:
            return
        last = part.index == len(self.layers) - 1
        for kind, own in part.projections:
            ends = last and kind == "q"
            targets = [self.graph.target_number[Site(kind, part.index, head)] for head in range(len(own.columns))]
            for place, sets, gained in self._gained(targets, ends):
                here = self._of_sets(stream, sets, ends)
                read = self._exactly(here + gained.to(here), targets[place], sets)
                made = _head(own, place, part.attn_norm(read))
                self.heads.setdefault(kind, []).append((place, sets, made, ends))

    def _projected(self, part: LayerParts, module: Any, raw: Tensor) -> Tensor | None:
        """Put the heads' own q, k and v into the output of a projection."""
        assert part.projections is not None
        mine = [(own, self.heads.get(kind, [])) for kind, own in part.projections if own.module is module]
        if not any(found for _, found in mine):
            return None
        new = raw.clone()
        wide = new.reshape(self.R, self.P, self.T, -1)  # a view: `clone` is contiguous
        for own, found in mine:
            for head, sets, made, ends in found:
                columns = own.columns[head].to(raw.device)
                where = slice(self.T - 1, self.T) if ends else slice(None)
                block = wide[sets, :, where]
                block[..., columns] = made.reshape(*block.shape[:3], -1).to(block)
                wide[sets, :, where] = block
        return wide.reshape(raw.shape)

    def _passing(self, part: LayerParts, raw: Tensor) -> None:
        self.streams[part.index] = raw

    def _branch(self, part: LayerParts, target: Site, norm: Norm, raw: Tensor) -> Tensor | None:
        """Give a branch what it would read."""
        ends = part.index == len(self.layers) - 1 and target.kind == "mlp_in"
        changed = self._gained([self.graph.target_number[target]], ends)
        if not changed:
            return None
        ((_, sets, gained),) = changed
        stream = raw if norm.module is None else self.streams[part.index]
        here = self._of_sets(stream.reshape(self.R * self.P, self.T, -1), sets, ends)
        new = raw.clone().reshape(self.R, self.P, self.T, -1)
        where = slice(self.T - 1, self.T) if ends else slice(None)
        number = self.graph.target_number[target]
        read = norm(self._exactly(here + gained.to(here), number, sets))
        new[sets, :, where] = read.reshape(len(sets), self.P, -1, read.shape[-1]).to(new)
        return new.reshape(raw.shape)

    def _leaving(self, stream: Tensor) -> Tensor | None:
        """The stream that the logits read, at the last position."""
        number = self.graph.target_number[Site("logits")]
        changed = self._gained([number], True)
        if not changed:
            return None
        ((_, sets, gained),) = changed
        new = stream.clone()
        wide = new.reshape(self.R, self.P, self.T, -1)
        read = self._exactly(self._of_sets(stream, sets, True) + gained.to(new), number, sets)
        wide[sets, :, -1:] = read.reshape(len(sets), self.P, 1, -1)
        return wide.reshape(stream.shape)

    def _measuring(self, found: list[Tensor], final: Tensor) -> Tensor | None:
        if final.dim() != 3 or final.shape[1] != self.T:
            return None
        final = final[:, -1:]
        ends, metric = self.base.ends, self.metric
        if isinstance(metric, Metric) and not metric.needs_vocabulary and ends.exact:
            found.append(metric.of_tokens(ends.of_final(final[:, 0], metric.tokens), self._rows()))
            raise taps.Stop
        return final

    def _of_sets(self, stream: Tensor, sets: Tensor, ends: bool) -> Tensor:
        """The stream of the rows of some sets [set * prompt, position, d_model]."""
        if ends:
            stream = stream[:, -1:]
        if len(sets) == self.R:
            return stream
        return stream.reshape(self.R, self.P, *stream.shape[1:])[sets].flatten(0, 1)

    def _exactly(self, read: Tensor, target: int, sets: Tensor) -> Tensor:
        """What a target reads, where all that it reads is zero: what rounding leaves of a sum would be made large by a norm."""
        if self.base.other.values:
            return read
        exists = torch.from_numpy(self.graph.exists[:, target]).to(self.sets.device)
        mine = self.sets[sets][:, :, target]
        bare = (mine | (exists if self.where is None else exists[:, None]).logical_not()).all(dim=1)
        if self.where is not None:
            bare = bare[:, self.where[:, -read.shape[1] :]]  # [set, prompt, position]
        if not bool(bare.any()):
            return read
        constant = self.base.parts.constant(self.graph.targets[target])
        wide = read.reshape(len(sets), self.P, *read.shape[1:]).clone()
        wide[bare.to(wide.device)] = 0 if constant is None else constant.to(wide)
        return wide.reshape(read.shape)

    # --- what is written -----------------------------------------------------------------------------------------

    def _writing(self, part: LayerParts, site: Site, raw: Tensor) -> None:
        place = part.layer.places[site.kind]
        self._learn(site, raw if place.side == "attention" else place.get(raw, self.R * self.P))

    def _learn(self, site: Site, value: Tensor) -> None:
        """A source has written: keep its difference, where a set needs it."""
        graph = self.graph
        mine = [number for number in self.above if whole_of(graph.sources[number]) == site]
        if not mine:
            return
        changed = change(value, self.base.other, site, self.base.prompts, self.R)
        heads = [int(graph.sources[number].head or 0) for number in mine]
        out = [self.own[self.above.index(number)] for number in mine]
        write(self.base.parts, site, changed.to(self.own.device), heads, out)
        self.known = max(self.known, self.above.index(mine[-1]) + 1)

    def _gained(self, targets: Sequence[int], ends: bool) -> list[tuple[int, Tensor, Tensor]]:
        """What targets gain: (place among the targets, sets [n], stream [n * prompt, position, d_model])."""
        touched = self.somewhere[:, :, targets].any(dim=1)  # [set, target]
        wanted = touched.any(dim=0).nonzero()[:, 0].tolist()
        if not wanted:
            return []
        # At labels one product for all: what it takes from each row is copied, which costs more than sums of nothing.
        if self.where is not None or bool(touched[:, wanted].all()):
            every = torch.arange(self.R, device=self.sets.device)
            gained = self._product(self.sets[:, :, [targets[place] for place in wanted]], every, ends)
            return [(place, every, gained[i]) for i, place in enumerate(wanted)]
        found = []
        for place in wanted:
            sets = touched[:, place].nonzero()[:, 0]
            gained = self._product(self.sets[sets][:, :, [targets[place]]], sets, ends)
            found.append((place, sets, gained[0]))
        return found

    def _product(self, mask: Tensor, sets: Tensor, ends: bool) -> Float[Tensor, "target row position d_model"]:
        """The sum over sources for some sets and targets: `mask` is [set, source, target] (and label)."""
        if self.where is not None:
            return gained_at(mask, self.where, self._pools(sets), ends).flatten(1, 2)
        n, targets = len(sets), mask.shape[2]
        width, length = self.own.shape[-1], 1 if ends else self.T
        total = self.own.new_zeros(targets, n, self.P, length, width)
        used = mask.any(dim=2).any(dim=0)
        for numbers, pool in ((self.below, self.shared), (self.above[: self.known], self.own[: self.known])):
            taken = used[numbers].nonzero()[:, 0].tolist() if numbers else []
            if not taken or pool is None:
                continue
            if 2 * len(taken) > len(pool):
                taken = list(range(len(pool)))  # a product with zeros costs less than a copy of most of the pool
            weights = mask[:, [numbers[place] for place in taken]].to(pool)  # [set, source, target]
            some = pool if len(taken) == len(pool) else pool[taken]
            some = some[:, :, -1:] if ends else some
            if pool is self.shared:
                alike = n > 1 and bool((weights == weights[:1]).all())
                weights = weights[:1] if alike else weights
                flat = weights.permute(2, 0, 1).reshape(-1, len(taken)) @ some.reshape(len(taken), -1)
                total += flat.reshape(targets, -1, *total.shape[2:])
            else:
                mine = some.reshape(len(taken), self.R, -1)
                mine = mine if n == self.R else mine[:, sets]
                each = torch.bmm(
                    weights.transpose(1, 2), mine.transpose(0, 1)
                )  # [set, target, prompt * position * d_model]
                total += each.transpose(0, 1).reshape(total.shape)
        return total.reshape(targets, n * self.P, length, width)

    def _pools(self, sets: Tensor) -> list[Pool]:
        """The differences that are known, of some sets."""
        own = self.own[: self.known]
        if len(sets) < self.R:
            own = own.reshape(len(own), self.R, self.P, *own.shape[2:])[:, sets].flatten(1, 2)
        mine = Pool(self.above[: self.known], own, False)
        return [mine] if self.pool is None else [self.pool, mine]


def _head(own: Projection, head: int, read: Tensor) -> Tensor:
    """One head's q, k or v from what it reads."""
    module = own.module
    weight = getattr(module, "weight", None)
    columns = own.columns[head]
    if not isinstance(weight, Tensor) or not weight.is_floating_point() or weight.device.type == "meta":
        out: Tensor = module.forward(read)
        return out[..., columns.to(out.device)]
    rows = projection_weight(module).T[columns.to(weight.device)]
    bias = getattr(module, "bias", None)
    return functional.linear(read, rows, bias[columns.to(bias.device)] if isinstance(bias, Tensor) else None)
