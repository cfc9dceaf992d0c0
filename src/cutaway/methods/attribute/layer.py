"""At which depth are tokens attributed? The embeddings, or the residual stream that enters a layer.

In the stream of a layer a position holds more than its token: what earlier layers carried there. An attribution to it
says which positions the rest of the network reads, not which words the text needs [@kokhlikyan2020].
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.edit import replace
from cutaway.core.errors import ParameterError
from cutaway.core.site import Site
from cutaway.methods.attribute.targets import Targets
from cutaway.models.model import Model
from cutaway.models.multigrad import EMBED

Layer = Annotated[
    int | None, Field(ge=0, description="attribute to the stream that enters this layer; none: to the embeddings")
]


def place_of(model: Model, layer: int | None) -> Site:
    """The site of a layer's input, or of the embeddings.

    Raises:
        ParameterError: there is no such layer, or the network has two stacks.
    """
    if layer is None:
        return EMBED
    count = model.anatomy.n_layers
    if model.anatomy.is_encoder_decoder or layer >= count:
        raise ParameterError(
            f"layer is {layer};",
            f"{model.name!r} has {count} layers, 0 to {count - 1}, "
            f"{'in two stacks' if model.anatomy.is_encoder_decoder else 'whose input can be attributed to'}.",
            "Leave layer out, to attribute to the embeddings.",
        )
    return Site("resid_pre", layer)


@torch.no_grad()
def nothing_at(model: Model, targets: Targets, prompt: int, neutral: Tensor, at: Site) -> Tensor:
    """What a text of neutral embeddings alone is at a place [position, d_model]."""
    ids = list(targets.ids[prompt])
    whole = neutral.expand(len(ids), -1)
    if at == EMBED:
        return whole
    return model.run([ids], read=at, edit=[replace(EMBED, whole[None])], logits="none")[at][0]
