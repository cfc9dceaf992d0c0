"""Where does each head look? Entropy, habits and a thumbnail of every head's pattern on one text, or on a pair of texts.

Habits are those of `methods.observe.attention` (previous token, first token, duplicate token, induction). A
thumbnail's cell is the largest attention among the pairs of tokens that it covers, so that a thin line stays visible.
Limits: both texts of a pair are read as one sequence, without the segment ids that some encoders were trained with.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cutaway.apps.inspection import arguments as given
from cutaway.core.errors import ModelError
from cutaway.core.site import Site
from cutaway.methods.observe import attention as method
from cutaway.models.memory import free_bytes
from cutaway.models.model import Model

THUMBNAIL = 24
SHARE = 0.2  # of the free memory, for the patterns of one run


def attention(model: Model, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Entropy and scores [layer][head] of all heads, with thumbnails; None where a layer has no pattern."""
    given.only(arguments, "text", "text_b")
    ids = given.ids(model, arguments)
    layers, heads = model.anatomy.n_layers, model.anatomy.sizes(Site("pattern", 0))["heads"]
    if not heads:
        raise ModelError(f"{model.name} has no attention heads.", "This page is about attention.")
    masks = method.habit_masks(ids)
    entropy: list[list[float | None]] = [[None] * heads for _ in range(layers)]
    scores: dict[str, list[list[float | None]]] = {
        name: [[None] * heads for _ in range(layers)] for name in method.HABITS
    }
    side = shrink(torch.zeros(1, len(ids), len(ids)), THUMBNAIL).shape[-1]
    small: list[list[str | None]] = [[None] * heads for _ in range(layers)]
    for layer, pattern in _patterns(model, ids):
        found = method.habit_scores(pattern, masks)
        entropies = entropy_of(pattern)
        shrunk = shrink(pattern, THUMBNAIL)
        for head in range(pattern.shape[0]):
            entropy[layer][head] = _number(entropies[head])
            small[layer][head] = base64.b64encode(shrunk[head].numpy().tobytes()).decode()
            for row, name in enumerate(method.HABITS):
                scores[name][layer][head] = _number(found[row, head])
    return {
        "tokens": model.token_strings(ids),
        "ids": list(ids),
        "token_b_start": given.second_text(model, arguments),
        "n_layers": layers,
        "n_heads": heads,
        "causal": model.anatomy.is_causal,
        "entropy": entropy,
        "scores": scores,
        "thumbnails": {"side": side, "values": small},
        "refused": _refused(model),
    }


def entropy_of(pattern: Tensor) -> Tensor:
    """The mean over queries of the entropy (nats) of each head's attention: [head, query, key] -> [head]."""
    wide = pattern.float()
    return -torch.special.xlogy(wide, wide).sum(dim=-1).mean(dim=-1)


def shrink(pattern: Tensor, most: int) -> Tensor:
    """Patterns [head, query, key] as bytes [head, side, side], `side` at most `most`: 255 is an attention of 1."""
    size = pattern.shape[-1]
    block = math.ceil(size / most)
    gap = -size % block
    pooled = functional.max_pool2d(functional.pad(pattern.float().cpu(), (0, gap, 0, gap)), block)
    return (pooled * 255).round().clamp(0, 255).to(torch.uint8)


def _patterns(model: Model, ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Each layer's pattern [head, query, key], as many layers in one run as fit."""
    served = [layer for layer in model.anatomy.stacks[""].layers if "pattern" in layer.places]
    widest = max((layer.n_heads for layer in served), default=1)
    at_once = max(1, int(free_bytes(model.device) * SHARE) // (widest * len(ids) ** 2 * model.dtype.itemsize))
    for start in range(0, len(served), at_once):
        some = [Site("pattern", layer.index) for layer in served[start : start + at_once]]
        run = model.run([list(ids)], read=some, logits="none")
        for site in some:
            assert isinstance(site.layer, int)
            yield site.layer, run[site][0]


def _refused(model: Model) -> dict[str, str]:
    """Why a layer has no pattern to show."""
    layers = model.anatomy.stacks[""].layers
    return {str(layer.index): layer.refused.get("pattern", "") for layer in layers if "pattern" not in layer.places}


def _number(value: Tensor | float) -> float | None:
    number = float(value)
    return float(np.format_float_positional(number, 6, fractional=False)) if math.isfinite(number) else None
