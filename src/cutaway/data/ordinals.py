"""Which words come one after another? Classes of ordinal words: days, months, letters, numbers.

Each class is a list in order; a word's successor is the next one. Tokenizers split some of the words: `single_tokens`
keeps those that are one token, with or without a leading space, and says how many are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutaway.core.tokens import Tokenizer, plain_ids
from cutaway.data.words import listed

CLASSES: Mapping[str, tuple[str, ...]] = {
    "days": listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "day prefixes": listed("Mon Tue Wed Thu Fri Sat Sun"),
    "months": listed("January February March April May June July August September October November December"),
    "month prefixes": listed("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"),
    "letters": tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "digits": tuple("0123456789"),
    "number words": listed(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen twenty"
    ),
    "ordinal words": listed("first second third fourth fifth sixth seventh eighth ninth tenth"),
}


@dataclass(frozen=True)
class OrdinalClass:
    """One class in the ids of a tokenizer.

    Attributes:
        name: what it is called.
        words: those that are one token, as they are written (with their leading space where they have one).
        tokens: their ids.
        rank: the place of each in the whole class: successors are one apart.
        dropped: words of the class that are several tokens.
    """

    name: str
    words: tuple[str, ...]
    tokens: tuple[int, ...]
    rank: tuple[int, ...]
    dropped: int

    @property
    def steps(self) -> tuple[tuple[int, int], ...]:
        """Pairs of token ids, each word with the one after it, where both are single tokens."""
        places = dict(zip(self.rank, self.tokens, strict=True))
        return tuple((token, places[rank + 1]) for rank, token in places.items() if rank + 1 in places)


def single_tokens(tokenizer: Tokenizer, classes: Mapping[str, Sequence[str]] = CLASSES) -> list[OrdinalClass]:
    """The classes in a tokenizer's ids; each is written with a leading space or without, as more of it is kept.

    Classes with fewer than two successive words are left out.
    """
    found = []
    for name, words in classes.items():
        spaced = _kept(tokenizer, name, [f" {word}" for word in words])
        plain = _kept(tokenizer, name, list(words))
        best = spaced if len(spaced.steps) >= len(plain.steps) else plain
        if best.steps:
            found.append(best)
    return found


def _kept(tokenizer: Tokenizer, name: str, words: Sequence[str]) -> OrdinalClass:
    unknown = getattr(tokenizer, "unk_token_id", None)
    ids = plain_ids(tokenizer, words)
    kept = [place for place, one in enumerate(ids) if len(one) == 1 and one[0] != unknown]
    return OrdinalClass(
        name,
        tuple(words[place] for place in kept),
        tuple(ids[place][0] for place in kept),
        tuple(kept),
        len(words) - len(kept),
    )
