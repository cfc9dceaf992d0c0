"""At which depth are tokens attributed? The embeddings, or the residual stream that enters a layer.

In the stream of a layer a position holds more than its token: what earlier layers carried there. An attribution to it
says which positions the rest of the network reads, not which words the text needs [@kokhlikyan2020]. In an encoder-decoder
the streams that enter the layer in both stacks are taken together: whatever reaches a prediction passes one of them.
What earlier layers of the decoder took from the encoder then counts for the decoder's positions.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from cutaway.core.errors import ParameterError
from cutaway.core.site import Site
from cutaway.methods.attribute.targets import Targets
from cutaway.models.model import Model
from cutaway.models.multigrad import EMBED, values_at

Layer = Annotated[
    int | None, Field(ge=0, description="attribute to the stream that enters this layer; none: to the embeddings")
]


def place_of(model: Model, layer: int | None) -> Site:
    """The site of a layer's input (of both stacks, where there are two), or of the embeddings.

    Raises:
        ParameterError: there is no such layer.
    """
    if layer is None:
        return EMBED
    counts = [len(stack.layers) for stack in model.anatomy.stacks.values()]
    if layer >= min(counts):
        raise ParameterError(
            f"layer is {layer};",
            f"{model.name!r} has {' and '.join(map(str, counts))} layers, 0 to {min(counts) - 1}, whose input can be "
            "attributed to.",
            "Leave layer out, to attribute to the embeddings.",
        )
    return Site("resid_pre", layer)


def nothing_at(model: Model, targets: Targets, prompt: int, neutral: Tensor, at: Site) -> Tensor:
    """What a text of neutral embeddings alone is at a place [position, d_model]."""
    ids = list(targets.ids[prompt])
    whole = neutral.expand(len(ids), -1)
    if at == EMBED:
        return whole
    return values_at(model, [ids], source=targets.source(prompt), at=at, embeddings=whole[None])[0]
