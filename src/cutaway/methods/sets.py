"""What does each of many sets of changes do? Many sets in one batch, one block of rows a set.

A control takes dozens of random sets, each of which is a run of its own on the slow path. Here a batch holds the
prompts once for each set, and every change is written into the rows of its sets only. The numbers are those of
single runs up to rounding. A change at a position that a shorter prompt does not have is left out for that prompt.
Limits: changes are new values at concrete sites, known before the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core.edit import Edit, apply
from cutaway.core.progress import track
from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.models.metric import Metric
from cutaway.models.model import Model
from cutaway.models.program import Clock, index_of

TOKENS_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class Write:
    """A new value at a concrete site: zero, unless something is given.

    Attributes:
        site: where.
        value: one value for all prompts, broadcast against the site's.
        source: instead, values of whole prompts [prompt, ...], of which each prompt gets its own part: what a run of
            as many prompts has at `site.whole`.
    """

    site: Site
    value: Tensor | None = None
    source: Tensor | None = None


def scores(
    model: Model,
    ids: Sequence[Sequence[int]],
    sets: Sequence[Sequence[Write]],
    metric: Metric,
    *,
    named: Mapping[str, Sequence[int]] | None = None,
    what: str = "random sets",
) -> Tensor:
    """The metric of every prompt under every set of changes [set, prompt].

    Args:
        model: the network.
        ids: token ids of the prompts.
        sets: the changes of each set, made together.
        metric: of these prompts, in their order.
        named: token index of each named position in each prompt.
        what: what progress is reported as.
    """
    table = torch.full((len(sets), len(ids)), torch.nan)
    for prompts in _of_one_length(ids):
        size = max(1, TOKENS_AT_ONCE // (len(prompts) * len(ids[prompts[0]])))
        for start in track(range(0, len(sets), size), what):
            some = sets[start : start + size]
            found = _scores(model, ids, prompts, some, metric, named or {})
            table[start : start + size, prompts] = found.float().cpu()
    return table


def mean_writes(run: Run, sites: Sequence[Site]) -> list[Write]:
    """The mean of each site over all prompts and positions of a run that has read it (patterns: over prompts).

    Args:
        run: has read the whole of every site.
        sites: concrete sites.
    """
    means: dict[Site, Tensor] = {}
    for whole in dict.fromkeys(site.whole for site in sites):
        value = run[whole]
        real = [value[row, :length] for row, length in enumerate(run.lengths)]
        means[whole] = value.mean(dim=0) if "query" in whole.dims else torch.cat(real).mean(dim=0)
    return [Write(site, _part(means[site.whole], site)) for site in sites]


def _part(mean: Tensor, site: Site) -> Tensor:
    """The part of a whole site's mean that a site means, with a dimension of one for all its positions."""
    dims = [dim for dim in site.whole.dims if dim not in ("prompt", "position")]
    index: list[int | slice] = [slice(None)] * len(dims)
    if isinstance(site.head, int) and "head" in dims:
        index[dims.index("head")] = site.head
    if isinstance(site.unit, int):
        index[-1] = site.unit
    if isinstance(site.position, int) and "query" in dims:
        index[dims.index("query")] = site.position
    part = mean[tuple(index)]
    if "position" not in site.dims:
        return part
    return part[None] if part.dim() else part.reshape(1)


def _of_one_length(ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Prompts of equal lengths, at most as many tokens as one pass takes."""
    by_length: dict[int, list[int]] = {}
    for prompt, tokens in enumerate(ids):
        by_length.setdefault(len(tokens), []).append(prompt)
    groups = []
    for length, prompts in by_length.items():
        size = max(1, TOKENS_AT_ONCE // length)
        groups += [prompts[start : start + size] for start in range(0, len(prompts), size)]
    return groups


def _scores(
    model: Model,
    ids: Sequence[Sequence[int]],
    prompts: list[int],
    sets: Sequence[Sequence[Write]],
    metric: Metric,
    named: Mapping[str, Sequence[int]],
) -> Tensor:
    rows = [list(ids[prompt]) for _ in sets for prompt in prompts]
    inside = {name: [where[prompt] for prompt in prompts] for name, where in named.items()}
    clock = Clock([len(rows[0])] * len(prompts), named=inside)
    run = model.run(
        rows,
        edit=_edits(sets, prompts, clock),
        positions={name: where * len(sets) for name, where in inside.items()},
        logits="last",
        batch=len(rows),  # every edit sees all rows at once
    )
    return metric.for_rows(prompts * len(sets))(run.last_logits).reshape(len(sets), len(prompts))


def _edits(sets: Sequence[Sequence[Write]], prompts: list[int], clock: Clock) -> list[Edit]:
    """One edit for each site that any set changes."""
    by_site: dict[Site, dict[int, Write]] = {}
    for number, writes in enumerate(sets):
        for write in writes:
            place, length = write.site.position, clock.lengths[0]
            if not isinstance(place, int) or -length <= place < length:
                by_site.setdefault(write.site, {})[number] = write
    return [_edit(site, writes, prompts, clock) for site, writes in by_site.items()]


def _edit(site: Site, writes: Mapping[int, Write], prompts: list[int], clock: Clock) -> Edit:
    def change(old: Tensor) -> Tensor:
        new = old.clone()
        for number, write in writes.items():
            block = new[number * len(prompts) : (number + 1) * len(prompts)]
            block.copy_(_given(write, block, prompts, clock))
        return new

    return apply(site, change)


def _given(write: Write, old: Tensor, prompts: list[int], clock: Clock) -> Tensor:
    if write.source is not None:
        value = write.source[prompts]
        return _cut(value[index_of(write.site, value, clock, 0)[0]], old).to(old)
    if write.value is None:
        return torch.zeros_like(old)
    return _cut(write.value, old).to(old).expand_as(old)


def _cut(value: Tensor, old: Tensor) -> Tensor:
    """Without what lies beyond the end of these prompts, where longer ones of the task have more positions."""
    for back in range(1, min(value.dim(), old.dim()) + 1):
        if value.shape[-back] > old.shape[-back] > 1:
            value = value.narrow(-back, 0, old.shape[-back])
    return value
