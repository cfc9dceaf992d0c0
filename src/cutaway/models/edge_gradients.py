"""What would changing each edge do, to first order? One backward pass for all edges of a network.

    score(s -> t) = mean over prompts of Σ over positions of (other[s] - base[s]) · ∂ metric / ∂ (what t reads)

is the estimated change of the metric when the edge carries `other` [@syed2023]: positive where the change raises the
metric. Gradients are taken where each head's q, k and v leave their matrix and where an MLP reads; they are pulled
back through the head's own rows and through the norm, so that no head needs a copy of the stream. Products of
differences and gradients of all heads are matrix products over chunks of tokens: memory stays that of the pass.

The sum over positions can also be kept apart by label of the token [@haklay2025]: the labels' sum is the whole score.

Points: gradients at the base run (plain), on the way from the base's embeddings to the other's (integrated gradients
[@hanna2024]), or with one layer's own outputs on that way. No gradient of a weight is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.progress import track
from cutaway.core.site import Site
from cutaway.models import multigrad
from cutaway.models.edge_backward import Move, Seen, forward_backward
from cutaway.models.edge_base import change, whole_of, write
from cutaway.models.edge_parts import EMBED, LayerParts, Parts, parts_of
from cutaway.models.edge_positions import Positions
from cutaway.models.edge_values import Contributions
from cutaway.models.encode import Encoded
from cutaway.models.norm_gradients import pulled_back
from cutaway.models.place import projection_weight
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
    positions: Positions | None = None,
) -> Floats:
    """First-order effects of all edges [source, target]; with positions [source, target, label]; 0 where there is no edge.

    Args:
        model: the network.
        encoded: the base run's prompts.
        other: what changed edges carry.
        metric: of logits at the last token [row, vocab] -> [row]; a `Metric` of these prompts, or a function.
        points: where gradients are taken, from `plain()`, `ends()`, `inputs(steps)` or `activations(model, steps)`.
        differs_from: for each prompt the first position at which the other run can differ (causal networks): what
            comes before is not computed.
        own_rows: whether points move each layer's own outputs: each then scores only the edges out of its site.
        positions: labels of the prompts' tokens: sums are taken over the tokens of each label alone.
    """
    other.require(len(encoded.ids), max(encoded.lengths))
    if positions is not None:
        positions.require(encoded.lengths)
    parts = parts_of(model)
    total = torch.zeros(1 if positions is None else len(positions.names), *parts.graph.shape, dtype=torch.float64)
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
        moved = None
        if point.along != 0.0:
            changed = _required(known, model, ids, other, prompts, differences).changed
            moved = Move(point.site, point.along * changed[point.site])
        seen = forward_backward(model, parts, ids, metric, prompts, moved)
        if known is None:
            known = differences.get(id(prompts)) or _Differences(parts, seen.values, other, tuple(prompts))
            differences[id(prompts)] = known
        tokens = _tokens(len(ids), len(ids[0]), [differs_from[i] for i in prompts] if differs_from else None)
        if start < len(ids[0]):
            labels = None if positions is None else positions.of(prompts, len(ids[0])).flatten()
            _accumulate(total, parts, known, seen, tokens, labels, point, own_rows)
    found: Floats = (total / len(encoded.ids)).numpy() * parts.graph.exists
    return found[0] if positions is None else np.ascontiguousarray(np.moveaxis(found, 0, 2))


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


# --- products ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def _accumulate(
    total: Tensor,
    parts: Parts,
    differences: _Differences,
    seen: Seen,
    tokens: Tensor,
    labels: Tensor | None,
    point: Point,
    own_rows: bool,
) -> None:
    """Add the products of differences and gradients to [label, source, target], chunk by chunk of tokens."""
    graph = parts.graph
    width = differences.changed[EMBED].shape[-1]
    size = differences.changed[EMBED].element_size()
    at_once = max(1, DIFFERENCE_BYTES // (len(graph.sources) * width * size))
    rows = torch.tensor([not own_rows or whole_of(source) == point.site for source in graph.sources])
    if labels is not None:
        tokens = tokens[labels[tokens].argsort(stable=True)]
    for chunk in tokens.split(at_once):
        changed = differences.of(chunk)
        pieces = _pieces(chunk, labels)
        for columns, pulled in _blocks(parts, seen, chunk):
            before = int(graph.exists[:, columns].any(axis=1).sum())  # sources stand in the order of computation
            for label, piece in pieces:
                product = changed[:before, piece].flatten(1) @ pulled[:, piece].flatten(1).to(changed).T
                product = product.double().cpu() * point.weight * rows[:before, None]
                into = total[label]
                into[:before, columns] += product


def _pieces(tokens: Tensor, labels: Tensor | None) -> list[tuple[int, slice]]:
    """The tokens of each label, where they stand in the order of their labels."""
    if labels is None:
        return [(0, slice(None))]
    found, counts = labels[tokens].unique_consecutive(return_counts=True)
    ends = counts.cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    return [(label, slice(start, end)) for label, start, end in zip(found.tolist(), starts, ends, strict=True)]


def _blocks(parts: Parts, seen: Seen, tokens: Tensor) -> Iterator[tuple[list[int], Tensor]]:
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


def _of_layer(part: LayerParts, seen: Seen, tokens: Tensor) -> Iterator[tuple[list[Site], Tensor]]:
    if part.attention:
        stream = _at(seen.streams[Site("attn_in", part.index)], tokens)
        targets, grads = _at_heads(part, seen, tokens)
        if targets:
            yield targets, pulled_back(part.attn_norm, stream, grads)
    target = Site("mlp_in", part.index)
    if part.mlp and target in seen.grads:
        stream = _at(seen.streams[target], tokens)
        yield [target], pulled_back(part.mlp_norm, stream, _at(seen.grads[target], tokens)[None])


def _at_heads(part: LayerParts, seen: Seen, tokens: Tensor) -> tuple[list[Site], Tensor]:
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
