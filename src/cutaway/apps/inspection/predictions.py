"""What comes next? Tokens of a text, the distribution after it, and a greedy continuation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cutaway.apps.inspection import arguments as given
from cutaway.core.errors import ModelError
from cutaway.models.model import Model


def tokenize(model: Model, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Ids, tokens and character spans of a text, as the model will read it."""
    given.only(arguments, "text")
    text = given.text(arguments)
    if model.tokenizer is None:
        raise ModelError(f"{model.name} has no tokenizer.", "It takes token ids only.")
    fast = bool(getattr(model.tokenizer, "is_fast", False))
    read = model.tokenizer(text, return_offsets_mapping=True) if fast else model.tokenizer(text)
    ids = [int(i) for i in read["input_ids"]]
    spans = [[int(a), int(b)] for a, b in read["offset_mapping"]] if fast else []
    return {"ids": ids, "tokens": model.token_strings(ids), "spans": spans}


def following(model: Model, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The most probable next tokens, with edits where some are asked for."""
    given.only(arguments, "text", "top", "edit")
    require_next_token(model)
    top = given.number(arguments, "top", 10, 1, 200)
    ids = given.ids(model, arguments)
    logits = model.run([list(ids)], edit=given.edits(model, arguments), logits="last").last_logits[0]
    return {
        "tokens": candidates(model, logits, top),
        "entropy": entropy(logits),
        "n_tokens": len(ids),
    }


def generate(model: Model, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Greedy continuation: the new ids, their tokens, and the whole text with them."""
    given.only(arguments, "text", "max_new_tokens")
    require_next_token(model)
    ids = given.ids(model, arguments)
    count = given.number(arguments, "max_new_tokens", 1, 1, 200)
    new = list(model.generate([list(ids)], max_new_tokens=count).new_ids[0])
    tokens = model.token_strings(new)
    return {"ids": new, "tokens": tokens, "text": given.text(arguments) + "".join(tokens)}


def candidates(model: Model, logits: Tensor, top: int) -> list[dict[str, Any]]:
    """The tokens with the largest logits [vocab], largest first."""
    logits = logits.float()
    probabilities = logits.softmax(dim=-1)
    ids = logits.argsort(descending=True, stable=True)[:top].tolist()
    return [candidate(model, logits, probabilities, token) for token in ids]


def candidate(model: Model, logits: Tensor, probabilities: Tensor, token: int) -> dict[str, Any]:
    """One token with its logit and its probability."""
    return {
        "id": token,
        "text": model.token_strings([token])[0],
        "probability": float(probabilities[token]),
        "logit": float(logits[token]),
    }


def entropy(logits: Tensor) -> float:
    """Entropy (nats) of the distribution with these logits [vocab]."""
    probabilities = logits.float().softmax(dim=-1)
    return float(-torch.special.xlogy(probabilities, probabilities).sum())


def require_next_token(model: Model) -> None:
    """Refuse models that predict no next token."""
    if not {"causal", "unembedding"} <= model.anatomy.features or model.anatomy.is_encoder_decoder:
        raise ModelError(
            f"{model.name} does not predict a next token.",
            "Only a causal language model does.",
            "Open one, such as smollm2.",
        )
