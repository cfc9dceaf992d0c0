"""What is explained? One prediction at the end of a prompt, or every token of a text that continues it.

Without more being asked, the score of a prompt is its task's metric. Written as `generate=7`, or with a
`continuation`, each of the tokens that follow has a score of its own, given all tokens before it (teacher forcing).
The tokens that are explained are then those of the prompt and of the continuation, up to the one before the target.
What is scored of a token is a step function (`step_functions.py`). A `foil` is a text of as many tokens that each token
of the continuation is held against, after the same words.

In an encoder-decoder the tokens that are explained are those that the encoder reads and, behind them, those that the
decoder has said so far.

Limits: a metric that moves in steps (rank, accuracy) has no gradient, and a divergence from the model's own
prediction none that says anything; the log-probability of the answer is taken for them, and a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from cutaway.core.errors import MethodError, ParameterError
from cutaway.core.task import EncodedTask, Task
from cutaway.core.tokens import plain_ids
from cutaway.methods.attribute.step_functions import (
    DROPOUT,
    NAMES,
    NEEDS_REFERENCE,
    STEP_UNITS,
    Step,
    known_step,
    refuse_without,
    step_function,
    wide,
)
from cutaway.methods.control import enough
from cutaway.methods.scoring import UNITS, with_answers, words
from cutaway.methods.smooth import smooth_metric
from cutaway.models.metric import Metric, metric_of
from cutaway.models.model import Model
from cutaway.models.multigrad import Score, scores_of_targets

ScoreName = Annotated[
    str,
    Field(
        description="what is explained of a token: a step function, or the task's metric",
        json_schema_extra={"enum": list(NAMES)},
    ),
    AfterValidator(known_step),
]
Generate = Annotated[
    int, Field(ge=0, le=512, description="explain this many tokens that the model writes, not the answer")
]
Continuation = Annotated[str, Field(description="explain each token of this text, put after the prompts")]
Foil = Annotated[str, Field(description="a text of as many tokens that the continuation is held against")]
Share = Annotated[float, Field(gt=0, lt=1, description="share of the tokens that the check takes out")]
Controls = Annotated[
    int,
    Field(ge=0, description="random sets that the check compares with, 5 or more; 0: no check"),
    AfterValidator(enough),
]
Seed = Annotated[int, Field(ge=0, description="draws what is random")]


@dataclass(frozen=True, eq=False)
class Targets:
    """What is explained.

    Attributes:
        encoded: the task.
        ids: for each prompt the tokens whose part is asked for: the prompt, and the continuation up to its last token.
            In an encoder-decoder: what the encoder reads, and then what the decoder has said.
        positions: for each prompt and target the place whose logits are scored; it sees all up to there.
        tokens: for each prompt and target the token ids that are scored.
        words: for each prompt and target those tokens as text.
        score_name: what is scored: the metric's name, or `logit`, `log_probability`, `probability`.
        metric: the task's metric, where that is the score.
        notes: what a reader has to know.
        sources: how many tokens of each prompt the encoder reads; none in a network with one stack.
        foils: for each prompt and target the token that it is held against; empty where there are none.
        references: for each prompt log-probabilities in the other context [target, vocab]; empty where there are none.
    """

    encoded: EncodedTask
    ids: tuple[tuple[int, ...], ...]
    positions: tuple[tuple[int, ...], ...]
    tokens: tuple[tuple[tuple[int, ...], ...], ...]
    words: tuple[tuple[str, ...], ...]
    score_name: str
    metric: Metric | None
    notes: tuple[str, ...]
    sources: tuple[int, ...] = ()
    foils: tuple[tuple[int, ...], ...] = ()
    references: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unit(self) -> str:
        """Of the scores."""
        return STEP_UNITS.get(self.score_name, UNITS.get(self.score_name, self.score_name))

    @property
    def has_dropout(self) -> bool:
        """True when the score is a mean over passes with dropout."""
        return self.score_name == DROPOUT and self.metric is None

    def source(self, prompt: int) -> int:
        """How many tokens of a prompt the encoder reads: the part before what a decoder says."""
        return self.sources[prompt] if self.sources else 0

    @property
    def most(self) -> int:
        """The largest number of targets of a prompt."""
        return max(map(len, self.positions))

    def score(self, prompts: Sequence[int], wanted: Sequence[int] | None = None) -> Score:
        """The score as a function of logits [row, target, vocab] -> [row, target].

        Args:
            prompts: which prompt each row is.
            wanted: the targets whose logits are given; None for all of them.
        """
        if self.metric is not None:
            metric = self.metric.for_rows(prompts)
            return lambda logits: metric(logits[:, 0])[:, None]
        mine = list(range(len(self.positions[prompts[0]]))) if wanted is None else list(wanted)
        index, real = _padded([[self.tokens[prompt][target] for target in mine] for prompt in prompts])
        foils = torch.tensor([[self.foils[p][target] for target in mine] for p in prompts]) if self.foils else None
        there = torch.stack([self.references[prompt][mine] for prompt in prompts]) if self.references else None
        function = step_function(self.score_name)

        def score(logits: Tensor) -> Tensor:
            placed = (value if value is None else value.to(logits.device) for value in (foils, there))
            return function(Step(logits, index.to(logits.device), real.to(logits.device), *placed))

        return score

    def with_score(self, name: str) -> Targets:
        """The same targets, scored by another step function that needs nothing more."""
        return replace(self, score_name=name, metric=None)

    def groups(self) -> list[list[int]]:
        """Prompts that can share a pass: as long, with targets at the same places."""
        alike: dict[tuple[int, int, tuple[int, ...]], list[int]] = {}
        for prompt, ids in enumerate(self.ids):
            alike.setdefault((len(ids), self.source(prompt), self.positions[prompt]), []).append(prompt)
        return list(alike.values())

    def empty(self) -> NDArray[np.float64]:
        """An array [prompt, target, position] of numbers that are missing."""
        return np.full((len(self), self.most, max(map(len, self.ids))), np.nan)


def targets_of(
    model: Model, task: Task, score: str, generate: int = 0, continuation: str = "", foil: str = ""
) -> Targets:
    """What is to be explained.

    Args:
        model: the network.
        task: with answers; without, the model's own most likely next token is the answer.
        score: what is scored; `metric` is the task's own.
        generate: how many tokens to let the model write and explain, instead of the answer.
        continuation: a text whose tokens are explained instead.
        foil: a text of as many tokens that those are held against.
    """
    _refuse(model, generate, continuation, foil)
    encoded = task.encode(model.tokenizer)
    refuse_without(score, foil=bool(foil), contrast=bool(encoded.contrast_ids))
    if generate or continuation:
        found = _of_continuation(model, encoded, score, generate, continuation, foil)
    else:
        found = _of_answers(model, encoded, score)
    if model.anatomy.is_encoder_decoder:
        found = _behind_sources(model, found)
    if found.metric is None and found.score_name in NEEDS_REFERENCE:
        found = _with_references(model, found)
    return found


def _of_answers(model: Model, encoded: EncodedTask, score: str) -> Targets:
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


def _behind_sources(model: Model, targets: Targets) -> Targets:
    """The same targets where the prompt is read by the encoder, and the decoder begins with its start token."""
    said = model._decoder_prompts(None, 1)
    assert said is not None
    sources = tuple(map(len, targets.encoded.ids))
    ids = tuple(
        (*whole[:length], *said.ids[0], *whole[length:]) for whole, length in zip(targets.ids, sources, strict=True)
    )
    places = tuple(tuple(place + 1 for place in row) for row in targets.positions)
    return replace(targets, ids=ids, positions=places, sources=sources)


def _with_references(model: Model, targets: Targets) -> Targets:
    """With the log-probabilities of the same tokens in the other context: the contrast, or nothing at all."""
    found = []
    for prompt, ids in enumerate(targets.ids):
        before = list(targets.encoded.ids[prompt])
        if targets.score_name == "in_context_pvi":
            other = _nothing(model)
        else:
            other = list(targets.encoded.contrast_ids[prompt])
        shift = len(other) - len(before)
        source = targets.source(prompt) and len(other)
        rows = [[*other, *ids[len(before) :]]]
        places = [place + shift for place in targets.positions[prompt]]
        found.append(scores_of_targets(model, rows, places, lambda x: wide(x).log_softmax(-1), source=source)[0])
    return replace(targets, references=tuple(found))


def _nothing(model: Model) -> list[int]:
    """A context that says nothing: the token that begins or ends a text."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        found = getattr(model.tokenizer, name, None)
        if isinstance(found, int):
            return [found]
    raise ParameterError(
        f"the tokenizer of {model.name!r} has no token that begins or ends a text;",
        "in_context_pvi compares with a text that has nothing else.",
        "Use pcxmi, with a contrast of your own.",
    )


def _refuse(model: Model, generate: int, continuation: str, foil: str) -> None:
    if generate and continuation:
        raise ParameterError(
            f"generate is {generate} and continuation is {continuation!r};",
            "the text that is explained is either written by the model or given.",
            "Leave one of them out.",
        )
    if foil and not (generate or continuation):
        raise ParameterError(
            f"foil is {foil!r}, and there is no text that it takes the place of;",
            "a foil stands beside a continuation.",
            'Write continuation=" Mary" too.',
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


def _of_continuation(
    model: Model, encoded: EncodedTask, score: str, generate: int, continuation: str, foil: str
) -> Targets:
    added = _written(model, encoded, generate) if generate else _given(model, encoded, continuation)
    name, notes = (score, ()) if score != "metric" else ("log_probability", (_WHY_LOG,))
    others = _held_against(model, encoded, foil, added) if foil else []
    labels = [model.token_strings(new) for new in added]
    if foil:
        labels = [
            [f"{a} − {b}" for a, b in zip(row, model.token_strings(other), strict=True)]
            for row, other in zip(labels, others, strict=True)
        ]
    return Targets(
        encoded=encoded,
        ids=tuple((*ids, *new[:-1]) for ids, new in zip(encoded.ids, added)),
        positions=tuple(tuple(len(ids) - 1 + i for i in range(len(new))) for ids, new in zip(encoded.ids, added)),
        tokens=tuple(tuple((token,) for token in new) for new in added),
        words=tuple(map(tuple, labels)),
        score_name=name,
        metric=None,
        notes=(*encoded.notes, *notes),
        foils=tuple(map(tuple, others)),
    )


_WHY_LOG = "The task's metric is about its answer: of the tokens of a continuation the log-probability is explained."


def _written(model: Model, encoded: EncodedTask, count: int) -> list[list[int]]:
    written = model.generate(encoded, max_new_tokens=count)
    return [list(new) for new in written.new_ids]


def _held_against(model: Model, encoded: EncodedTask, foil: str, added: list[list[int]]) -> list[list[int]]:
    """The tokens of the foil, one for each token of the continuation."""
    others = _given(model, encoded, foil, "foil")
    for new, other in zip(added, others, strict=True):
        if len(new) != len(other):
            first, second = (" + ".join(map(repr, model.token_strings(row))) for row in (new, other))
            raise ParameterError(
                f"the continuation is {len(new)} tokens ({first}) and the foil {len(other)} ({second});",
                "each token of the continuation is held against one of the foil.",
                "Give texts of as many tokens; texts of other lengths are aligned by contrast_attributions.",
            )
    return others


def _given(model: Model, encoded: EncodedTask, continuation: str, called: str = "continuation") -> list[list[int]]:
    """The tokens that the continuation adds to each prompt."""
    if model.anatomy.is_encoder_decoder:
        return plain_ids(model.tokenizer, [continuation]) * len(encoded)
    before = plain_ids(model.tokenizer, encoded.prompts)
    after = plain_ids(model.tokenizer, [prompt + continuation for prompt in encoded.prompts])
    added = []
    for prompt, (start, whole) in enumerate(zip(before, after, strict=True)):
        if whole[: len(start)] != start or len(whole) == len(start):
            raise ParameterError(
                f"{called} is {continuation!r}, which changes the tokens of {encoded.prompts[prompt]!r};",
                "the tokens of a prompt stay the same when the text goes on.",
                f"Begin the {called} with a space, and do not end the prompt with one.",
            )
        added.append(whole[len(start) :])
    return added


def _padded(tokens: Sequence[Sequence[Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """Token ids [row, target, answer], and which of them are real."""
    most = max(len(answers) for row in tokens for answers in row)
    index = [[[*answers, *[answers[0]] * (most - len(answers))] for answers in row] for row in tokens]
    real = [[[place < len(answers) for place in range(most)] for answers in row] for row in tokens]
    return torch.tensor(index), torch.tensor(real)
