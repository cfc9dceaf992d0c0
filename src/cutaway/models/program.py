"""How do reads and edits become taps? A `Program` is a plan's reads and edits, placed on one network.

A tap sees a whole value (all heads, units and positions) in its canonical layout; edits act on it in the order
given, then reads take their part. What is not changed is handed back as it is, so a run that only reads is the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core.edit import Edit
from cutaway.core.errors import PlanError, SiteError
from cutaway.core.run import token_positions
from cutaway.core.site import KIND_ORDER, KINDS, Site, Span
from cutaway.models import taps
from cutaway.models.anatomy import Anatomy, Layer
from cutaway.models.place import Place

Key = tuple[str, str, int | None]  # stack, kind, layer


@dataclass
class Clock:
    """Where in the text the tensors of the present forward pass stand.

    Attributes:
        lengths: tokens of each row's prompt.
        width: tokens of each row in this pass, 0 where it is not known beforehand.
        offset: text position of the first token of this pass (beyond 0 in generation and in resumed runs).
        pads: padding tokens to the left of each row.
        named: token index of each named position in each row.
        rows: which prompt each row is, for edits that hold a value for each prompt.
        cross_lengths: in an encoder-decoder, tokens of each row that the encoder reads; `lengths` are the decoder's.
    """

    lengths: list[int]
    offset: int = 0
    width: int = 0
    pads: list[int] | None = None
    named: Mapping[str, Sequence[int]] = field(default_factory=dict)
    rows: Sequence[int] = ()
    cross_lengths: list[int] | None = None

    @property
    def n_rows(self) -> int:
        """Rows of the batch; tokens of unknown rows are taken for one row."""
        return len(self.lengths) or 1

    def at(self, site: Site) -> Clock:
        """The clock of the tokens that a site's positions count: in an encoder-decoder, one stack has other tokens."""
        if self.cross_lengths is None:
            return self
        if not site.on_encoder:
            return replace(self, named={})  # named positions are places in what the encoder reads
        return replace(self, lengths=self.cross_lengths, offset=0, pads=None, cross_lengths=None)

    def columns(self, position: int | str, size: int, start: int) -> list[int | None]:
        """For each row, where in a tensor of `size` positions that starts at `start` a position stands."""
        if isinstance(position, int) and position >= 0 and self.pads is not None:
            # Text that is being written has positions beyond its prompt.
            where = [position] * len(self.lengths)
        else:
            where = token_positions(position, self.lengths, self.named)
        pads = self.pads or [0] * len(where)
        found = [place + pad - start for place, pad in zip(where, pads)]
        return [place if 0 <= place < size else None for place in found]


@dataclass
class Program:
    """Reads and edits on one network, for one forward pass after another.

    Args:
        anatomy: of the network.
        reads: concrete sites to keep.
        edits: concrete edits (no patterns), with their values resolved.
        clock: positions of the pass.
        keep: what a read does with its value; the default detaches it.
        grad: sites at which gradients are wanted: their values are kept in the graph.
    """

    anatomy: Anatomy
    reads: Sequence[Site]
    edits: Sequence[Edit]
    clock: Clock
    grad: Sequence[Site] = ()
    values: dict[Site, Tensor] = field(default_factory=dict)
    leaves: dict[Site, Tensor] = field(default_factory=dict)
    streams: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_key: dict[Key, tuple[list[Edit], list[Site], list[Site]]] = {}
        asked: tuple[Sequence[Edit | Site], ...] = (self.edits, self.reads, self.grad)
        for place, entries in enumerate(asked):
            for entry in entries:
                site = entry.site if isinstance(entry, Edit) else entry
                assert not isinstance(site.layer, Span), "patterns are expanded before"
                self.anatomy.place(site)  # refuses what this network does not have
                lists = self.by_key.setdefault((site.stack, site.kind, site.layer), ([], [], []))
                lists[place].append(entry)  # type: ignore[arg-type]

    # --- what a tap does with a value ----------------------------------------------------------------------------

    def visit(self, key: Key, value: Tensor) -> Tensor:
        """Apply the edits of a key to its value, keep what is read; returns the value, changed or the same object."""
        edits, reads, grads = self.by_key[key]
        if edits:
            value = self._edited(edits, value)
        if grads:
            value = self._leaf(grads, value)
        for site in reads:
            taken = self._part(site, value)
            self.values[site] = taken if torch.is_grad_enabled() and self.grad else taken.detach()
        return value

    def _leaf(self, sites: list[Site], value: Tensor) -> Tensor:
        if not value.requires_grad:
            value = value.detach().requires_grad_(True)
        elif sites[0].kind != "resid_mid":
            value = value.view_as(value)  # the gradient of what passes here, not of the tensor's other uses
        for site in sites:
            self.leaves[site] = value
        return value

    def at_leaf(self, site: Site, tensor: Tensor) -> Tensor:
        """A site's part of its leaf, or of the leaf's gradient."""
        if tensor.dim() == 2:  # the stream of a module that has all tokens of the batch in one row
            tensor = tensor.reshape(self.clock.n_rows, -1, tensor.shape[-1])
        return self._part(site, tensor)

    def _edited(self, edits: list[Edit], value: Tensor) -> Tensor:
        fresh = _copy(value)
        for edit in edits:
            apply_edit(edit, fresh, self.clock, self._start(edit.site, value))
        return fresh

    def _start(self, site: Site, value: Tensor) -> int:
        """Text position of the first entry of a value: keys and values reach back into the cache."""
        if site.on_encoder:
            return 0
        if site.kind == "final" and self.clock.width:  # generation computes the last positions only
            return self.clock.offset + self.clock.width - value.shape[1]
        if site.kind in ("k", "v", "k_per_query_head", "v_per_query_head") and self.clock.offset:
            return max(0, self.clock.offset + self.clock.width - value.shape[1])
        return self.clock.offset

    def _part(self, site: Site, value: Tensor) -> Tensor:
        index, rows = index_of(site, value, self.clock, self._start(site, value))
        if rows is not None:
            raise SiteError(f"'{site}' lies outside of the tokens of this pass.")
        part = value[index]
        # A view of a large tensor would keep all of it alive; a part is copied.
        return part.clone() if part.numel() < value.numel() else part

    # --- taps ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def installed(self, *, stop_after: int | None = None) -> Iterator[None]:
        """Keep the taps of the program in place.

        Args:
            stop_after: raise `taps.Stop` after this layer of the main stack: nothing later is needed.
        """
        modules, attention, experts, inside = self._taps()
        if stop_after is not None:
            layer = self.anatomy.stacks[""].layers[stop_after]
            modules.append(taps.ModuleTap(layer.module, "out", stop, layer.out_index))
        modules.sort(key=lambda tap: tap.visit is stop)  # everything else is seen before
        with contextlib.ExitStack() as stack:
            stack.enter_context(taps.module_taps(modules))
            stack.enter_context(taps.attention_taps(attention, experts))
            for tap in inside:
                stack.enter_context(tap)
            yield

    def _taps(
        self,
    ) -> tuple[
        list[taps.ModuleTap],
        dict[nn.Module, taps.AttentionTap],
        dict[nn.Module, Callable[..., Any]],
        list[contextlib.AbstractContextManager[None]],
    ]:
        modules: list[taps.ModuleTap] = []
        attention: dict[nn.Module, dict[str, taps.Visitor]] = {}
        writes: set[nn.Module] = set()
        experts: dict[nn.Module, Callable[..., Any]] = {}
        softmaxes: dict[nn.Module, dict[str, taps.Visitor]] = {}
        linears: dict[nn.Module, tuple[taps.Visitor, int]] = {}
        # In the order of computation, so that pre-hooks of one module run in the order of their sites.
        for key in sorted(self.by_key, key=lambda key: (key[2] or 0, KIND_ORDER[key[1]])):
            stack, kind, layer = key
            site = Site(kind, layer, stack=stack)
            place = self.anatomy.place(site)
            edits, reads, grads = self.by_key[key]
            if place.side == "attention":
                attention.setdefault(place.module, {})[kind] = self._plain(key)
                if kind in ("scores", "pattern") and (edits or grads):
                    writes.add(place.module)
            elif place.side == "softmax":
                softmaxes.setdefault(place.module, {})[kind] = self._plain(key)
            elif place.side == "linear":
                linears[place.module] = (self._raw(key, place), self.anatomy.layer(site).n_experts)
            elif place.side == "experts":
                experts[place.module] = self._expert_tap(key, self.anatomy.layer(site))
            elif place.side == "logits":
                continue  # `forward.py` edits and reads the logits once the pass has ended
            elif kind == "resid_mid" and (edits or grads) and place.side == "in":
                part = self.anatomy.layer(site)
                if grads:  # the stream goes on beside the MLP: it is differentiated as it is, not cut in front of it
                    modules.append(taps.ModuleTap(part.module, "in", _differentiable))
                if edits:
                    modules += self._write_mid(key, part)
                if reads or grads:
                    modules.append(taps.ModuleTap(place.module, "in", self._reader(key, place)))
            else:
                modules.append(taps.ModuleTap(place.module, place.side, self._raw(key, place), place.index))
        found = {m: beside(m, taps.AttentionTap(visitors, m in writes)) for m, visitors in attention.items()}
        inside = [taps.softmax_inside(module, visitors) for module, visitors in softmaxes.items()]
        inside += [taps.linear_inside(module, visit, width) for module, (visit, width) in linears.items()]
        return modules, found, experts, inside

    def _plain(self, key: Key) -> taps.Visitor:
        grads = self.by_key[key][2]

        def visitor(value: Tensor) -> Tensor | None:
            new = self.visit(key, value)
            # A value may be a view made for the visit: only what is handed back has a gradient.
            return None if new is value and not grads else new

        return visitor

    def _raw(self, key: Key, place: Place) -> taps.Visitor:
        if place.is_plain and key[1] != "router":
            return self._plain(key)
        grads = self.by_key[key][2]

        def visitor(raw: Tensor) -> Tensor | None:
            if raw.dim() == 2:  # all tokens of the batch in one row, as mixtures of experts have them
                wide = raw.reshape(self.clock.n_rows, -1, raw.shape[-1])
                new = visitor(wide)
                return None if new is None else new.reshape(raw.shape)
            value = place.get(raw, self.clock.n_rows)
            new = self.visit(key, value)
            if grads:
                return place.put(raw, new)
            # Dividing by a multiplier rounds: what did not change must not be written.
            return None if new is value or (not self.grad and torch.equal(new, value)) else place.put(raw, new)

        return visitor

    def _reader(self, key: Key, place: Place) -> taps.Visitor:
        _, reads, grads = self.by_key[key]

        def visitor(raw: Tensor) -> Tensor | None:
            leaf = self._leaf(grads, raw) if grads else None
            value = place.get(raw if leaf is None else leaf, self.clock.n_rows)
            for site in reads:
                self.values[site] = self._part(site, value).detach()
            return leaf

        return visitor

    def _write_mid(self, key: Key, layer: Layer) -> list[taps.ModuleTap]:
        """The stream between attention and MLP is written through the last that is added to it before."""
        edits, where = self.by_key[key][0], (key[0], layer.index)
        crossing = self.anatomy.stacks[key[0]].cross.get(layer.index)
        parts = [part.places["attn_contrib"] for part in (layer, crossing) if part is not None]
        contribution = parts[-1]

        def keep(stream: Tensor) -> None:
            self.streams[where] = stream

        def add(raw: Tensor) -> None:
            self.streams[where] = self.streams[where] + parts[0].get(raw, self.clock.n_rows)

        def write(raw: Tensor) -> Tensor | None:
            mid = self.streams[where] + contribution.get(raw, self.clock.n_rows)
            # Where nothing changed the difference is zero, and what attention adds stays the same bits.
            return raw + ((self._edited(edits, mid) - mid) / contribution.scale).reshape(raw.shape)

        between = [taps.ModuleTap(part.module, "out", add, part.index) for part in parts[:-1]]
        return [
            taps.ModuleTap(layer.module, "in", keep),
            *between,
            taps.ModuleTap(contribution.module, "out", write, contribution.index),
        ]

    def _expert_tap(self, key: Key, layer: Layer) -> Callable[..., Any]:
        edits, reads, grads = self.by_key[key]
        wanted: list[Site] = [*(edit.site for edit in edits), *reads, *grads]
        numbers = sorted(
            {e for s in wanted for e in ([s.expert] if isinstance(s.expert, int) else range(layer.n_experts))}
        )

        def tap(original: Any, module: nn.Module, hidden: Tensor, indices: Tensor, weights: Tensor, *rest: Any) -> Any:
            out = original(module, hidden, indices, weights, *rest)
            batch = self.clock.n_rows
            parts = hidden.new_zeros(layer.n_experts, *hidden.shape)
            for number in numbers:
                mine = torch.where(indices == number, weights, torch.zeros_like(weights))
                parts[number] = original(module, hidden, indices, mine, *rest)
            value = parts.reshape(layer.n_experts, batch, -1, hidden.shape[-1]).transpose(0, 1)
            new = self.visit(key, value.clone() if grads else value)
            if grads:
                return out + (new - value).sum(dim=1).reshape(out.shape)
            if new is value:
                return out
            change = (new - value).sum(dim=1).reshape(out.shape)
            return out if not change.any() else out + change

        return tap


def beside(module: nn.Module, tap: taps.AttentionTap) -> taps.AttentionTap:
    """A tap after the one that is open on a module already: edits of an outer `with` block stay active."""
    outer = taps._attention_taps.get(module)
    if outer is None:
        return tap
    visitors = dict(outer.visitors)
    for kind, visit in tap.visitors.items():
        visitors[kind] = _in_turn(visitors[kind], visit) if kind in visitors else visit
    return taps.AttentionTap(visitors, outer.writes_weights or tap.writes_weights)


def _in_turn(first: taps.Visitor, second: taps.Visitor) -> taps.Visitor:
    def visitor(value: Tensor) -> Tensor | None:
        changed = first(value)
        new = second(value if changed is None else changed)
        return changed if new is None else new

    return visitor


def _differentiable(value: Tensor) -> Tensor | None:
    return None if value.requires_grad else value.detach().requires_grad_(True)


def stop(value: Tensor) -> None:
    """A visitor that ends the pass: nothing after this place is needed."""
    raise taps.Stop


def _copy(value: Tensor) -> Tensor:
    """A copy with the same strides: kernels round differently for other strides, and a copy must change no bit."""
    if value.requires_grad or any(step == 0 for step in value.stride()):
        return value.clone()
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device).copy_(value)


# --- indices -----------------------------------------------------------------------------------------------------


def index_of(site: Site, value: Tensor, clock: Clock, start: int) -> tuple[tuple[Any, ...], list[int] | None]:
    """The index of a site's part in its whole value, and the rows it exists in where that is not all of them."""
    dims = ("prompt", *KINDS[site.kind][1])
    index: list[Any] = [slice(None)] * len(dims)
    where = "query" if "query" in dims else "position"
    rows: list[int] | None = None
    clock = clock.at(site)
    if isinstance(site.position, int | str):
        columns = clock.columns(site.position, value.shape[dims.index(where)], start)
        rows = [row for row, column in enumerate(columns) if column is not None]
        kept = [column for column in columns if column is not None]
        index[0] = torch.tensor(rows, device=value.device)
        index[dims.index(where)] = torch.tensor(kept, device=value.device)
        if len(rows) == len(columns):
            rows = None
    elif isinstance(site.position, Span) and site.position != Span():
        size = value.shape[dims.index(where)]
        inside = [p for p in _span(site, clock, start + size) if start <= p < start + size]
        index[dims.index(where)] = torch.tensor([p - start for p in inside], dtype=torch.long, device=value.device)
    for name, number in (("head", site.head), ("expert", site.expert), (dims[-1], site.unit)):
        if isinstance(number, int) and name in dims:
            index[dims.index(name)] = number
    return tuple(index), rows


def _span(site: Site, clock: Clock, end: int) -> list[int]:
    """Token indices of a slice of positions: an open end takes in what is generated, negative bounds count back.

    They count from the end of the prompt.
    """
    span = site.position
    assert isinstance(span, Span)
    if len(set(clock.lengths)) > 1 and (any(clock.pads or []) or span.from_end):
        raise PlanError(
            f"'{site}' slices the positions of prompts of {min(clock.lengths)} to {max(clock.lengths)} tokens.",
            "Where prompts differ in length, a slice counts from the start of each prompt.",
            "Run prompts of one length together, or name one position.",
        )
    length = max(clock.lengths, default=end)
    bounds = [max(0, b + length) if b is not None and b < 0 else b for b in (span.start, span.stop)]
    return Span(bounds[0], bounds[1], span.step).indices(max(end, length))


def apply_edit(edit: Edit, value: Tensor, clock: Clock, start: int) -> None:
    """Write an edit into `value` in place."""
    index, rows = index_of(edit.site, value, clock, start)
    if rows is not None and not rows:
        return
    old = value[index]
    if old.numel() == 0:
        return
    value[index] = new_value(edit, old, clock, rows).to(value.dtype)


def new_value(edit: Edit, old: Tensor, clock: Clock, rows: list[int] | None) -> Tensor:
    """What an edit makes of the part of a value that its site names."""
    match edit.operation:
        case "zero":
            return torch.zeros_like(old)
        case "replace":
            return _given(edit, old, clock, rows).expand_as(old)
        case "add":
            return old + _factor(edit, old, clock, rows) * _given(edit, old, clock, rows)
        case "scale":
            return old * _factor(edit, old, clock, rows)
        case "project_out":
            direction = _given(edit, old, clock, rows)
            direction = direction / direction.norm(dim=-1, keepdim=True)
            return old - (old * direction).sum(dim=-1, keepdim=True) * direction
        case "apply":
            assert edit.function is not None
            new = edit.function(old)
            if new.shape != old.shape:
                raise PlanError(
                    f"The function of 'apply {edit.site}' returned {tuple(new.shape)}.",
                    f"It got {tuple(old.shape)}",
                    "and must return that shape.",
                )
            return new
    raise PlanError(f"The edit '{edit}' has not been resolved.")


def _given(edit: Edit, old: Tensor, clock: Clock, rows: list[int] | None) -> Tensor:
    assert edit.value is not None
    value = edit.value.to(old.device, old.dtype)
    if value.dim() == old.dim() and value.shape[0] != 1:
        # One value for each prompt: rows of this pass take theirs.
        prompts = 1 + max(clock.rows, default=-1)
        if value.shape[0] < prompts:
            raise PlanError(
                f"'{edit}' holds values for {value.shape[0]} prompts, the run has {prompts}.",
                "Give one value for all, or one for each prompt.",
            )
        chosen = [clock.rows[row] for row in (rows if rows is not None else range(len(clock.rows)))]
        value = value[torch.tensor(chosen, device=value.device)]
    if clock.lengths:
        value = _within(value, old, edit.site)
    try:
        return value if torch.broadcast_shapes(value.shape, old.shape) == old.shape else value.expand_as(old)
    except RuntimeError as error:
        raise PlanError(
            f"The values of '{edit}' have the shape {tuple(edit.value.shape)},",
            f"which does not fit {tuple(old.shape)}",
            f"({', '.join(edit.site.dims)}).",
        ) from error


def _within(value: Tensor, old: Tensor, site: Site) -> Tensor:
    """Without the positions that only longer prompts, elsewhere in the run, have."""
    for name in ("position", "query", "key"):
        axis = site.dims.index(name) - len(site.dims) if name in site.dims else 0
        if axis and value.dim() >= -axis and value.shape[axis] > old.shape[axis]:
            value = value.narrow(axis, 0, old.shape[axis])
    return value


def _factor(edit: Edit, old: Tensor, clock: Clock, rows: list[int] | None) -> Tensor | float:
    if len(edit.scales) == 1:
        return edit.scales[0]
    # Rows of one prompt stand together, one for each scale.
    every = [edit.scales[row % len(edit.scales)] for row in range(len(clock.lengths))]
    chosen = every if rows is None else [every[row] for row in rows]
    return torch.tensor(chosen, device=old.device, dtype=old.dtype).reshape(-1, *[1] * (old.dim() - 1))
