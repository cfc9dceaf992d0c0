"""What is explained? One prediction at the end of a prompt, or every token of a text that continues it.

Without more being asked, the score of a prompt is its task's metric. Written as `generate=7`, or with a
`continuation`, each of the tokens that follow has a score of its own, given all tokens before it (teacher forcing).
The tokens that are explained are then those of the prompt and of the continuation, up to the one before the target.

Limits: a metric that moves in steps (rank, accuracy) has no gradient, and a divergence from the model's own
prediction none that says anything; the log-probability of the answer is taken for them, and a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.errors import MethodError, ParameterError
from cutaway.core.task import EncodedTask, Task
from cutaway.core.tokens import plain_ids
from cutaway.methods.scoring import UNITS, with_answers, words
from cutaway.methods.smooth import smooth_metric
from cutaway.models.metric import Metric, metric_of
from cutaway.models.model import Model
from cutaway.models.multigrad import Score

ScoreName = Literal["metric", "logit", "log_probability", "probability"]


@dataclass(frozen=True, eq=False)
class Targets:
    """What is explained.

    Attributes:
        encoded: the task.
        ids: for each prompt the tokens whose part is asked for: the prompt, and the continuation up to its last token.
        positions: for each prompt and target the place whose logits are scored.
        tokens: for each prompt and target the token ids that are scored.
        words: for each prompt and target those tokens as text.
        score_name: what is scored: the metric's name, or `logit`, `log_probability`, `probability`.
        metric: the task's metric, where that is the score.
        notes: what a reader has to know.
    """

    encoded: EncodedTask
    ids: tuple[tuple[int, ...], ...]
    positions: tuple[tuple[int, ...], ...]
    tokens: tuple[tuple[tuple[int, ...], ...], ...]
    words: tuple[tuple[str, ...], ...]
    score_name: str
    metric: Metric | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unit(self) -> str:
        """Of the scores."""
        return "logits" if self.score_name == "logit" else UNITS.get(self.score_name, self.score_name)

    @property
    def most(self) -> int:
        """The largest number of targets of a prompt."""
        return max(map(len, self.positions))

    def score(self, prompts: Sequence[int], only: int | None = None) -> Score:
        """The score as a function of logits [row, target, vocab] -> [row, target].

        Args:
            prompts: which prompt each row is.
            only: the one target whose logits are given; None for all of them.
        """
        if self.metric is not None:
            metric = self.metric.for_rows(prompts)
            return lambda logits: metric(logits[:, 0])[:, None]
        every = slice(None) if only is None else slice(only, only + 1)
        index, real = _padded([self.tokens[prompt][every] for prompt in prompts])
        return lambda logits: _scored(logits, index.to(logits.device), real.to(logits.device), self.score_name)

    def groups(self) -> list[list[int]]:
        """Prompts that can share a pass: as long, with targets at the same places."""
        alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for prompt, ids in enumerate(self.ids):
            alike.setdefault((len(ids), self.positions[prompt]), []).append(prompt)
        return list(alike.values())

    def empty(self) -> NDArray[np.float64]:
        """An array [prompt, target, position] of numbers that are missing."""
        return np.full((len(self), self.most, max(map(len, self.ids))), np.nan)


def targets_of(model: Model, task: Task, score: ScoreName, generate: int = 0, continuation: str = "") -> Targets:
    """What is to be explained.

    Args:
        model: the network.
        task: with answers; without, the model's own most likely next token is the answer.
        score: what is scored; `metric` is the task's own.
        generate: how many tokens to let the model write and explain, instead of the answer.
        continuation: a text whose tokens are explained instead.
    """
    _refuse(model, generate, continuation)
    encoded = task.encode(model.tokenizer)
    if generate or continuation:
        return _of_continuation(model, encoded, score, generate, continuation)
    encoded, notes = with_answers(model, encoded)
    name, said = smooth_metric(encoded) if score == "metric" else (score, ())
    return Targets(
        encoded=encoded,
        ids=encoded.ids,
        positions=tuple((len(ids) - 1,) for ids in encoded.ids),
        tokens=tuple((answers,) for answers in encoded.answer_ids),
        words=tuple((_label(model, encoded, prompt, name),) for prompt in range(len(encoded))),
        score_name=name,
        metric=metric_of(encoded, name) if score == "metric" else None,
        notes=(*encoded.notes, *notes, *said),
    )


def _refuse(model: Model, generate: int, continuation: str) -> None:
    if model.anatomy.is_encoder_decoder:
        raise MethodError(
            f"{model.name!r} reads one text and writes another;",
            "attribution to tokens needs a model that continues the text it reads.",
            "Open a causal language model, such as smollm2.",
        )
    if generate and continuation:
        raise ParameterError(
            f"generate is {generate} and continuation is {continuation!r};",
            "the text that is explained is either written by the model or given.",
            "Leave one of them out.",
        )
    if (generate or continuation) and not model.anatomy.is_causal:
        raise MethodError(
            f"{model.name!r} sees the whole text at once and does not write on;",
            "generate and continuation need a causal model.",
            "Leave them out.",
        )


def _label(model: Model, encoded: EncodedTask, prompt: int, name: str) -> str:
    right = _phrase(model, encoded.answer_ids[prompt])
    if name in ("logit_difference", "probability_difference") and any(encoded.wrong_ids):
        return f"{right} − {_phrase(model, encoded.wrong_ids[prompt])}"
    return right


def _phrase(model: Model, ids: Sequence[int]) -> str:
    return model.token_strings(ids)[0] if len(ids) == 1 else words(model, ids)


def _of_continuation(model: Model, encoded: EncodedTask, score: ScoreName, generate: int, continuation: str) -> Targets:
    added = _written(model, encoded, generate) if generate else _given(model, encoded, continuation)
    name, notes = (score, ()) if score != "metric" else ("log_probability", (_WHY_LOG,))
    return Targets(
        encoded=encoded,
        ids=tuple((*ids, *new[:-1]) for ids, new in zip(encoded.ids, added)),
        positions=tuple(tuple(len(ids) - 1 + i for i in range(len(new))) for ids, new in zip(encoded.ids, added)),
        tokens=tuple(tuple((token,) for token in new) for new in added),
        words=tuple(tuple(model.token_strings(new)) for new in added),
        score_name=name,
        metric=None,
        notes=(*encoded.notes, *notes),
    )


_WHY_LOG = "The task's metric is about its answer: of the tokens of a continuation the log-probability is explained."


def _written(model: Model, encoded: EncodedTask, count: int) -> list[list[int]]:
    written = model.generate(encoded, max_new_tokens=count)
    return [list(new) for new in written.new_ids]


def _given(model: Model, encoded: EncodedTask, continuation: str) -> list[list[int]]:
    """The tokens that the continuation adds to each prompt."""
    before = plain_ids(model.tokenizer, encoded.prompts)
    after = plain_ids(model.tokenizer, [prompt + continuation for prompt in encoded.prompts])
    added = []
    for prompt, (start, whole) in enumerate(zip(before, after, strict=True)):
        if whole[: len(start)] != start or len(whole) == len(start):
            raise ParameterError(
                f"continuation is {continuation!r}, which changes the tokens of {encoded.prompts[prompt]!r};",
                "the tokens of a prompt stay the same when the text goes on.",
                "Begin the continuation with a space, and do not end the prompt with one.",
            )
        added.append(whole[len(start) :])
    return added


def _padded(tokens: Sequence[Sequence[Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """Token ids [row, target, answer], and which of them are real."""
    most = max(len(answers) for row in tokens for answers in row)
    index = [[[*answers, *[answers[0]] * (most - len(answers))] for answers in row] for row in tokens]
    real = [[[place < len(answers) for place in range(most)] for answers in row] for row in tokens]
    return torch.tensor(index), torch.tensor(real)


def _scored(logits: Tensor, index: Tensor, real: Tensor, name: str) -> Tensor:
    """One score for each row and target: several answers count as their mean logit, or by their joint probability."""
    found = logits.gather(-1, index)
    if name == "logit":
        return (found * real).sum(-1) / real.sum(-1)
    wide = found if found.dtype == torch.float64 else found.float()
    whole = logits.to(wide.dtype).logsumexp(-1)
    log_probability = wide.masked_fill(~real, -torch.inf).logsumexp(-1) - whole
    return log_probability.exp() if name == "probability" else log_probability
