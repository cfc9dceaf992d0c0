"""Where does a value pass? A `Place` is a module's input or output, and how the site's value lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cutaway.core.site import KINDS

ATTENTION_KINDS = ("q", "k", "v", "k_per_query_head", "v_per_query_head", "scores", "pattern", "z")
LAYER_KINDS = tuple(kind for kind, (part, _) in KINDS.items() if part != "ends")


@dataclass(frozen=True)
class Place:
    """Where a value passes.

    Attributes:
        module, path: the module whose input or output it is.
        side: `in`, `out`, `attention` (the attention call), `softmax` or `linear` (inside the module), `experts`,
            `logits`.
        index: which element of a tuple output.
        scale: the site's value is `scale` times what the module gives.
        columns: which columns of the last dimension, where a projection is fused, as [head, d_head].
        heads: the last dimension is (heads, d_head).
        head_first: the module gives [prompt, head, position, d_head].
        fleeting: the tensor is changed in place after it has passed: what is read of it is a copy.
        flat: the module has the tokens of all prompts in one row, [prompt * position, d_model].
    """

    module: nn.Module
    path: str
    side: str
    index: int | None = None
    scale: float = 1.0
    columns: Tensor | None = None
    heads: int = 0
    head_first: bool = False
    fleeting: bool = False
    flat: bool = False

    @property
    def is_plain(self) -> bool:
        """True when what the module gives is the site's value as it is."""
        changed = self.columns is not None or self.heads or self.head_first or self.fleeting or self.flat
        return self.scale == 1.0 and not changed

    def get(self, raw: Tensor, rows: int) -> Tensor:
        """The site's value in its canonical layout, from what the module gave for so many prompts."""
        if self.flat:
            raw = raw.reshape(rows, -1, raw.shape[-1])
        value = raw if self.scale == 1.0 else raw * self.scale
        if self.fleeting and value is raw:
            value = raw.clone()
        if self.head_first:
            return value.transpose(1, 2)
        if self.columns is not None:
            return value[..., self.columns.to(raw.device)]
        if self.heads:
            return value.reshape(*value.shape[:-1], self.heads, -1) if value.dim() == 3 else value
        return value

    def put(self, raw: Tensor, value: Tensor) -> Tensor:
        """What the module must give so that the site has this value."""
        if self.head_first:
            value = value.transpose(1, 2)
        elif self.columns is not None:
            new = raw.clone()
            new[..., self.columns.to(raw.device)] = value.to(raw.dtype)
            value = new
        elif self.heads:
            value = value.reshape(*value.shape[:2], *raw.shape[2:])
        if self.flat:
            value = value.reshape(raw.shape)
        if self.fleeting:
            value = value.clone()  # the network goes on to change it; what was read stays
        return value if self.scale == 1.0 else value / self.scale


def projection_weight(module: nn.Module) -> Tensor:
    """The matrix of a linear module as [in, out], for `Linear` and for GPT-2's transposed `Conv1D`."""
    weight: Any = module.weight
    return weight if type(module).__name__ == "Conv1D" else weight.T
