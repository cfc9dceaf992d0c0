"""What does an edit put in? Sources, means and draws become tensors, and are checked against the prompts.

An edit may name another run, a mean or a draw; before anything is run it holds plain values. Values that would be put
into other prompts, or into other positions, than they were made for are refused here: padding has values too, and
nothing would look wrong. Means never count padding, and a prompt draws only from prompts that have its positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.core.edit import Edit
from cutaway.core.errors import PlanError
from cutaway.core.run import Run, token_positions
from cutaway.core.site import KINDS, Site, Span

if TYPE_CHECKING:
    from cutaway.models.anatomy import Anatomy

Lengths = Callable[[Site], Sequence[int]]


def resolve(
    edits: Sequence[Edit],
    anatomy: Anatomy,
    reference: Callable[[tuple[Site, ...]], Mapping[Site, Tensor]],
    lengths: Lengths | None,
) -> tuple[Edit, ...]:
    """Expand patterns, look up sources, and turn means and resampled values into tensors.

    Args:
        edits: as a user wrote them.
        anatomy: of the network.
        reference: runs the prompts and reads sites, for `mean` and `resample` without a reference.
        lengths: number of positions of each prompt at a site; None where no prompts are known.
    """
    concrete = [replace(edit, site=site) for edit in edits for site in anatomy.expand(edit.site)]
    needed = tuple({e.site.whole for e in concrete if e.operation in ("mean", "resample") and e.source is None})
    own: Mapping[Site, Tensor] = reference(needed) if needed else {}
    found = tuple(_resolved(edit, own, lengths) for edit in concrete)
    for edit in found:
        require_direction(edit)
        if lengths is not None and edit.value is not None:
            require_fit(edit, lengths(edit.site))
    return found


def _resolved(edit: Edit, own: Mapping[Site, Tensor], lengths: Lengths | None) -> Edit:
    source = own if edit.source is None else edit.source
    if edit.operation == "replace" and edit.source is not None:
        site = edit.site if edit.source_site is None else edit.source_site
        if lengths is not None:
            _require_same_positions(edit, site, source, lengths(edit.site))
        return replace(edit, value=source[site], source=None)
    if edit.operation == "mean":
        return replace(edit, operation="replace", value=mean(edit.site, source), source=None)
    if edit.operation == "resample":
        own_lengths = lengths(edit.site) if lengths is not None else [1]
        return replace(edit, operation="replace", value=_drawn(edit, source, own_lengths), source=None)
    return edit


# --- what is refused ---------------------------------------------------------------------------------------------


def position_axis(site: Site) -> int | None:
    """Which dimension of a site's value, counted from the end, runs over positions; None where none does."""
    dims = site.dims
    name = next((name for name in ("position", "query") if name in dims), None)
    return None if name is None else dims.index(name) - len(dims)


def has_positions(edit: Edit) -> bool:
    """True when an edit holds a value for each position."""
    axis = position_axis(edit.site)
    return edit.value is not None and axis is not None and edit.value.dim() >= -axis and edit.value.shape[axis] > 1


def require_direction(edit: Edit) -> None:
    """A direction that is to be taken out has a length."""
    if edit.operation == "project_out" and edit.value is not None and bool((edit.value.norm(dim=-1) == 0).any()):
        raise PlanError(f"The direction of '{edit}' is zero.", "A direction has a length.", "Give another vector.")


def require_fit(edit: Edit, lengths: Sequence[int]) -> None:
    """Values for each prompt are as many as the prompts, values for each position as many as the positions."""
    assert edit.value is not None
    shape, dims, axis = tuple(edit.value.shape), edit.site.dims, position_axis(edit.site)
    if len(shape) == len(dims) and shape[0] not in (1, len(lengths)):
        raise PlanError(
            f"'{edit}' holds values for {shape[0]} prompts, the run has {len(lengths)}.",
            "Give one value for all, or one for each prompt.",
        )
    if axis is None or not has_positions(edit):
        return
    position = edit.site.position
    size = len(position.indices(max(lengths))) if isinstance(position, Span) else max(lengths)
    if shape[axis] != size:
        raise PlanError(
            f"'{edit}' holds values for {shape[axis]} positions, where the run has {size}.",
            "Give one value for all positions, or one for each.",
            "One position is written as '@4', a range as '@2:5'.",
        )


def _require_same_positions(edit: Edit, site: Site, source: Mapping[Site, Tensor], lengths: Sequence[int]) -> None:
    """Values at all positions go into prompts of the lengths they come from: what lies beyond is padding."""
    if not isinstance(source, Run) or isinstance(site.position, int | str) or position_axis(site) is None:
        return
    theirs = source.lengths_at(site)
    if len(theirs) not in (1, len(lengths)):
        return  # `require_fit` says so
    for prompt, length in enumerate(lengths):
        their = theirs[prompt if len(theirs) > 1 else 0]
        position = site.position
        if isinstance(position, Span) and not position.from_end:
            their, length = (len(position.indices(n)) for n in (their, length))
        if their != length:
            raise PlanError(
                f"'{edit}' takes the values of {their} tokens for prompt {prompt}, which has {length}.",
                "At all positions, both runs need prompts of the same lengths.",
                "Name one position, as in '@-1' or '@4'.",
            )


# --- means and draws ---------------------------------------------------------------------------------------------


def mean(site: Site, source: Mapping[Site, Tensor]) -> Tensor:
    """The mean over prompts and real positions; over prompts alone for scores and patterns."""
    part = replace(site, position=None)
    value = source[part]
    lengths = source.lengths_at(part) if isinstance(source, Run) else None
    dims = list(part.dims)
    if "query" in dims:
        return _at_position(site, mean_over_prompts(value, dims, lengths), lengths)
    axis = dims.index("position")
    flat = value.movedim(axis, 1)
    real = flat.flatten(0, 1) if lengths is None else torch.cat([flat[i, :n] for i, n in enumerate(lengths)])
    average = real.mean(dim=0)
    if isinstance(site.position, int | str):
        return average
    return average[None, None].movedim(1, axis)


def mean_over_prompts(value: Tensor, dims: Sequence[str], lengths: Sequence[int] | None) -> Tensor:
    """The mean of scores or patterns over the prompts that have a query and a key [1, …], without padding."""
    if lengths is None or len(set(lengths)) == 1:
        return value.mean(dim=0, keepdim=True)
    real = torch.ones_like(value, dtype=torch.bool)
    counts = torch.tensor(list(lengths), device=value.device)
    for name in ("query", "key"):
        if name in dims:
            shape = [1] * value.dim()
            shape[dims.index(name)] = -1
            place = torch.arange(value.shape[dims.index(name)], device=value.device).reshape(shape)
            real = real & (place < counts.reshape(-1, *[1] * (value.dim() - 1)))
    total = torch.where(real, value, torch.zeros_like(value)).sum(dim=0, keepdim=True)
    return total / real.sum(dim=0, keepdim=True).clamp_min(1)


def _at_position(site: Site, average: Tensor, lengths: Sequence[int] | None) -> Tensor:
    axis, position = replace(site, position=None).dims.index("query"), site.position
    if position is None or position == Span():
        return average
    sizes = list(lengths) if lengths is not None else [average.shape[axis]]
    if isinstance(position, Span):
        if len(set(sizes)) > 1 and position.from_end:
            raise _one_query(site)
        return average.movedim(axis, 0)[position.indices(average.shape[axis])].movedim(0, axis)
    if isinstance(position, str) or (position < 0 and len(set(sizes)) > 1):
        raise _one_query(site)
    return average.select(axis, token_positions(position, sizes[:1])[0])


def _one_query(site: Site) -> PlanError:
    return PlanError(
        f"'{site}' is another query in each prompt, and a mean of scores or patterns is taken query by query.",
        "Give the position as a number that counts from the start,",
        "as in '@4'.",
    )


def _drawn(edit: Edit, source: Mapping[Site, Tensor], lengths: Sequence[int]) -> Tensor:
    """For each prompt the value of another one that has its positions."""
    value = source[edit.site]
    n, generator = len(lengths), torch.Generator().manual_seed(edit.seed)
    if value.shape[0] < 2:
        raise PlanError(
            f"'{edit}' draws from {value.shape[0]} prompt.",
            "Resampling needs two prompts or more to draw from.",
            'Give a reference run: ablate(site, "resample", reference=run).',
        )
    theirs = source.lengths_at(edit.site) if isinstance(source, Run) else [max(lengths)] * value.shape[0]
    anywhere = isinstance(edit.site.position, int | str) or position_axis(edit.site) is None
    own = value.shape[0] == n  # otherwise prompts of another run, of which none is a prompt's own
    if own and (anywhere or len(set(theirs)) == 1):
        # Every prompt gets another one's value: a shuffled order, shifted by one.
        order = torch.randperm(n, generator=generator)
        drawn = torch.empty_like(order)
        drawn[order] = order.roll(1)
        return value[drawn.to(value.device)]
    chosen = []
    for prompt, length in enumerate(lengths):
        able = [
            row
            for row, their in enumerate(theirs)
            if (anywhere or _has_positions_of(edit.site, their, length)) and not (own and row == prompt)
        ]
        if not able:
            raise PlanError(
                f"'{edit}' finds no other prompt with the {length} tokens of prompt {prompt} to draw from.",
                "At all positions, a value is drawn from a prompt that has these positions too.",
                "Name one position, as in '@-1', or give a reference run with longer prompts.",
            )
        chosen.append(able[int(torch.randint(len(able), (1,), generator=generator))])
    width = max(lengths)
    axis = position_axis(edit.site)
    taken = value[torch.tensor(chosen, device=value.device)]
    return taken if anywhere or axis is None else _first(taken, edit.site, width)


def _has_positions_of(site: Site, their: int, length: int) -> bool:
    """True when a prompt can give its values at all positions; a pattern's rows belong to one length."""
    return their == length if "query" in KINDS[site.kind][1] else their >= length


def _first(value: Tensor, site: Site, width: int) -> Tensor:
    """The positions up to `width`, of a value of all positions."""
    if isinstance(site.position, Span) and site.position != Span():
        return value
    for name in ("position", "query", "key"):
        if name in site.dims:
            axis = site.dims.index(name)
            value = value.narrow(axis, 0, min(width, value.shape[axis]))
    return value
