"""How are many changed runs computed at once? Each resumes the base run where it first differs from it.

A change at layer l and position p leaves everything below l and, in a causal network, everything before p as it was.
So a changed run is a *row* that starts at layer l with the base run's stream, and at position p with the base run's
keys and values. Rows of all layers share one pass: the batch grows layer by layer, each row joining where it starts.
Only the last position reaches the unembedding, and only the logits that the metric names are computed.

How far a network allows this is measured on it once (`tier_of`): `suffix` (all of the above), `grow` (whole prompts),
`resume` (rows of one batch, lower layers passed over), `full` (rows of one batch, every layer). Each tier is compared
with plain runs before it is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cutaway.core.site import KINDS, Site
from cutaway.models import midblock, taps
from cutaway.models.anatomy import Layer
from cutaway.models.forward import accepts, input_device, model_inputs
from cutaway.models.metric import Metric
from cutaway.models.program import beside
from cutaway.models.recording import Recording, prefix_cache

if TYPE_CHECKING:
    from cutaway.models.model import Model

Tier = Literal["suffix", "grow", "resume", "full"]
TIERS: tuple[Tier, ...] = ("suffix", "grow", "resume", "full")


@dataclass(frozen=True)
class Job:
    """One changed run.

    Attributes:
        prompt: which row of the recording it changes.
        site: a concrete site; its position is an index or None for all positions.
        layer: where it first differs from the base: the layer it joins, or n_layers for the end.
        start: the first position at which it differs.
        value: what the site becomes: the shape of the site's part for one prompt.
        cell: where its number goes.
    """

    prompt: int
    site: Site
    layer: int
    start: int
    value: Tensor
    cell: tuple[int, int]


@dataclass
class Pass:
    """One forward pass over rows; `jobs` are in the order in which they join."""

    model: Model
    base: Recording
    jobs: Sequence[Job]
    start: int
    grows: bool
    skips: bool
    metric: Callable[[Tensor], Tensor]
    rows: Sequence[int]
    whole_logits: bool = False
    streams: dict[int, Tensor] = field(default_factory=dict)
    prefixes: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layers = self.model.anatomy.stacks[""].layers
        self.ends = self.model._unembedding  # learned from a pass of its own: before this one begins
        self.first = min(job.layer for job in self.jobs)
        self.by_layer: dict[int, list[int]] = {}
        for row, job in enumerate(self.jobs):
            self.by_layer.setdefault(job.layer, []).append(row)
        device = input_device(self.model.hf)
        self.prompts = torch.tensor([job.prompt for job in self.jobs], device=device)
        self.alive = [sum(1 for job in self.jobs if job.layer <= layer) for layer in range(len(self.layers) + 1)]

    def run(self) -> Tensor:
        """The metric of every job [job]."""
        with torch.no_grad(), self._taps() as found:
            try:
                out = self.model.hf(**self._inputs())
            except taps.Stop:
                return torch.cat(found)
        logits = out.logits
        return self.metric(logits[:, -1])

    # --- what goes in --------------------------------------------------------------------------------------------

    def _inputs(self) -> dict[str, Any]:
        hf, ids = self.model.hf, self.base.ids
        if not self.grows:
            return model_inputs(hf, [ids[job.prompt] for job in self.jobs])
        inputs: dict[str, Any] = model_inputs(hf, [ids[0][self.start :]])
        if self.start:
            cache, self.prefixes = prefix_cache(self.base, self.start)
            inputs |= {"past_key_values": cache, "use_cache": True}
            if accepts(hf, "position_ids"):
                length = self.base.length
                inputs["position_ids"] = torch.arange(self.start, length, device=inputs["input_ids"].device)[None]
        return inputs

    # --- taps ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _taps(self) -> Iterator[list[Tensor]]:
        found: list[Tensor] = []
        modules: list[taps.ModuleTap] = []
        attention: dict[Any, taps.AttentionTap] = {}
        inside: list[contextlib.AbstractContextManager[None]] = []
        for layer in self.layers:
            if layer.index < self.first and self.skips:
                modules.append(self._passed_over(layer))
                continue
            modules.append(taps.ModuleTap(layer.module, "in", self._joining(layer.index)))
            self._inner(layer, modules, attention, inside)
        last = self.layers[-1]
        modules += self._only_the_end(last)
        modules.append(taps.ModuleTap(last.module, "out", self._leaving(), last.out_index))
        if not self.whole_logits:
            unembed = self.model.anatomy.unembed
            assert unembed is not None
            modules.append(taps.ModuleTap(unembed, "in", self._measuring(found)))
        with contextlib.ExitStack() as stack:
            stack.enter_context(taps.module_taps(modules))
            stack.enter_context(taps.attention_taps(attention))
            for tap in inside:
                stack.enter_context(tap)
            yield found

    def _only_the_end(self, last: Layer) -> list[taps.ModuleTap]:
        """Of the last layer's MLP only the last position is computed: what it gives the others, nobody reads.

        Its one position is added to all of them, which is right for the last and of no consequence for the rest. Most rows
        of a growing batch are alive here.
        """
        place = last.places.get("mlp_in")
        inside = any(self.jobs[row].site.kind.startswith("mlp") for row in self.by_layer.get(last.index, []))
        slim = self.grows and not self.whole_logits and self.model.__dict__.get("_slim_end", False)
        if not slim or inside or place is None or place.side != "in" or place.flat or last.parallel:
            return []
        return [taps.ModuleTap(place.module, "in", lambda value: value[:, -1:], place.index)]

    def _passed_over(self, layer: Layer) -> taps.ModuleTap:
        """A layer below every change: it does not run; its output is the base run's (or, in a growing batch, unused)."""
        template, index = self.base.outputs[layer.index], layer.out_index
        if self.grows:
            if not isinstance(template, Tensor):
                template = tuple(template)
            return taps.ModuleTap(layer.module, "skip", lambda hidden: hidden, index, template)
        rows = self.prompts
        expanded = for_rows(template, rows, len(self.base.ids))
        own = expanded if isinstance(expanded, Tensor) else expanded[index or 0]
        return taps.ModuleTap(layer.module, "skip", lambda hidden: own, index, expanded)

    def _joining(self, layer: int) -> taps.Visitor:
        def visit(stream: Tensor) -> Tensor | None:
            new = self.by_layer.get(layer, [])
            if self.prefixes:
                self.prefixes[layer].prompts = self.prompts[: self.alive[layer]]
            if self.grows and new:
                joined = self.base.streams[layer][self.prompts[new].to(stream.device), self.start :]
                old = stream[:0] if new[0] == 0 else stream
                stream = torch.cat([old, joined]) if len(old) else joined.clone()
            elif not new:
                self.streams[layer] = stream
                return None
            else:
                stream = stream.clone()
            self._write(stream, new, ("resid_pre", "resid_post"), start=self.start)
            self.streams[layer] = stream
            return stream

        return visit

    def _leaving(self) -> taps.Visitor:
        """After the last layer: rows that change only here join."""
        end = len(self.layers)

        def visit(stream: Tensor) -> Tensor | None:
            new = self.by_layer.get(end, [])
            if not new:
                return None
            if self.grows:
                joined = self.base.streams[end][self.prompts[new].to(stream.device), self.start :]
                old = stream[:0] if new[0] == 0 else stream
                stream = torch.cat([old, joined]) if len(old) else joined.clone()
            else:
                stream = stream.clone()
            self._write(stream, new, ("resid_post",), start=self.start)
            return stream

        return visit

    def _measuring(self, found: list[Tensor]) -> taps.Visitor:
        def visit(final: Tensor) -> Tensor | None:
            ends, metric = self.ends, self.metric
            if final.dim() != 3:
                return None
            final = final[:, -1:]  # the only position that the metric reads
            if isinstance(metric, Metric) and not metric.needs_vocabulary and ends.exact:
                found.append(metric.of_tokens(ends.of_final(final[:, 0], metric.tokens), metric.rows or self.rows))
                raise taps.Stop
            return final

        return visit

    # --- changes inside a layer ----------------------------------------------------------------------------------

    def _inner(self, layer: Layer, modules: list[Any], attention: dict[Any, Any], inside: list[Any]) -> None:
        kinds = {self.jobs[row].site.kind for row in self.by_layer.get(layer.index, [])} - {
            "resid_pre",
            "resid_post",
        }
        visitors: dict[str, taps.Visitor] = {}
        softmax: dict[str, taps.Visitor] = {}
        for kind in kinds:
            place = layer.places[kind if kind != "resid_mid" or layer.post_norm else "attn_contrib"]
            if place.side == "attention":
                visitors[kind] = self._changing(layer, kind)
            elif place.side == "softmax":
                softmax[kind] = self._changing(layer, kind)
            elif kind == "resid_mid" and not layer.post_norm:
                modules.append(taps.ModuleTap(place.module, "out", self._mid(layer, place), place.index))
            else:
                visit = self._changing(layer, kind)

                def raw_visit(raw: Tensor, place: Any = place, visit: taps.Visitor = visit) -> Tensor | None:
                    new = visit(place.get(raw, self._rows_at(layer.index)))
                    return None if new is None else place.put(raw, new)

                modules.append(taps.ModuleTap(place.module, place.side, raw_visit, place.index))
        if visitors and layer.attention is not None:
            writes = bool({"scores", "pattern"} & set(visitors))
            attention[layer.attention] = beside(layer.attention, taps.AttentionTap(visitors, writes))
        if softmax and layer.core is not None:
            inside.append(taps.softmax_inside(layer.core, softmax))

    def _rows_at(self, layer: int) -> int:
        return self.alive[layer] if self.grows else len(self.jobs)

    def _changing(self, layer: Layer, kind: str) -> taps.Visitor:
        rows = self.by_layer[layer.index]

        def visit(value: Tensor) -> Tensor:
            value = value.clone()
            start = 0 if kind in ("k", "v", "k_per_query_head", "v_per_query_head") else self.start
            self._write(value, rows, (kind,), start=start)
            return value

        return visit

    def _mid(self, layer: Layer, place: Any) -> taps.Visitor:
        """`resid_mid` is written through what attention adds: see `Program._write_mid`."""
        rows = self.by_layer[layer.index]

        def visit(raw: Tensor) -> Tensor:
            stream = self.streams[layer.index]
            mid = stream + place.get(raw, self._rows_at(layer.index))
            new = mid.clone()
            self._write(new, rows, ("resid_mid",), start=self.start)
            return raw + (new - mid) / place.scale

        return visit

    def _write(self, value: Tensor, rows: Sequence[int], kinds: tuple[str, ...], *, start: int) -> None:
        for row in rows:
            job = self.jobs[row]
            if job.site.kind not in kinds:
                continue
            index = index_in_row(job.site, start)
            new = job.value.to(value.device, value.dtype)
            if job.site.position is None and start:
                new = new[_tail(job.site, start)]
            value[(row, *index)] = new


def index_in_row(site: Site, start: int) -> tuple[Any, ...]:
    """The index of a site's part in one row of its whole value, whose positions begin at `start`."""
    dims = KINDS[site.kind][1]
    index: list[Any] = [slice(None)] * len(dims)
    if isinstance(site.position, int):
        index[dims.index("query" if "query" in dims else "position")] = site.position - start
    for name, number in (("head", site.head), ("expert", site.expert), (dims[-1], site.unit)):
        if isinstance(number, int) and name in dims:
            index[dims.index(name)] = number
    return tuple(index)


def _tail(site: Site, start: int) -> tuple[Any, ...]:
    """From `start` on, in a value of all positions from which heads and units have been taken."""
    dims = site.dims[1:]
    axis = dims.index("query" if "query" in dims else "position")
    return (*[slice(None)] * axis, slice(start, None))


def for_rows(output: Any, rows: Tensor, prompts: int) -> Any:
    """What a layer returned for every prompt, for the prompts `rows`: each tensor with a row a prompt is picked from."""
    if isinstance(output, Tensor):
        return output[rows.to(output.device)] if output.shape[:1] == (prompts,) else output
    if isinstance(output, tuple | list):
        return type(output)(for_rows(item, rows, prompts) for item in output)
    return output


def run_jobs(
    model: Model,
    base: Recording,
    jobs: Sequence[Job],
    tier: Tier,
    metric: Callable[[Tensor], Tensor],
    rows_of: Sequence[int],
    *,
    at_once: Callable[[int], int],
    strict: bool = False,
) -> Iterator[tuple[list[Job], Tensor]]:
    """Compute jobs pass by pass; yields the jobs of a pass with their metric.

    Args:
        model: the network.
        base: the run that the jobs change.
        jobs: the changed runs.
        tier: how far the network allows to share work.
        metric: of logits at the last position.
        rows_of: which prompt of the task each prompt of the recording is.
        at_once: rows that fit for a number of tokens.
        strict: one row at a time, whole prompts, all logits: the same bits as plain runs.
    """
    if strict:
        tier = "resume" if tier != "full" else "full"
    grows = tier in ("suffix", "grow")
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.start if tier == "suffix" else 0, []).append(job)
    for start, group in sorted(groups.items()):
        ordered = sorted(group, key=lambda job: job.layer)
        size = 1 if strict else at_once(base.length - start)
        for place in range(0, len(ordered), size):
            chunk = ordered[place : place + size]
            if grows:
                chunk, changed = _in_order(chunk, midblock.entered(model, base, chunk))
            else:
                changed = chunk
            rows = [rows_of[job.prompt] for job in chunk]
            scored = metric.for_rows(rows) if isinstance(metric, Metric) else metric
            skips = tier != "full"
            yield (
                chunk,
                Pass(model, base, changed, start, grows, skips, scored, rows, whole_logits=strict).run(),
            )


def _in_order(asked: Sequence[Job], changed: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Jobs in the order in which they join, beside the jobs that they were asked as."""
    order = sorted(range(len(asked)), key=lambda place: changed[place].layer)
    return [asked[place] for place in order], [changed[place] for place in order]
