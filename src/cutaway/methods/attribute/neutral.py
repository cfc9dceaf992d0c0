"""What stands for "no word here"? Embeddings that are put in the place of a token's own.

    mean    the mean over the vocabulary        eos, pad, unk   a special token of the tokenizer
    zero    nothing at all                      space           the token of a single space

There is no neutral word: each choice is a text of its own, and the attribution is relative to it. Zero lies far from
every embedding that the network was trained on, and a norm makes its surroundings steep; the mean lies among them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cutaway.core.errors import ParameterError, TaskError
from cutaway.models.model import Model
from cutaway.models.multigrad import values_at

Neutral = Literal["mean", "zero", "eos", "pad", "unk", "space"]
_AT_ONCE = 16384


@torch.no_grad()
def neutral_embedding(model: Model, name: Neutral) -> Tensor:
    """The embedding [d_model] that stands for no word.

    Raises:
        ParameterError: the tokenizer has no such token.
    """
    if name == "mean":
        return _mean(model)
    if name == "zero":
        return torch.zeros_like(own_embedding(model, 0))
    return own_embedding(model, _token(model, name))


def own_embedding(model: Model, token: int) -> Tensor:
    """The embedding [d_model] of a token as the network reads it, in an encoder-decoder as the encoder does."""
    said = model._decoder_prompts(None, 1)
    if said is None:
        return values_at(model, [[token]])[0, 0]
    return values_at(model, [[token, *said.ids[0]]], source=1)[0, 0]


@torch.no_grad()
def vocabulary(model: Model) -> Tensor:
    """The embeddings of all tokens [vocab, d_model], through the network's own embedding."""
    embed = model.anatomy.embed
    assert embed is not None
    tokens = torch.arange(model.anatomy.vocab_size, device=model.device)
    return torch.cat([embed(piece[None])[0] for piece in torch.split(tokens, _AT_ONCE)])


def _mean(model: Model) -> Tensor:
    """The mean over the vocabulary, through the network's own embedding, whatever it multiplies by."""
    embed = model.anatomy.embed
    assert embed is not None
    tokens = torch.arange(model.anatomy.vocab_size, device=model.device)
    pieces = torch.split(tokens, _AT_ONCE)
    total = torch.stack([embed(piece[None]).double().sum(dim=(0, 1)) for piece in pieces]).sum(dim=0)
    return (total / len(tokens)).to(model.dtype)


def _token(model: Model, name: str) -> int:
    if name == "space":
        try:
            return model.token_id(" ")
        except TaskError:
            found = None
    else:
        found = getattr(model.tokenizer, f"{name}_token_id", None)
    if isinstance(found, int) and 0 <= found < model.anatomy.vocab_size:
        return found
    able = [n for n in ("eos", "pad", "unk") if isinstance(getattr(model.tokenizer, f"{n}_token_id", None), int)]
    raise ParameterError(
        f"the tokenizer of {model.name!r} has no token for {name!r};",
        f"it has {', '.join(able) or 'no special token'}; mean and zero need none.",
        f"Write {able[0] if able else 'mean'} in its place.",
    )
