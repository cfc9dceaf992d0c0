"""Which tokens is a fact? Prompt, subject and the whole answer as rows of ids, and how likely answers are.

An answer counts with all of its tokens: its probability is the product over them, also where it is several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core.errors import TaskError
from cutaway.core.progress import stop_if_cancelled
from cutaway.core.tokens import plain_ids, prompt_ids, token_ends
from cutaway.data.edit_requests import EditRequest, spaced
from cutaway.models.model import Model
from cutaway.models.trial import in_batches, logits_at


@dataclass(frozen=True)
class Row:
    """A prompt and its answer.

    Attributes:
        ids: tokens of both.
        start: the first token of the answer.
        place: the last token of the subject.
    """

    ids: tuple[int, ...]
    start: int
    place: int = 0

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens of the answer."""
        return self.ids[self.start :]

    @property
    def asked(self) -> tuple[int, ...]:
        """The tokens of the prompt."""
        return self.ids[: self.start]

    @property
    def before_answer(self) -> list[int]:
        """The places whose next token is a token of the answer."""
        return list(range(self.start - 1, len(self.ids) - 1))


def row_of(model: Model, prompt: str, answer: str) -> Row:
    """Prompt and answer as tokens, the answer as the text really goes on.

    Raises:
        TaskError: the answer has no tokens.
    """
    asked = prompt_ids(model.tokenizer, prompt)
    written = spaced(prompt, answer)
    before, after = plain_ids(model.tokenizer, [prompt, prompt + written])
    continues = after[: len(before)] == before and len(after) > len(before)
    ids = after[len(before) :] if continues else plain_ids(model.tokenizer, [written])[0]
    if not ids or not asked:
        raise TaskError(f"{prompt + answer!r} has no tokens to score.", "Prompt and answer have a token at least.")
    return Row((*asked, *ids), len(asked))


def row_of_request(model: Model, request: EditRequest, answer: str | None = None) -> Row:
    """The row of a request, with the place of its subject.

    Raises:
        TaskError: no token covers the subject.
    """
    row = row_of(model, request.prompt, request.target if answer is None else answer)
    place = token_ends(model.tokenizer, request.prompt, [request.span])[0]
    if place is None:
        raise TaskError(f"no token covers the subject {request.subject!r} of {request.prompt!r}.")
    return Row(row.ids, row.start, min(place, row.start - 1))


@torch.no_grad()
def log_probabilities(model: Model, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """How likely the answers are.

    Returns:
        The log-probability of each whole answer [row], and the share of its tokens that are the model's first choice.
    """
    found, right = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.float64)
    for batch in in_batches([row.ids for row in rows]):
        stop_if_cancelled("scoring answers")
        logits = logits_at(model, [rows[i].ids for i in batch], [rows[i].before_answer for i in batch])
        for i, values in zip(batch, logits):
            answer = torch.tensor(rows[i].answer, device=values.device)
            found[i] = values.double().log_softmax(-1).gather(-1, answer[:, None]).sum()
            right[i] = (values.argmax(-1) == answer).double().mean()
    return found, right


@torch.no_grad()
def first_choices(model: Model, prompts: Sequence[Sequence[int]]) -> tuple[list[int], Tensor]:
    """The most likely next token of each prompt, and the log-probabilities of all of them [prompt, vocab]."""
    kept: dict[int, Tensor] = {}
    for batch in in_batches(prompts):
        stop_if_cancelled("reading predictions")
        logits = logits_at(model, [prompts[i] for i in batch], [[len(prompts[i]) - 1] for i in batch])
        kept |= {i: values[0].float().log_softmax(-1).cpu() for i, values in zip(batch, logits)}
    table = torch.stack([kept[i] for i in range(len(prompts))])
    return table.argmax(-1).tolist(), table
