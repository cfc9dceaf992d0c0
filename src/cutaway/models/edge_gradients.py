"""What would changing each edge do, to first order? One backward pass for all edges of a network.

    score(s -> t) = mean over prompts of Σ over positions of (other[s] - base[s]) · ∂ metric / ∂ (what t reads)

is the estimated change of the metric when the edge carries `other` [@syed2023]: positive where the change raises the
metric. Gradients are taken where each head's q, k and v leave their matrix and where an MLP reads; they are pulled
back through the head's own rows and through the norm, so that no head needs a copy of the stream. Products of
differences and gradients of all heads are matrix products over chunks of tokens: memory stays that of the pass.

Points: gradients at the base run (plain), on the way from the base's embeddings to the other's (integrated gradients
[@hanna2024]), or with one layer's own outputs on that way. No gradient of a weight is computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from cutaway.core.errors import PlanError
from cutaway.core.progress import track
from cutaway.core.site import Site
from cutaway.models import multigrad, taps
from cutaway.models.edge_parts import EMBED, LayerParts, Parts, parts_of
from cutaway.models.edge_pass import change, whole_of, write
from cutaway.models.edge_values import Contributions
from cutaway.models.encode import Encoded
from cutaway.models.forward import model_inputs
from cutaway.models.metric import Metric
from cutaway.models.norm_gradients import pulled_back
from cutaway.models.place import projection_weight
from cutaway.models.program import beside
from cutaway.models.recording import by_length

if TYPE_CHECKING:
    from cutaway.models.model import Model

Floats = NDArray[np.float64]
DIFFERENCE_BYTES = 48 * 2**20  # differences of one chunk of tokens
TARGETS_AT_ONCE = 64


@dataclass(frozen=True)
class Point:
    """Where gradients are taken.

    Attributes:
        along: how far on the way from the base to the other run, 0 to 1.
        weight: of these gradients in the sum.
        site: whose value is moved: `resid_pre[0]` (the embeddings), or another whole site of a source.
    """

    along: float
    weight: float
    site: Site = EMBED


def plain() -> tuple[Point, ...]:
    """At the base run: edge attribution patching."""
    return (Point(0.0, 1.0),)


def ends() -> tuple[Point, ...]:
    """At the base run and at the other one, half each."""
    return Point(0.0, 0.5), Point(1.0, 0.5)


def inputs(steps: int) -> tuple[Point, ...]:
    """In the middles of `steps` pieces of the way between the embeddings: integrated gradients."""
    return tuple(Point((step + 0.5) / steps, 1 / steps) for step in range(steps))


def activations(model: Model, steps: int) -> tuple[Point, ...]:
    """For each layer's sources, in the middles of `steps` pieces of the way between their own two values."""
    sites = parts_of(model).source_sites
    return tuple(Point((step + 0.5) / steps, 1 / steps, site) for site in sites for step in range(steps))


def scores(
    model: Model,
    encoded: Encoded,
    other: Contributions,
    metric: Callable[[Tensor], Tensor],
    points: Sequence[Point],
    *,
    differs_from: Sequence[int] | None = None,
    own_rows: bool = False,
) -> Floats:
    """First-order effects of all edges [source, target]; 0 where there is no edge.

    Args:
        model: the network.
        encoded: the base run's prompts.
        other: what changed edges carry.
        metric: of logits at the last token [row, vocab] -> [row]; a `Metric` of these prompts, or a function.
        points: where gradients are taken, from `plain()`, `ends()`, `inputs(steps)` or `activations(model, steps)`.
        differs_from: for each prompt the first position at which the other run can differ (causal networks): what
            comes before is not computed.
        own_rows: whether points move each layer's own outputs: each then scores only the edges out of its site.
    """
    other.require(len(encoded.ids), max(encoded.lengths))
    parts = parts_of(model)
    total = torch.zeros(parts.graph.shape, dtype=torch.float64)
    jobs = []
    for length, prompts in by_length(encoded).items():
        size = multigrad.rows_at_once(model, length, grad=True)
        jobs += [prompts[start : start + size] for start in range(0, len(prompts), size)]
    work = [(prompts, point) for prompts in jobs for point in points]
    differences: dict[int, _Differences] = {}
    for prompts, point in track(work, "gradients at the edges") if len(work) > 1 else work:
        ids = [encoded.ids[i] for i in prompts]
        start = min(differs_from[i] for i in prompts) if differs_from is not None else 0
        known = differences.get(id(prompts))
        moved = None if point.along == 0.0 else _required(known, model, ids, other, prompts, differences)
        seen = _forward_backward(model, parts, ids, metric, prompts, point, moved)
        if known is None:
            known = differences.get(id(prompts)) or _Differences(parts, seen.values, other, tuple(prompts))
            differences[id(prompts)] = known
        tokens = _tokens(len(ids), len(ids[0]), [differs_from[i] for i in prompts] if differs_from else None)
        if start < len(ids[0]):
            _accumulate(total, parts, known, seen, tokens, point, own_rows)
    return (total / len(encoded.ids)).numpy() * parts.graph.exists


def _required(
    known: _Differences | None,
    model: Model,
    ids: Sequence[Sequence[int]],
    other: Contributions,
    prompts: list[int],
    table: dict[int, _Differences],
) -> _Differences:
    """The differences of some prompts: where the first point is not the base run, that is run on its own."""
    if known is None:
        parts = parts_of(model)
        run = model.run([list(row) for row in ids], read=parts.source_sites, logits="none")
        values = {site: run[site] for site in parts.source_sites}
        known = table[id(prompts)] = _Differences(parts, values, other, tuple(prompts))
    return known


def _tokens(rows: int, length: int, starts: Sequence[int] | None) -> Tensor:
    """Numbers row * length + position of the tokens that count."""
    every = torch.arange(rows * length).reshape(rows, length)
    if starts is None:
        return every.flatten()
    return torch.cat([every[row, min(start, length) :] for row, start in enumerate(starts)])


# --- one forward and one backward pass ---------------------------------------------------------------------------


@dataclass
class _Differences:
    """`other - base` of every source, kept small: as values of whole sites [prompt, position, ...]."""

    parts: Parts
    base: Mapping[Site, Tensor]
    other: Contributions
    prompts: tuple[int, ...]

    def __post_init__(self) -> None:
        changed = {site: change(value, self.other, site, self.prompts, 1) for site, value in self.base.items()}
        self.changed: dict[Site, Tensor] = changed
        self.base = {}

    def of(self, tokens: Tensor) -> Float[Tensor, "source token d_model"]:
        """What all sources would write differently at some tokens."""
        graph = self.parts.graph
        first = self.changed[EMBED]
        found = first.new_empty(len(graph.sources), len(tokens), first.shape[-1])
        places: dict[Site, list[int]] = {}
        for number, source in enumerate(graph.sources):
            places.setdefault(whole_of(source), []).append(number)
        for site, numbers in places.items():
            value = self.changed[site].flatten(0, 1)[tokens.to(first.device)][None]
            heads = [int(graph.sources[number].head or 0) for number in numbers]  # type: ignore[arg-type]
            write(self.parts, site, value, heads, [found[number][None] for number in numbers])
        return found


@dataclass
class _Seen:
    """One pass with a graph: what sources wrote, what stood before each norm, and what is differentiated."""

    values: dict[Site, Tensor] = field(default_factory=dict)
    streams: dict[Site, Tensor] = field(default_factory=dict)
    places: dict[Any, Tensor] = field(default_factory=dict)
    grads: dict[Any, Tensor] = field(default_factory=dict)


def _forward_backward(
    model: Model,
    parts: Parts,
    ids: Sequence[Sequence[int]],
    metric: Callable[[Tensor], Tensor],
    prompts: Sequence[int],
    point: Point,
    moved: _Differences | None,
) -> _Seen:
    seen = _Seen()
    found: list[Tensor] = []
    with multigrad._weights_at_rest(model.hf), torch.inference_mode(False), torch.enable_grad():
        with _taps(model, parts, seen, point, moved, found, metric, prompts):
            try:
                out = model.hf(**model_inputs(model.hf, ids))
            except taps.Stop:
                values = found[0]
            else:
                values = _scored(metric, prompts)(out.logits[:, -1])
        if not values.requires_grad:
            raise PlanError(
                "The metric does not change smoothly with the logits, so it has no gradient.",
                "Counts, such as rank and accuracy, have none.",
                "Use logit_difference, log_probability or kl.",
            )
        keys = list(seen.places)
        grads = torch.autograd.grad(values.sum(), [seen.places[key] for key in keys], allow_unused=True)
    seen.grads = {key: grad for key, grad in zip(keys, grads, strict=True) if grad is not None}
    seen.places = {}
    return seen


def _scored(metric: Callable[[Tensor], Tensor], prompts: Sequence[int]) -> Callable[[Tensor], Tensor]:
    return metric.for_rows(prompts) if isinstance(metric, Metric) else metric


@contextlib.contextmanager
def _taps(
    model: Model,
    parts: Parts,
    seen: _Seen,
    point: Point,
    moved: _Differences | None,
    found: list[Tensor],
    metric: Callable[[Tensor], Tensor],
    prompts: Sequence[int],
) -> Iterator[None]:
    modules: list[taps.ModuleTap] = []
    attention: dict[nn.Module, taps.AttentionTap] = {}
    for part in parts.layers:
        modules.append(taps.ModuleTap(part.layer.module, "in", partial(_entering, part, seen, point, moved)))
        modules += _reading(part, seen)
        for site in part.source_sites:
            place = part.layer.places[site.kind]
            visit = partial(_writing, part, site, seen, point, moved, len(prompts))
            if place.side == "attention":
                attention[place.module] = beside(place.module, taps.AttentionTap({"z": visit}))
            else:
                modules.append(taps.ModuleTap(place.module, place.side, visit, place.index))
    last = parts.layers[-1].layer
    modules.append(taps.ModuleTap(last.module, "out", partial(_place, seen, Site("logits")), last.out_index))
    assert model.anatomy.unembed is not None
    ends = model._unembedding

    def measuring(final: Tensor) -> Tensor | None:
        if final.dim() != 3:
            return None
        final = final[:, -1:]
        if isinstance(metric, Metric) and not metric.needs_vocabulary and ends.exact:
            found.append(metric.of_tokens(ends.of_final(final[:, 0], metric.tokens), prompts))
            raise taps.Stop
        return final

    modules.append(taps.ModuleTap(model.anatomy.unembed, "in", measuring))
    with taps.module_taps(modules), taps.attention_taps(attention):
        yield


def _reading(part: LayerParts, seen: _Seen) -> list[taps.ModuleTap]:
    places = part.layer.places
    modules = []
    if part.projections is not None:
        makers = dict.fromkeys(own.module for _, own in part.projections)
        modules += [taps.ModuleTap(m, "out", partial(_place, seen, (part.index, m))) for m in makers]
    elif part.attention:
        read = partial(_place, seen, Site("attn_in", part.index))
        modules.append(taps.ModuleTap(places["attn_in"].module, "in", read))
    if part.mlp:
        target = Site("mlp_in", part.index)
        if part.mlp_norm.module is not None and not part.layer.parallel:
            keep = partial(_keep, seen, target)
            modules.append(taps.ModuleTap(part.mlp_norm.module, "in", keep))
        modules.append(taps.ModuleTap(places["mlp_in"].module, "in", partial(_place, seen, target)))
    return modules


def _entering(part: LayerParts, seen: _Seen, point: Point, moved: _Differences | None, stream: Tensor) -> Tensor | None:
    new = None
    if part.index == 0:
        new = stream.detach()
        if moved is not None and point.site == EMBED:
            new = new + point.along * moved.changed[EMBED].to(new)
        new = stream = new.requires_grad_(True)
        seen.values[EMBED] = stream.detach()
    seen.streams[Site("attn_in", part.index)] = stream.detach()
    if part.layer.parallel or part.mlp_norm.module is None:
        seen.streams[Site("mlp_in", part.index)] = stream.detach()
    return new


def _keep(seen: _Seen, target: Site, stream: Tensor) -> None:
    seen.streams[target] = stream.detach()


def _place(seen: _Seen, key: Any, value: Tensor) -> Tensor:
    own = value.view_as(value)  # the gradient of this use, not of the tensor's others
    seen.places[key] = own
    return own


def _writing(
    part: LayerParts,
    site: Site,
    seen: _Seen,
    point: Point,
    moved: _Differences | None,
    rows: int,
    raw: Tensor,
) -> Tensor | None:
    place = part.layer.places[site.kind]
    value = raw if place.side == "attention" else place.get(raw, rows)
    seen.values[site] = value.detach()
    if moved is None or point.site != site:
        return None
    new = value + point.along * moved.changed[site].to(value)
    return new if place.side == "attention" else place.put(raw, new)


# --- products ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def _accumulate(
    total: Tensor,
    parts: Parts,
    differences: _Differences,
    seen: _Seen,
    tokens: Tensor,
    point: Point,
    own_rows: bool,
) -> None:
    """Add the products of differences and gradients, chunk by chunk of tokens."""
    graph = parts.graph
    width = differences.changed[EMBED].shape[-1]
    size = differences.changed[EMBED].element_size()
    at_once = max(1, DIFFERENCE_BYTES // (len(graph.sources) * width * size))
    rows = torch.tensor([not own_rows or whole_of(source) == point.site for source in graph.sources])
    for chunk in tokens.split(at_once):
        changed = differences.of(chunk).flatten(1)
        for columns, pulled in _blocks(parts, seen, chunk):
            before = int(graph.exists[:, columns].any(axis=1).sum())  # sources stand in the order of computation
            product = changed[:before] @ pulled.flatten(1).to(changed).T
            product = product.double().cpu() * point.weight * rows[:before, None]
            total[:before, columns] += product


def _blocks(parts: Parts, seen: _Seen, tokens: Tensor) -> Iterator[tuple[list[int], Tensor]]:
    """Gradients at what targets read [target, token, d_model], several layers at once."""
    columns: list[int] = []
    held: list[Tensor] = []
    for part in parts.layers:
        for targets, pulled in _of_layer(part, seen, tokens):
            columns += [parts.graph.target_number[target] for target in targets]
            held.append(pulled)
        if len(columns) >= TARGETS_AT_ONCE:
            yield columns, torch.cat(held)
            columns, held = [], []
    logits = Site("logits")
    grad = seen.grads.get(logits)
    if grad is not None:
        columns.append(parts.graph.target_number[logits])
        held.append(_at(grad, tokens)[None])
    if columns:
        yield columns, torch.cat(held)


def _at(value: Tensor, tokens: Tensor) -> Tensor:
    """[prompt, position, width] (or [prompt * position, width]) at some tokens [token, width]."""
    return value.reshape(-1, value.shape[-1])[tokens.to(value.device)]


def _of_layer(part: LayerParts, seen: _Seen, tokens: Tensor) -> Iterator[tuple[list[Site], Tensor]]:
    if part.attention:
        stream = _at(seen.streams[Site("attn_in", part.index)], tokens)
        targets, grads = _at_heads(part, seen, tokens)
        if targets:
            yield targets, pulled_back(part.attn_norm, stream, grads)
    target = Site("mlp_in", part.index)
    if part.mlp and target in seen.grads:
        stream = _at(seen.streams[target], tokens)
        yield [target], pulled_back(part.mlp_norm, stream, _at(seen.grads[target], tokens)[None])


def _at_heads(part: LayerParts, seen: _Seen, tokens: Tensor) -> tuple[list[Site], Tensor]:
    """Gradients at what the projections read, for each head [target, token, d_model]."""
    if part.projections is None:
        target = Site("attn_in", part.index)
        found = [target] if target in seen.grads else []
        return found, _at(seen.grads[target], tokens)[None] if found else tokens
    targets, grads = [], []
    for kind, own in part.projections:
        grad = seen.grads.get((part.index, own.module))
        if grad is None:
            continue
        some = _at(grad, tokens)
        matrix = projection_weight(own.module)
        for head, columns in enumerate(own.columns):
            where = columns.to(grad.device)
            targets.append(Site(kind, part.index, head))
            grads.append(some[:, where] @ matrix[:, where].T)
    return targets, torch.stack(grads) if grads else tokens
