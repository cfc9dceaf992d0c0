"""What was the model given? Prompts as text, as token ids or as a task, in one form, and as the tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cutaway.core.errors import TaskError
from cutaway.core.tokens import prompt_ids

Prompts = Any  # str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | Tensor | Task | EncodedTask


@dataclass(frozen=True)
class Encoded:
    """Token ids of every prompt, and the named positions of a task."""

    ids: tuple[tuple[int, ...], ...]
    named: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [len(ids) for ids in self.ids]


def encode(prompts: Prompts, tokenizer: Any, named: Mapping[str, Sequence[int]] | None = None) -> Encoded:
    """Token ids of prompts in any form that is allowed; `TaskError` says what is."""
    if isinstance(prompts, Encoded):
        return _checked(Encoded(prompts.ids, {**prompts.named, **named})) if named else prompts
    if hasattr(prompts, "encode") and not isinstance(prompts, str):
        prompts = prompts.encode(tokenizer)
    if hasattr(prompts, "contrast_ids"):
        return _checked(Encoded(tuple(prompts.ids), {**prompts.positions, **(named or {})}))
    if isinstance(prompts, Tensor):
        prompts = prompts.tolist()
    if isinstance(prompts, str):
        prompts = [prompts]
    prompts = list(prompts)
    if prompts and all(isinstance(entry, int) for entry in prompts):
        prompts = [prompts]
    ids = tuple(_ids(entry, tokenizer) for entry in prompts)
    if not ids:
        raise TaskError("There are no prompts.", "Give a text, a list of texts, lists of token ids, or a task.")
    return _checked(Encoded(ids, dict(named or {})))


def _checked(encoded: Encoded) -> Encoded:
    """Every named position is a token of every prompt."""
    for name, places in encoded.named.items():
        if len(places) != len(encoded.ids):
            raise TaskError(
                f"The position {name!r} is given for {len(places)} prompts, there are {len(encoded.ids)}.",
                "A named position is one token index for each prompt.",
            )
        for prompt, (place, length) in enumerate(zip(places, encoded.lengths, strict=True)):
            if not 0 <= place < length:
                raise TaskError(
                    f"The position {name!r} is token {place} of prompt {prompt}, which has {length} tokens.",
                    f"It is one of 0 to {length - 1}.",
                )
    return encoded


def _ids(entry: Any, tokenizer: Any) -> tuple[int, ...]:
    if isinstance(entry, str):
        if tokenizer is None:
            raise TaskError(
                "This model has no tokenizer.",
                "It takes lists of token ids,",
                "as in model.run([[1, 2, 3]]).",
            )
        found = prompt_ids(tokenizer, entry)
    elif isinstance(entry, Tensor):
        found = tuple(int(i) for i in entry.flatten().tolist())
    elif isinstance(entry, Sequence) and all(isinstance(i, int) for i in entry):
        found = tuple(entry)
    else:
        raise TaskError(f"A prompt is {type(entry).__name__}.", "A prompt is a text or a list of token ids.")
    if not found:
        raise TaskError(
            f"The prompt {entry!r} has no tokens.",
            "A prompt has at least one token.",
            "Write a word or more.",
        )
    return found


def padded(
    ids: Sequence[Sequence[int]], device: torch.device, *, left: bool = False, pad: int = 0
) -> dict[str, Tensor]:
    """`input_ids`, and an `attention_mask` where the prompts differ in length."""
    lengths = [len(row) for row in ids]
    width = max(lengths)
    if min(lengths) == width:
        return {"input_ids": torch.tensor([list(row) for row in ids], device=device)}
    tokens = torch.full((len(ids), width), pad, dtype=torch.long)
    mask = torch.zeros((len(ids), width), dtype=torch.long)
    for row, entry in enumerate(ids):
        span = slice(width - len(entry), width) if left else slice(0, len(entry))
        tokens[row, span] = torch.tensor(list(entry))
        mask[row, span] = 1
    return {"input_ids": tokens.to(device), "attention_mask": mask.to(device)}
