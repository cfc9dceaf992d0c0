"""What exactly is asked? A prompt, the answer to explain, and what it is held against.

The answer is the model's own next token unless one is named. It is held against the contrast prompt's own next token
where there is a contrast (if that is another one), and otherwise against the runner-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from cutaway.core.errors import ModelError, TaskError
from cutaway.core.task import Task
from cutaway.core.tokens import first_difference, first_tokens, prompt_ids
from cutaway.methods.labels import quoted

if TYPE_CHECKING:
    from cutaway.models.model import Model

LONGEST = 512


@dataclass(frozen=True)
class Question:
    """What is asked, with all that had to be decided.

    Attributes:
        prompt, contrast: the texts; contrast is "" where there is none.
        ids, tokens: of the prompt.
        contrast_tokens: of the contrast.
        answer, wrong: the token to explain and the one it is held against, as text and as ids.
        logits: at the end of the prompt [vocab].
        contrast_logits: at the end of the contrast [vocab], or None.
        notes: what a reader must know about these choices.
    """

    prompt: str
    contrast: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    contrast_tokens: tuple[str, ...]
    answer: str
    answer_id: int
    wrong: str
    wrong_id: int
    logits: Tensor
    contrast_logits: Tensor | None
    notes: tuple[str, ...]

    @property
    def task(self) -> Task:
        """The question as a task of one prompt."""
        return Task.from_prompts(
            [self.prompt],
            contrasts=[self.contrast] if self.contrast else None,
            answers=[self.answer],
            wrong=[self.wrong],
            metric="logit_difference",
            name="explain",
        )


def ask(model: Model, prompt: str, contrast: str | None, answer: str | None, limit: int = LONGEST) -> Question:
    """Decide what is asked; `TaskError` says what cannot be."""
    if not model.anatomy.has_unembedding or not model.anatomy.is_causal or model.anatomy.is_encoder_decoder:
        raise ModelError(
            f"{model.name} does not predict a next word.",
            "An explanation needs a causal language model.",
            'Open one: cutaway explain PROMPT --model smollm2, or read this one: cutaway check or model.run(read="...").',
        )
    ids = _ids(model, prompt, "prompt", limit)
    other = _ids(model, contrast, "contrast", limit) if contrast is not None else None
    if other is not None:
        _require_aligned(model, ids, other)
    run = model.run([ids] if other is None else [ids, other], logits="last")
    logits = run.last_logits[0].float()
    contrast_logits = run.last_logits[1].float() if other is not None else None
    notes: list[str] = []
    answer_id = _answer(model, prompt, answer, logits, notes)
    wrong_id = _wrong(model, answer_id, logits, contrast_logits, notes)
    texts = model.token_strings([answer_id, wrong_id])
    return Question(
        prompt,
        contrast or "",
        ids,
        tuple(model.token_strings(ids)),
        tuple(model.token_strings(other)) if other is not None else (),
        texts[0],
        answer_id,
        texts[1],
        wrong_id,
        logits,
        contrast_logits,
        tuple(notes),
    )


def _ids(model: Model, text: str, what: str, limit: int) -> tuple[int, ...]:
    if not text.strip():
        raise TaskError(
            f"The {what} is empty.",
            "It has one word or more.",
            'For example: cutaway explain "The capital of France is"',
        )
    ids = prompt_ids(model.tokenizer, text)
    longest = min(limit, getattr(model.anatomy.text_config, "max_position_embeddings", None) or limit)
    if len(ids) > longest:
        raise TaskError(
            f"The {what} has {len(ids)} tokens.",
            f"An explanation takes {longest} at most, since every token is tested by a run of its own.",
            "Keep its last sentences, or raise --limit up to what the model takes.",
        )
    if len(ids) < 2:
        raise TaskError(
            f"The {what} {text!r} is one token.",
            "There is nothing to compare in it.",
            "Write two words or more.",
        )
    return ids


def _require_aligned(model: Model, ids: Sequence[int], other: Sequence[int]) -> None:
    if list(ids) == list(other):
        raise TaskError("The contrast has the same tokens as the prompt.", "", "Change one word of it.")
    if len(ids) == len(other):
        return
    head = first_difference(ids, other) or 0
    tail = 0
    while tail < min(len(ids), len(other)) - head and ids[-1 - tail] == other[-1 - tail]:
        tail += 1
    ours, theirs = ("".join(model.token_strings(side[head : len(side) - tail])) for side in (ids, other))
    raise TaskError(
        f"The contrast has {len(other)} tokens and the prompt {len(ids)}; they part at token {head}, "
        f"where the prompt has {quoted(ours)} (tokens: {len(ids) - tail - head}) and the contrast {quoted(theirs)} "
        f"({len(other) - tail - head}).",
        "Values are put where the other prompt has theirs, so both must be equally long.",
        "Choose a word that is as many tokens.",
    )


def _answer(model: Model, prompt: str, answer: str | None, logits: Tensor, notes: list[str]) -> int:
    if answer is None:
        return int(logits.argmax())
    if not answer:
        raise TaskError("The answer is empty.", "It is the next word,", 'for example --answer " Mary".')
    token = first_tokens(model.tokenizer, prompt, [answer])[0]
    if token.id is None:
        raise TaskError(f"The answer {answer!r} has no token in this vocabulary.")
    text = model.token_strings([token.id])[0]
    if token.length > 1:
        notes.append(
            f"The answer {quoted(answer)} is {token.length} tokens; its first token {quoted(text)} is explained."
        )
    if not answer[0].isspace() and prompt[-1:].isalpha() and answer[0].isalpha():
        notes.append(f'The text goes on as “…{prompt[-12:]}{answer}”. Write --answer " {answer}" for a new word.')
    return token.id


def _wrong(model: Model, answer: int, logits: Tensor, contrast: Tensor | None, notes: list[str]) -> int:
    if contrast is not None and int(contrast.argmax()) != answer:
        return int(contrast.argmax())
    order = logits.argsort(descending=True)[:2].tolist()
    runner_up = order[1] if order[0] == answer else order[0]
    if contrast is not None:
        text, other = model.token_strings([answer, runner_up])
        notes.append(f"The contrast predicts {quoted(text)} too, so the answer is held against {quoted(other)}.")
    return int(runner_up)
