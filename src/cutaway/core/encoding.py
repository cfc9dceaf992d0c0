"""A task as token ids: which of its prompts can be used with this tokenizer, and what is scored?

A prompt and its contrast are compared position by position, so a pair is used only where both have the same
number of tokens and every named word ends on the same token. A pair that does not align, or whose answer and
wrong answer begin with the same token, is dropped with a sentence that says why; nothing is dropped silently.
Limits: equal length and equal named positions do not prove that every other token has its counterpart. A
builder that changes several words names each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cutaway.core.errors import TaskError
from cutaway.core.tokens import (
    FirstToken,
    Tokenizer,
    first_difference,
    first_tokens,
    prompt_ids,
    token_ends,
    token_texts,
)

if TYPE_CHECKING:
    from cutaway.core.task import Spans, Task

_SHOWN = 3


@dataclass(frozen=True)
class Dropped:
    """A prompt that cannot be used with a tokenizer, and the sentence that says why."""

    index: int
    reason: str


@dataclass(frozen=True)
class EncodedTask:
    """A `Task` in the ids of one tokenizer. Everything but `task` is about the kept prompts, in their order.

    Attributes:
        task: the task that was encoded.
        kept: indices into `task.prompts`.
        dropped: the others, each with its reason.
        ids: per prompt its token ids, special tokens included.
        contrast_ids: per prompt the ids of its contrast, of the same length; empty if there are no contrasts.
        answer_ids: per prompt the first tokens of its answers, without repetitions; empty if it has none.
        wrong_ids: the same of the wrong answers.
        positions: per name a token index for every prompt. `end` is always there: the last token.
        notes: what a reader of the figures has to know, in sentences.
    """

    task: Task
    kept: tuple[int, ...]
    dropped: tuple[Dropped, ...]
    ids: tuple[tuple[int, ...], ...]
    contrast_ids: tuple[tuple[int, ...], ...]
    answer_ids: tuple[tuple[int, ...], ...]
    wrong_ids: tuple[tuple[int, ...], ...]
    positions: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The texts of the kept prompts."""
        return tuple(self.task.prompts[index] for index in self.kept)

    @property
    def summary(self) -> str:
        """How many prompts are used, and why the others are not, in a sentence or two."""
        if not self.dropped:
            return f"All {len(self)} prompts are used."
        return f"{len(self)} of {len(self.task)} prompts are used. {_reasons(self.dropped)}"

    def tokens(self, tokenizer: Tokenizer) -> list[list[str]]:
        """The tokens of every kept prompt as text."""
        return [token_texts(tokenizer, ids) for ids in self.ids]


@dataclass(frozen=True)
class _Pair:
    index: int
    ids: tuple[int, ...]
    contrast_ids: tuple[int, ...]
    answers: tuple[FirstToken, ...]
    wrong: tuple[FirstToken, ...]
    positions: Mapping[str, int]

    @property
    def shared(self) -> frozenset[int | None]:
        return frozenset(token.id for token in self.answers) & frozenset(token.id for token in self.wrong)


class _Unusable(Exception):  # noqa: N818 - a reason on its way to `Dropped`, seen by nobody else
    pass


def encode(task: Task, tokenizer: Tokenizer) -> EncodedTask:
    """The task in token ids; see `Task.encode`."""
    pairs: list[_Pair] = []
    dropped: list[Dropped] = []
    for index in range(len(task)):
        try:
            pairs.append(_pair(task, index, tokenizer))
        except _Unusable as reason:
            dropped.append(Dropped(index, str(reason)))
    if not pairs:
        raise _none_left(task, dropped)
    return EncodedTask(
        task=task,
        kept=tuple(pair.index for pair in pairs),
        dropped=tuple(dropped),
        ids=tuple(pair.ids for pair in pairs),
        contrast_ids=tuple(pair.contrast_ids for pair in pairs) if task.contrasts else (),
        answer_ids=tuple(_scored(pair.answers, pair.shared) for pair in pairs) if task.answers else (),
        wrong_ids=tuple(_scored(pair.wrong, pair.shared) for pair in pairs) if task.wrong else (),
        positions={name: tuple(p.positions[name] for p in pairs) for name in pairs[0].positions},
        notes=tuple(_notes(pairs, tokenizer, [task.prompts[pair.index] for pair in pairs])),
    )


def _pair(task: Task, index: int, tokenizer: Tokenizer) -> _Pair:
    prompt = task.prompts[index]
    ids = prompt_ids(tokenizer, prompt)
    if not ids:
        raise _Unusable("The prompt has no tokens.")
    positions = _token_positions(tokenizer, prompt, task.positions, index)
    contrast_ids: tuple[int, ...] = ()
    if task.contrasts:
        contrast = task.contrasts[index]
        contrast_ids = prompt_ids(tokenizer, contrast)
        _require_same_length(tokenizer, ids, contrast_ids)
        places = _token_positions(tokenizer, contrast, task.contrast_positions, index)
        _require_same_places(positions, places)
    answers = _answers(tokenizer, prompt, task.answers, index)
    wrong = _answers(tokenizer, prompt, task.wrong, index)
    pair = _Pair(index, ids, contrast_ids, answers, wrong, {"end": len(ids) - 1, **positions})
    _require_told_apart(tokenizer, pair)
    return pair


def _token_positions(tokenizer: Tokenizer, text: str, spans: Spans, index: int) -> dict[str, int]:
    places = token_ends(tokenizer, text, [spans[name][index] for name in spans])
    found: dict[str, int] = {}
    for name, place in zip(spans, places, strict=True):
        if place is None:
            start, end = spans[name][index]
            raise _Unusable(f"No token covers {name!r}, which is {text[start:end]!r}.")
        found[name] = place
    return found


def _answers(
    tokenizer: Tokenizer, prompt: str, answers: tuple[tuple[str, ...], ...], index: int
) -> tuple[FirstToken, ...]:
    found = first_tokens(tokenizer, prompt, answers[index]) if answers else []
    for token in found:
        if token.id is None:
            raise _Unusable(f"The answer {token.answer!r} has no token in this tokenizer.")
    return tuple(found)


def _require_same_length(tokenizer: Tokenizer, ids: Sequence[int], contrast_ids: Sequence[int]) -> None:
    if len(ids) == len(contrast_ids):
        return
    place = first_difference(ids, contrast_ids) or 0
    left, right = (_token_or_end(tokenizer, side, place) for side in (ids, contrast_ids))
    raise _Unusable(
        f"The prompt has {len(ids)} tokens and its contrast {len(contrast_ids)}; "
        f"they differ first at token {place} ({left} against {right})."
    )


def _token_or_end(tokenizer: Tokenizer, ids: Sequence[int], place: int) -> str:
    return repr(token_texts(tokenizer, [ids[place]])[0]) if place < len(ids) else "the end"


def _require_same_places(positions: Mapping[str, int], places: Mapping[str, int]) -> None:
    for name, place in places.items():
        if positions.get(name, place) != place:
            raise _Unusable(f"{name!r} is token {positions[name]} of the prompt and token {place} of its contrast.")


def _require_told_apart(tokenizer: Tokenizer, pair: _Pair) -> None:
    both_left = all(_scored(side, pair.shared) for side in (pair.answers, pair.wrong))
    if not pair.shared or both_left:
        return
    answer = next(token for token in pair.answers if token.id in pair.shared)
    wrong = next(token for token in pair.wrong if token.id == answer.id)
    raise _Unusable(
        f"The answer {answer.answer!r} and the wrong answer {wrong.answer!r} begin with the same token "
        f"{_text(tokenizer, answer)}, and without it nothing is left to compare."
    )


def _scored(tokens: Sequence[FirstToken], shared: frozenset[int | None]) -> tuple[int, ...]:
    ids = [token.id for token in tokens if token.id is not None and token.id not in shared]
    return tuple(dict.fromkeys(ids))


def _notes(pairs: Sequence[_Pair], tokenizer: Tokenizer, prompts: Sequence[str]) -> list[str]:
    tokens = {t: prompt for pair, prompt in zip(pairs, prompts) for t in (*pair.answers, *pair.wrong)}
    long = {t.answer: t for t in tokens if t.length > 1}
    joined = {t.answer: prompt for t, prompt in tokens.items() if t.continues and _joins(prompt, t.answer)}
    merged = {t.answer: prompt for t, prompt in tokens.items() if not t.continues}
    notes = [_long_note(long, tokenizer), _joined_note(joined), _merged_note(merged)]
    return [*filter(None, notes), *_pair_notes(pairs, tokenizer)]


def _long_note(long: Mapping[str, FirstToken], tokenizer: Tokenizer) -> str:
    if len(long) == 1:
        (token,) = long.values()
        first = _text(tokenizer, token)
        return f"Answer {token.answer!r} is {token.length} tokens; its first token {first} is scored."
    shown = [f"{token.answer!r} by {_text(tokenizer, token)}" for token in list(long.values())[:_SHOWN]]
    more = ", …" if len(long) > _SHOWN else ""
    scored = f"the first token of each is scored ({', '.join(shown)}{more})."
    return f"{len(long)} answers are more than one token; {scored}" if long else ""


def _joins(prompt: str, answer: str) -> bool:
    return not answer[0].isspace() and not prompt[-1].isspace()


def _joined_note(joined: Mapping[str, str]) -> str:
    """Answers without a leading space, each with a prompt that it was put after."""
    if not joined:
        return ""
    answer, prompt = next(iter(joined.items()))
    note = f"{_count(joined)} without a leading space: the text goes on as '…{_seam(prompt, answer)}'."
    two_words = prompt[-1].isalpha() and answer[0].isalpha()
    return f"{note} Write {' ' + answer!r} for a new word." if two_words else note


def _merged_note(merged: Mapping[str, str]) -> str:
    """Answers that the tokenizer merges with the end of the prompt."""
    if not merged:
        return ""
    answer, prompt = next(iter(merged.items()))
    note = (
        f"{_count(merged)} merged with the end of the prompt by this tokenizer ('…{_seam(prompt, answer)}'); "
        "the first token of the answer on its own is scored, which a model seldom writes there."
    )
    advice = " End the prompt before its last space and begin the answer with it."
    return note + advice if prompt[-1].isspace() else note


def _pair_notes(pairs: Sequence[_Pair], tokenizer: Tokenizer) -> list[str]:
    notes = []
    shared = [next(t for t in pair.answers if t.id in pair.shared) for pair in pairs if pair.shared]
    if shared:
        notes.append(
            f"In {len(shared)} of {len(pairs)} prompts an answer and a wrong answer begin with the same "
            f"token (such as {_text(tokenizer, shared[0])}); it is left out of both."
        )
    same = sum(pair.ids == pair.contrast_ids for pair in pairs)
    if same:
        notes.append(f"{same} of {len(pairs)} contrasts have the same tokens as their prompts.")
    return notes


def _seam(prompt: str, answer: str) -> str:
    return prompt[-12:] + answer


def _count(found: Mapping[str, str]) -> str:
    first = next(iter(found))
    return f"Answer {first!r} is" if len(found) == 1 else f"{len(found)} answers are"


def _text(tokenizer: Tokenizer, token: FirstToken) -> str:
    return repr(token_texts(tokenizer, [token.id])[0]) if token.id is not None else "''"


def _none_left(task: Task, dropped: Sequence[Dropped]) -> TaskError:
    return TaskError(
        f"none of the {len(task)} prompts of task {task.name!r} can be used with this tokenizer. {_reasons(dropped)}",
        "A prompt and its contrast need the same number of tokens, and an answer a first token of its own.",
        "Choose words that are as long in tokens (one common word for another), or leave out the contrasts.",
    )


def _reasons(dropped: Sequence[Dropped]) -> str:
    kinds = Counter(drop.reason for drop in dropped)
    first = {drop.reason: drop.index for drop in reversed(dropped)}
    shown = [
        f"Prompt {first[reason]}{f' and {count - 1} more' if count > 1 else ''}: {reason}"
        for reason, count in kinds.most_common(_SHOWN)
    ]
    rest = len(dropped) - sum(count for _, count in kinds.most_common(_SHOWN))
    return " ".join(shown) + (f" And {rest} more." if rest else "")
