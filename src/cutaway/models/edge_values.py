"""What do sources write instead, where an edge is changed? The contributions of another run, zero, or a mean.

Contributions are kept as small as they come: a head's as its z, which W_O takes to the stream when it is needed (that
is linear, so a mean of z is the mean of what heads write).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.errors import PlanError
from cutaway.core.site import Site
from cutaway.models.edge_parts import parts_of
from cutaway.models.encode import Encoded, Prompts, encode

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each source adds to the stream, for each prompt.

    Attributes:
        values: whole site (`resid_pre[0]` for `embed`, `z[l]`, `attn_contrib[l]`, `mlp_contrib[l]`) -> its value
            [prompt, position, ...]; a dimension of one stands for all prompts or positions. Empty: all are zero.
        name: for people: "the contrasts", "zero", "the mean", …
        n: number of prompts; 0 where every prompt has the same.
    """

    values: Mapping[Site, Tensor]
    name: str
    n: int = 0

    def of(self, site: Site, prompts: Sequence[int], length: int) -> Float[Tensor, "prompt position *rest"] | None:
        """The values of some prompts of one length, or None where they are zero."""
        value = self.values.get(site)
        if value is None:
            return None
        if len(value) > 1:
            value = value[list(prompts)]
        return value[:, :length]

    def require(self, prompts: int, longest: int) -> None:
        """Refuse contributions that were made for other prompts."""
        widths = {value.shape[1] for value in self.values.values()} - {1}
        if (self.n and self.n != prompts) or (widths and min(widths) < longest):
            raise PlanError(
                f"The contributions are those of {self.n or 'all'} prompts of up to {min(widths, default=1)} tokens,",
                f"and {prompts} prompts of up to {longest} tokens are run.",
                "Make them for the same prompts: each takes its own, position by position.",
            )


def zero() -> Contributions:
    """Sources write nothing."""
    return Contributions({}, "zero")


def of_prompts(model: Model, prompts: Prompts, name: str = "another run") -> Contributions:
    """What sources write in a run of other prompts: one for each prompt, as long as it (a contrast, a resampled one)."""
    sites = parts_of(model).source_sites
    run = model.run(prompts, read=sites, logits="none")
    return Contributions({site: run[site] for site in sites}, name, len(run.ids))


def mean(model: Model, prompts: Prompts, groups: Sequence[str] | None = None) -> Contributions:
    """The mean of what sources write.

    Args:
        model: the network.
        prompts: whose mean it is.
        groups: instead of one mean over all prompts and positions: a group for each prompt (its template). Each
            prompt gets the mean over its group at each position [@wang2022]; prompts of one group that differ in
            length have means of their own. A group of one prompt has the one mean over everything.
    """
    sites = parts_of(model).source_sites
    encoded = encode(prompts, model.tokenizer)
    run = model.run(encoded, read=sites, logits="none")
    overall = {site: _overall(run[site], encoded) for site in sites}
    if groups is None:
        return Contributions(overall, "the mean")
    values = {}
    members = _members(encoded, groups)
    for site in sites:
        value = run[site].clone()
        for rows in members:
            value[rows] = value[rows].mean(dim=0) if len(rows) > 1 else overall[site][0]
        values[site] = value
    return Contributions(values, "the mean of the template", len(encoded.ids))


def _overall(value: Tensor, encoded: Encoded) -> Tensor:
    real = [value[row, :length] for row, length in enumerate(encoded.lengths)]
    return torch.cat(real).mean(dim=0)[None, None]


def _members(encoded: Encoded, groups: Sequence[str]) -> list[list[int]]:
    if len(groups) != len(encoded.ids):
        raise PlanError(
            f"There are {len(groups)} groups for {len(encoded.ids)} prompts.",
            "Each prompt has one group, its template.",
        )
    found: dict[tuple[str, int], list[int]] = {}
    for row, (group, length) in enumerate(zip(groups, encoded.lengths, strict=True)):
        found.setdefault((group, length), []).append(row)
    return list(found.values())


def resampled(model: Model, prompts: Prompts, seed: int) -> Contributions:
    """What sources write in another of the prompts, drawn among those with as many tokens.

    Raises:
        PlanError: a prompt is the only one of its length.
    """
    encoded = encode(prompts, model.tokenizer)
    random = np.random.default_rng(seed)
    by_length: dict[int, list[int]] = {}
    for row, length in enumerate(encoded.lengths):
        by_length.setdefault(length, []).append(row)
    other: dict[int, int] = {}
    for length, rows in by_length.items():
        if len(rows) == 1:
            raise PlanError(
                f"Prompt {rows[0]} is the only one of {length} tokens.",
                "Resampling takes another prompt with as many tokens.",
                "Give contrasts or more prompts.",
            )
        order = [rows[i] for i in random.permutation(len(rows))]
        other.update(zip(order, [*order[1:], order[0]], strict=True))
    ids = tuple(encoded.ids[other[row]] for row in range(len(encoded.ids)))
    return of_prompts(model, Encoded(ids), "another prompt")
