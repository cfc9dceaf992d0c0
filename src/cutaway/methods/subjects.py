"""Which tokens are the subject of a prompt, and what noise do they get?

A task names its subject as a word (`positions`); here it becomes a range of tokens, and every position gets a place in
relation to it, so that prompts of different lengths can be averaged: the first, middle and last token of the subject,
the first token after it, further ones, and the last of the prompt. Each position has one place: the only token of a
subject is its last.

Noise is measured in standard deviations of the embeddings of the subjects' tokens [@meng2022].
Limits: a subject is one range of neighbouring tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.errors import TaskError, nearest
from cutaway.core.task import EncodedTask
from cutaway.core.tokens import token_ends
from cutaway.models.model import Model

PLACES = (
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "first token after",
    "further tokens",
    "last token",
)
LAST_SUBJECT = PLACES[2]
Distribution = Literal["normal", "uniform"]


@dataclass(frozen=True)
class Subjects:
    """The tokens of each prompt's subject.

    Attributes:
        name: the named word that they are; empty where the task names none.
        spans: per prompt the index of its first token, and that after its last.
        notes: what a reader must know.
    """

    name: str
    spans: tuple[tuple[int, int], ...]
    notes: tuple[str, ...] = ()

    def places(self, prompt: int, length: int) -> dict[str, list[int]]:
        """The positions at each place, of a prompt of so many tokens; none before the subject."""
        start, stop = self.spans[prompt]
        found: dict[str, list[int]] = {name: [] for name in PLACES}
        for position in range(start, length):
            found[_place(position, start, stop, length)].append(position)
        return found


def _place(position: int, start: int, stop: int, length: int) -> str:
    first, middle, last, after, further, end = PLACES
    if position < stop:
        return last if position == stop - 1 else first if position == start else middle
    if position == length - 1:
        return end
    return after if position == stop else further


def subjects_of(model: Model, encoded: EncodedTask, name: str = "") -> Subjects:
    """The subject's tokens in each prompt.

    Args:
        model: whose tokenizer it is.
        encoded: the task.
        name: a named word of the task; empty: `subject` where there is one, the first named word, or else every token
            but special ones and the last.

    Raises:
        TaskError: the task has no such word, or a subject is the last token of its prompt.
    """
    named = list(encoded.task.positions)
    if name and name not in named:
        raise TaskError(
            f"the task {encoded.task.name!r} names no word {name!r};",
            nearest(name, named) if named else "it names no words at all.",
            "Give the task positions={'subject': ...}, or leave subject out.",
        )
    chosen = name or ("subject" if "subject" in named else next(iter(named), ""))
    if not chosen:
        return _everything(model, encoded)
    spans = tuple(_span(model, encoded, chosen, place) for place in range(len(encoded)))
    for place, (_, stop) in enumerate(spans):
        if stop >= len(encoded.ids[place]):
            raise TaskError(
                f"{chosen!r} ends prompt {encoded.kept[place]} of the task {encoded.task.name!r};",
                "the answer is read off a token after the subject.",
                "Write prompts that go on after the subject.",
            )
    said = () if chosen == "subject" else (f"The task has no “subject”: its word “{chosen}” is taken for it.",)
    return Subjects(chosen, spans, () if name else said)


def _span(model: Model, encoded: EncodedTask, name: str, place: int) -> tuple[int, int]:
    text = encoded.prompts[place]
    start, end = encoded.task.positions[name][encoded.kept[place]]
    first, last = token_ends(model.tokenizer, text, [(start, start + 1), (start, end)])
    assert first is not None and last is not None  # encoding drops prompts without a token for a word
    return first, last + 1


def _everything(model: Model, encoded: EncodedTask) -> Subjects:
    special = set(getattr(model.tokenizer, "all_special_ids", ()))
    spans = []
    for prompt, ids in enumerate(encoded.ids):
        first = next((index for index, token in enumerate(ids) if token not in special), 0)
        if first >= len(ids) - 1:
            raise TaskError(
                f"prompt {encoded.kept[prompt]} has no token before its last;",
                "the answer is read off a token after the subject.",
                "Write a longer prompt.",
            )
        spans.append((first, len(ids) - 1))
    said = "The task names no word: every token but special ones and the last is taken for the subject."
    return Subjects("", tuple(spans), (said,))


def embedding_deviation(model: Model, encoded: EncodedTask, subjects: Subjects) -> float:
    """The standard deviation of all numbers in the embeddings of the subjects' tokens, each subject counted once."""
    embedded = model.run(encoded, read="embed", logits="none")["embed"]
    distinct: dict[tuple[int, ...], Tensor] = {}
    for prompt, (start, stop) in enumerate(subjects.spans):
        distinct.setdefault(tuple(encoded.ids[prompt][start:stop]), embedded[prompt, start:stop])
    return float(torch.cat([value.double().flatten() for value in distinct.values()]).std())


def noise_for(
    model: Model,
    length: int,
    span: tuple[int, int],
    size: float,
    *,
    samples: int,
    distribution: Distribution,
    seed: Sequence[int],
) -> Float[Tensor, "sample position d_model"]:
    """Noise on a subject's tokens, zero elsewhere.

    Args:
        model: for its width, type and device.
        length: tokens of the prompt.
        span: the subject's tokens.
        size: standard deviation of normal noise, half the width of uniform noise.
        samples: how many.
        distribution: which noise.
        seed: numbers with which it is drawn, such as a seed and the index of a prompt.
    """
    start, stop = span
    random = np.random.default_rng(list(seed))
    shape = (samples, stop - start, model.anatomy.d_model)
    drawn = random.standard_normal(shape) if distribution == "normal" else random.uniform(-1.0, 1.0, shape)
    noise = torch.zeros(samples, length, model.anatomy.d_model, dtype=model.dtype, device=model.device)
    noise[:, start:stop] = torch.from_numpy(drawn * size).to(noise)
    return noise
