"""Which tokens are words, and which are letters? The alphabet of a tokenizer.

A token counts as a word when it is made of the letters a to z alone, after the space that it may begin with. A letter's
tokens are those that are the letter and nothing else, large and small.
Limits: the Latin alphabet without accents, as the studies of spelling have it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.core.errors import TaskError
from cutaway.models.model import Model

LETTERS = string.ascii_uppercase
_WORD = re.compile(r" ?[A-Za-z]+")
_CONTINUES = re.compile(r"##[a-z]+")


@dataclass(frozen=True)
class WordToken:
    """A token that is a word or a part of one.

    Attributes:
        id: in the vocabulary.
        text: with the space that it begins with.
    """

    id: int
    text: str

    @property
    def letters(self) -> str:
        """How it is spelled, in capitals."""
        return self.text.strip().upper()

    @property
    def headless(self) -> bool:
        """True where it begins no word: it has no space before it."""
        return not self.text.startswith(" ")


def word_vocabulary(model: Model, shortest: int = 1) -> list[WordToken]:
    """The word tokens with as many letters or more, in the order of the vocabulary.

    Raises:
        TaskError: the model has no tokenizer, or no such token.
    """
    if model.tokenizer is None:
        raise TaskError(f"{model.name} has no tokenizer;", "letters are those of its tokens.", "Open one with it.")
    size = min(model.anatomy.vocab_size, len(model.tokenizer))
    special = set(getattr(model.tokenizer, "all_special_ids", ()) or ())
    pieces = model.tokenizer.convert_ids_to_tokens(list(range(size)))
    # WordPiece marks what goes on with a word, others what begins one; a few tokens "##…" are headings of Markdown.
    continues = sum(_CONTINUES.fullmatch(str(piece)) is not None for piece in pieces) > 0.02 * size
    found = []
    for index, piece in enumerate(pieces):
        text = _plain(str(piece), continues)
        if index not in special and _WORD.fullmatch(text) and len(text.strip()) >= shortest:
            found.append(WordToken(index, text))
    if not found:
        raise TaskError(
            f"no token of {model.name} is made of {shortest} or more of the letters a to z;",
            "its spelling is asked for in them.",
        )
    return found


def _plain(piece: str, continues: bool) -> str:
    if continues:
        return piece[2:] if piece.startswith("##") else f" {piece}"
    return piece.replace("Ġ", " ").replace("▁", " ")


def letter_ids(model: Model) -> dict[str, tuple[int, ...]]:
    """For each letter the tokens that are this letter alone, the capital one first.

    Raises:
        TaskError: the vocabulary has no token for one of the letters.
    """
    table: dict[str, list[int]] = {letter: [] for letter in LETTERS}
    for token in word_vocabulary(model):
        if len(token.text) == 1:
            capital = token.text.isupper()
            table[token.letters].insert(0 if capital else len(table[token.letters]), token.id)
    missing = [letter for letter, ids in table.items() if not ids]
    if missing:
        raise TaskError(
            f"{model.name} has no token for {', '.join(missing)};",
            "a word is spelled with a token for each letter.",
        )
    return {letter: tuple(ids) for letter, ids in table.items()}


def drawn_tokens(tokens: Sequence[WordToken], n: int, seed: int) -> list[WordToken]:
    """`n` of the tokens, or all of them, drawn with the seed."""
    order = np.random.default_rng(seed).permutation(len(tokens))[:n]
    return [tokens[int(index)] for index in order]
