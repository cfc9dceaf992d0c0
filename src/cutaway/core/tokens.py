"""Which tokens does a text become? Prompts, answers as their continuation, and words as token positions.

A model never sees characters, so three questions stand between a sentence and a measurement: which ids the
prompt has, which single id stands for an answer (the first token of the answer *as the text really goes on*),
and which token a named word ends on. They are asked of the model's own tokenizer, one way for all tokenizers.
Limits: an answer of several tokens is scored by its first one only. A tokenizer without offsets is asked for
the tokens of the text up to a word, which can be one token off where a token spans two words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Tokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    def __call__(self, text: Any, **options: Any) -> Any:
        """Texts to ids, and to character offsets where asked."""

    def decode(self, token_ids: Any, **options: Any) -> Any:
        """Ids to text."""

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """Ids to entries of the vocabulary."""


@dataclass(frozen=True)
class FirstToken:
    """The token that stands for an answer after its prompt.

    Attributes:
        answer: the answer as written.
        id: its first token; None when the tokenizer has nothing for it.
        length: of how many tokens the answer is.
        continues: True when prompt and answer together are the prompt's tokens and then the answer's. False
            when the tokenizer merges across the seam, and the tokens of the answer on its own were taken.
    """

    answer: str
    id: int | None
    length: int
    continues: bool


def prompt_ids(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """The ids of a prompt, with the special tokens that the tokenizer adds by itself."""
    return tuple(tokenizer(text)["input_ids"])


def plain_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts without special tokens around them."""
    return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def first_tokens(tokenizer: Tokenizer, prompt: str, answers: Sequence[str]) -> list[FirstToken]:
    """For each answer the token that a model would have to write first, after `prompt`.

    " Mary" after "… a drink to" is one token of most vocabularies; "45" after "… the year 17" is the token
    "4" where numbers are split into digits.
    """
    before, *after = plain_ids(tokenizer, [prompt, *(prompt + answer for answer in answers)])
    return [_first_token(tokenizer, before, ids, answer) for answer, ids in zip(answers, after, strict=True)]


def _first_token(tokenizer: Tokenizer, before: list[int], after: list[int], answer: str) -> FirstToken:
    continues = after[: len(before)] == before and len(after) > len(before)
    rest = after[len(before) :] if continues else plain_ids(tokenizer, [answer])[0]
    unknown = getattr(tokenizer, "unk_token_id", None)
    known = bool(rest) and (unknown is None or rest[0] != unknown)
    return FirstToken(answer, rest[0] if known else None, len(rest), continues)


def token_ends(tokenizer: Tokenizer, text: str, spans: Sequence[tuple[int, int]]) -> list[int | None]:
    """For each character span the index of the last token that overlaps it; None when no token does."""
    if not spans:
        return []
    if getattr(tokenizer, "is_fast", False):
        offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return [_last_overlapping(offsets, span) for span in spans]
    return [_by_prefix(tokenizer, text, end) for _, end in spans]


def _last_overlapping(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> int | None:
    start, end = span
    hits = [index for index, (first, last) in enumerate(offsets) if first < end and last > start]
    return hits[-1] if hits else None


def _by_prefix(tokenizer: Tokenizer, text: str, end: int) -> int | None:
    """The token on which `text[:end]` ends, by tokenising that much of the text."""
    full = list(prompt_ids(tokenizer, text))
    whole, part = plain_ids(tokenizer, [text, text[:end]])
    lead = next((i for i in range(len(full)) if full[i : i + len(whole)] == whole), None)
    if lead is None or not part:
        return None
    # Where the end cuts a token in two, the tokens agree up to it: that token is the one wanted.
    shared = first_difference(whole, part)
    inside = len(part) - 1 if shared is None or shared >= len(part) else shared
    return lead + min(inside, len(whole) - 1)


def first_difference(left: Sequence[int], right: Sequence[int]) -> int | None:
    """The first index at which two sequences differ, the end of one included; None when they are equal."""
    for index, (a, b) in enumerate(zip(left, right)):
        if a != b:
            return index
    return None if len(left) == len(right) else min(len(left), len(right))


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Each token as text, with the space that it stands for: " Mary", not "ĠMary" or "▁Mary"."""
    pieces = tokenizer.convert_ids_to_tokens(list(ids))
    texts = [str(tokenizer.decode([index], clean_up_tokenization_spaces=False)) for index in ids]
    return [_spaced(text, piece) for text, piece in zip(texts, pieces, strict=True)]


def _spaced(text: str, piece: object) -> str:
    starts_word = isinstance(piece, str) and piece.startswith(("▁", "Ġ"))
    return f" {text}" if starts_word and not text.startswith((" ", "\n")) else text
