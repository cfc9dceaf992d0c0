"""At which positions are edges scored and changed? Labels of tokens, and what a set of edges at positions adds.

A circuit can need an edge at one token and not at another [@haklay2025]. So that prompts can be taken together, each
token has a *label*: a named position of the task (`io`, `s2`, `end`), or its number where all prompts are equally long. A
token has one label; those that no name stands for share the label `elsewhere`, so that the labels together are all tokens.

Limits: an edge into a key or value at a position is for all later queries that look there, where Haklay et al. tell the
pairs of positions apart; prompts that are equally long need not mean the same at each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.core.edge import ELSEWHERE
from cutaway.core.edge_paths import Order
from cutaway.core.encoding import EncodedTask
from cutaway.core.errors import PlanError, TaskError

By = Literal["named", "token"]


@dataclass(frozen=True)
class Positions:
    """The labels of all tokens of some prompts.

    Attributes:
        names: of the labels, in the order in which they stand in the prompts; `elsewhere` last, where it is needed.
        labels: for each prompt the number of each token's label.
    """

    names: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]

    def of(self, prompts: Sequence[int], length: int) -> Int[Tensor, "prompt position"]:
        """The labels of some prompts of one length [prompt, position]."""
        return torch.tensor([self.labels[prompt][:length] for prompt in prompts])

    @property
    def order(self) -> Order:
        """Which labels come before which, and which have a prompt's last token."""
        count = len(self.names)
        before, last = np.eye(count, dtype=bool), np.zeros(count, dtype=bool)
        for row in set(self.labels):
            for place, label in enumerate(row):
                before[label, list(row[place:])] = True
            last[row[-1]] = True
        return Order(before, last)

    def require(self, lengths: Sequence[int]) -> None:
        """Refuse labels that were made for other prompts."""
        own = [len(row) for row in self.labels]
        if own != list(lengths):
            raise PlanError(
                f"The positions are those of {len(own)} prompts of up to {max(own, default=0)} tokens,",
                f"and {len(lengths)} prompts of up to {max(lengths)} tokens are run.",
                "Make them for the same prompts: each token has a label.",
            )


def positions_like(encoded: EncodedTask, names: Sequence[str]) -> Positions:
    """The labels of a task's tokens under given names, such as those of a circuit.

    Raises:
        TaskError: the task has other positions.
    """
    own = token_by_token(encoded) if names[0].isdigit() else named(encoded)
    if set(own.names) != set(names):
        raise TaskError(
            f"The circuit is at the positions {', '.join(names)},",
            f"and the task has {', '.join(own.names)}.",
            "Give a task with the same positions.",
        )
    number = [list(names).index(name) for name in own.names]
    return Positions(tuple(names), tuple(tuple(number[label] for label in row) for row in own.labels))


def positions_of(encoded: EncodedTask, by: By) -> Positions:
    """The labels of a task's tokens: its named positions, or token by token."""
    return named(encoded) if by == "named" else token_by_token(encoded)


def named(encoded: EncodedTask) -> Positions:
    """The task's named positions, and `elsewhere`.

    Where two names stand for one token it has the first, and `end` gives way to all others; a name that is left without a token
    is none.

    Raises:
        TaskError: a position is called `elsewhere`.
    """
    if ELSEWHERE in encoded.positions:
        raise TaskError(
            f"A position of the task is called {ELSEWHERE!r},",
            "which is the name of all tokens without one.",
            "Rename it.",
        )
    names = [*(name for name in encoded.positions if name != "end"), "end"]
    taken: list[dict[int, str]] = [{} for _ in encoded.ids]
    for name in names:
        for row, place in zip(taken, encoded.positions[name], strict=True):
            row.setdefault(place, name)
    order = sorted(names, key=lambda name: sum(encoded.positions[name]))
    used = {name for row in taken for name in row.values()}
    shown = [name for name in order if name in used]
    if any(len(row) < len(ids) for row, ids in zip(taken, encoded.ids, strict=True)):
        shown.append(ELSEWHERE)
    number = {name: i for i, name in enumerate(shown)}
    labels = [
        tuple(number[row.get(place, ELSEWHERE)] for place in range(len(ids)))
        for row, ids in zip(taken, encoded.ids, strict=True)
    ]
    return Positions(tuple(shown), tuple(labels))


def token_by_token(encoded: EncodedTask) -> Positions:
    """Each token a label of its own, called by its number.

    Raises:
        TaskError: prompts of unequal length, whose tokens do not stand beside each other.
    """
    lengths = sorted({len(ids) for ids in encoded.ids})
    if len(lengths) > 1:
        raise TaskError(
            f"The prompts have {lengths[0]} to {lengths[-1]} tokens,",
            "and token positions are shared only by prompts that are equally long.",
            "Take named positions (end, and those of the task), or prompts of one length.",
        )
    numbers = tuple(range(lengths[0]))
    return Positions(tuple(map(str, numbers)), tuple(numbers for _ in encoded.ids))


@dataclass(frozen=True, eq=False)
class Pool:
    """Differences of some sources.

    Attributes:
        numbers: of the sources.
        values: [source, row, position, d_model]: a row for each prompt, or for each set and prompt.
        shared: whether all sets have the same.
        kept: of shared ones those at the tokens of each label, once they were needed.
    """

    numbers: Sequence[int]
    values: Float[Tensor, "source row position d_model"]
    shared: bool
    kept: dict[tuple[int, bool], Tensor] = field(default_factory=dict)

    def at(self, label: int, row: Tensor, place: Tensor, ends: bool) -> Float[Tensor, "source token d_model"]:
        """All shared differences at the tokens of a label."""
        known = self.kept.get((label, ends))
        if known is None:
            known = self.kept[label, ends] = self.values[:, row, place]
        return known


def gained_at(
    mask: Bool[Tensor, "set source target label"],
    where: Int[Tensor, "prompt position"],
    pools: Sequence[Pool],
    ends: bool,
) -> Float[Tensor, "target set prompt position d_model"]:
    """What targets gain: for each label the product of the sets with the differences at its tokens.

    Args:
        mask: which edges are changed at which labels.
        where: the label of each token.
        pools: differences; those that are not shared have a row for each set of `mask`.
        ends: only the last position.
    """
    values = pools[0].values
    where = where[:, -1:] if ends else where
    total = values.new_zeros(mask.shape[2], len(mask), *where.shape, values.shape[-1])
    for label in range(mask.shape[3]):
        row, place = (where == label).nonzero(as_tuple=True)
        used = mask[..., label].any(dim=2).any(dim=0)
        for pool in pools:
            taken = used[pool.numbers].nonzero()[:, 0].tolist() if pool.numbers else []
            if not len(row) or not taken:
                continue
            if 2 * len(taken) > len(pool.numbers):
                taken = list(
                    range(len(pool.numbers))
                )  # a product with zeros costs less than a copy of most of the pool
            weights = mask[:, [pool.numbers[i] for i in taken], :, label].to(values)  # [set, source, target]
            there = place - 1 if ends else place
            if pool.shared:
                here = pool.at(label, row, there, ends)
                total[:, :, row, place] += _shared(here if len(taken) == len(here) else here[taken], weights)
            else:
                rows = (torch.arange(len(mask), device=row.device)[:, None] * len(where) + row).flatten()
                own = pool.values[: taken[-1] + 1] if taken[-1] + 1 == len(taken) else pool.values[taken]
                total[:, :, row, place] += _own(own[:, rows, there.repeat(len(mask))], weights)
    return total


def _shared(here: Tensor, weights: Tensor) -> Float[Tensor, "target set token d_model"]:
    """Of differences [source, token, d_model] that all sets have."""
    n, sources, targets = weights.shape
    if n > 1 and bool((weights == weights[:1]).all()):
        weights = weights[:1]
    flat = weights.permute(2, 0, 1).reshape(-1, sources) @ here.flatten(1)
    return flat.reshape(targets, len(weights), *here.shape[1:])


def _own(here: Tensor, weights: Tensor) -> Float[Tensor, "target set token d_model"]:
    """Of differences [source, set * token, d_model], each set's own."""
    n, sources, targets = weights.shape
    mine = here.reshape(sources, n, -1).transpose(0, 1)  # [set, source, token * d_model]
    each = torch.bmm(weights.transpose(1, 2), mine)
    return each.reshape(n, targets, -1, here.shape[-1]).transpose(0, 1)
