"""Which list of modules are the layers? The one that hands a stream from block to block, up to the unembedding.

Nearly every network has one `ModuleList` with most of the weights; then nothing has to run. Where several could be
it (towers for pictures, several decoders in a row), one short pass tells: the blocks of the right one run once each, in
order, each taking what the one before gave, and the last of such lists is the one that the unembedding reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core.errors import ModelError
from cutaway.models import taps

Blocks = list[tuple[str, nn.Module]]
SHARE = 0.02  # a list with less than this share of the heaviest one's weights is not the layers


@dataclass
class Candidate:
    """A list that may be the layers, and the runs of its blocks in a short pass: index, input, outputs."""

    path: str
    blocks: list[nn.Module]
    weight: int
    runs: list[tuple[int, Tensor | None, list[Tensor]]] = field(default_factory=list)
    last: int = -1

    @property
    def named(self) -> tuple[str, Blocks]:
        """The path of the list and its blocks with theirs."""
        return self.path, [(f"{self.path}.{i}", block) for i, block in enumerate(self.blocks)]

    @property
    def is_chain(self) -> bool:
        """True when most blocks ran, once each and in order, on what the one before gave."""
        order = [index for index, _, _ in self.runs]
        if len(order) * 2 < len(self.blocks) or order != sorted(set(order)):
            return False
        pairs = pairwise(self.runs)
        return all(inp is not None and any(_same(t, inp) for t in outs) for (_, _, outs), (_, inp, _) in pairs)


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and torch.equal(a, b))


def find(hf: Any, is_encoder_decoder: bool, inputs: Callable[[], dict[str, Any]]) -> dict[str, tuple[str, Blocks]]:
    """Stack name -> the path of its list and its blocks.

    Args:
        hf: a transformers model.
        is_encoder_decoder: it has two stacks.
        inputs: of a short pass, where one is needed.
    """
    if not is_encoder_decoder:
        return {"": _layers(hf, hf, inputs)}
    return {"": _layers(hf, hf.get_decoder(), inputs), "encoder": _layers(hf, hf.get_encoder(), inputs)}


def _layers(hf: nn.Module, within: nn.Module, inputs: Callable[[], dict[str, Any]]) -> tuple[str, Blocks]:
    candidates = _candidates(hf, within)
    if not candidates:
        raise ModelError(
            f"{type(hf).__name__} has no list of layers.",
            "Cutaway opens transformers whose blocks stand in a ModuleList.",
        )
    heaviest = max(candidates, key=lambda c: (c.weight, -c.path.count(".")))
    if len(candidates) == 1:
        return heaviest.named
    try:
        _watch(hf, candidates, inputs())
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
        return heaviest.named  # a network that cannot run on text alone
    chains = [c for c in candidates if c.is_chain]
    return max(chains, key=lambda c: c.last, default=heaviest).named


def _candidates(hf: nn.Module, within: nn.Module) -> list[Candidate]:
    names = {module: name for name, module in hf.named_modules()}
    found = [
        Candidate(names[m], list(m), sum(p.numel() for p in m.parameters()))
        for m in within.modules()
        if isinstance(m, nn.ModuleList) and len(m)
    ]
    largest = max((c.weight for c in found), default=0)
    heavy = [c for c in found if c.weight >= SHARE * largest]
    inner = {id(m) for c in heavy for block in c.blocks for m in block.modules() if m is not block}
    return [c for c in heavy if not any(id(block) in inner for block in c.blocks)]


def _watch(hf: nn.Module, candidates: Sequence[Candidate], inputs: dict[str, Any]) -> None:
    place = {block: (c, index) for c in candidates for index, block in enumerate(c.blocks)}
    number = 0

    def seen(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        nonlocal number
        number += 1
        candidate, index = place[module]
        found = taps.first_tensor(args, kwargs)
        outs = [output] if isinstance(output, Tensor) else [t for t in output if isinstance(t, Tensor)]
        candidate.runs.append((index, found[1] if found else None, outs))
        candidate.last = number

    blocks = {f"{c.path}.{i}": block for c in candidates for i, block in enumerate(c.blocks)}
    with torch.no_grad(), taps.watching(blocks, seen):
        hf(**inputs)
