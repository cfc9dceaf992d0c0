"""What do the sources of edges write in the base run, and what would they have to change by?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.site import Site
from cutaway.models.edge_parts import EMBED, Parts
from cutaway.models.edge_values import Contributions
from cutaway.models.place import projection_weight
from cutaway.models.recording import Recording
from cutaway.models.unembedding import Unembedding


@dataclass
class Base:
    """The base run of prompts of one length, and what its sources would have to change by.

    Attributes:
        recording: streams, layers' outputs and contributions.
        parts: of the network.
        other: what changed edges carry.
        prompts: which prompts of the task these are.
        ends: the unembedding.
        keeps: whether the differences are kept between passes.
        bytes: what they take.
    """

    recording: Recording
    parts: Parts
    other: Contributions
    prompts: tuple[int, ...]
    ends: Unembedding
    keeps: bool = True
    bytes: int = 0
    _kept: Tensor | None = None

    def differences(self, sources: Sequence[int]) -> Float[Tensor, "source prompt position d_model"]:
        """`other - base` of some sources [source, prompt, position, d_model]."""
        if not self.keeps:
            return self._made(sources)
        if self._kept is None:
            self._kept = self._made(range(len(self.parts.graph.sources)))
        whole = len(sources) == len(self._kept)
        return self._kept if whole else self._kept[list(sources)]

    def _made(self, sources: Sequence[int]) -> Tensor:
        stream = self.recording.streams[0]
        found = stream.new_empty(len(sources), *stream.shape)
        by_site: dict[Site, list[tuple[int, int]]] = {}
        for place, number in enumerate(sources):
            source = self.parts.graph.sources[number]
            by_site.setdefault(whole_of(source), []).append((place, source.head or 0))  # type: ignore[arg-type]
        for site, mine in by_site.items():
            changed = change(self.recording.sites[site], self.other, site, self.prompts, 1)
            write(self.parts, site, changed, [head for _, head in mine], [found[place] for place, _ in mine])
        return found


def whole_of(source: Site) -> Site:
    """What is read for a source: its whole site."""
    return EMBED if source.kind == "embed" else source.whole


def change(value: Tensor, other: Contributions, site: Site, prompts: Sequence[int], sets: int) -> Tensor:
    """`other - value` for a whole site [set * prompt, position, ...]."""
    there = other.of(site, prompts, value.shape[1])
    if there is None:
        return -value
    there = there.to(value)
    if len(there) > 1 and sets > 1:
        there = there.repeat(sets, *[1] * (there.dim() - 1))
    return there - value


def write(parts: Parts, site: Site, changed: Tensor, heads: Sequence[int], out: Sequence[Tensor]) -> None:
    """What changes of a whole site become in the stream: one tensor [row, position, d_model] for each asked head."""
    if site.kind != "z":
        for place in out:
            place.copy_(changed)
        return
    assert isinstance(site.layer, int)
    part = parts.layers[site.layer]
    assert part.layer.output_projection is not None
    matrix = projection_weight(part.layer.output_projection)
    width = changed.shape[-1]
    for head, place in zip(heads, out, strict=True):
        rows = matrix[head * width : (head + 1) * width]
        torch.matmul(changed[:, :, head], rows.to(changed), out=place)
        if part.scale != 1.0:
            place.mul_(part.scale)
