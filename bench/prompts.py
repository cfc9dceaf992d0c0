"""What every side is asked: fixed texts and pairs of texts, as the same token ids everywhere.

Sides that take ids get ids. Sides that read texts check that their own tokenizer gives those ids. Texts of a
given length are the end of one fixed story, followed by the indirect-object sentence of the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SENTENCE = "When Mary and John went to the store, John gave a drink to"
CONTRAST = "When Mary and John went to the store, Mary gave a drink to"
ANSWER, WRONG = " Mary", " John"
OTHER_START = "While"

STORY = """The harbour of the small town had been quiet all winter. Fishing boats lay upside down on the
stones, their paint peeling, and the wind carried sand across the empty road. In the house at the end of the
pier an old clockmaker kept his workshop. He had come from the city many years ago, bringing with him three
crates of tools, a box of springs sorted by size, and a large brass clock that nobody had ever heard strike.
People said that it was broken. The clockmaker said only that it was waiting. In the mornings he drank his tea
by the window and watched the gulls; in the afternoons he repaired what the neighbours brought him: watches,
kettles, radios, once a music box whose cylinder had lost half of its pins. He charged little and forgot to
write the bills. Children liked to sit on the bench beside his door, because he would explain how a thing
worked while he took it apart, laying every screw on a white cloth in the order in which it had come out, so
that it could go back the same way. When spring came the ferry began to run again, and with it came visitors,
letters, and oranges. One of the visitors was a woman who studied tides. She rented the room above the bakery,
set up her instruments on the sea wall, and filled one notebook after another with columns of figures. She
measured the height of the water every hour, the direction of the wind, and the pressure of the air. After a
month she went to the clockmaker with a question. Her best chronometer was losing four seconds a day, and she
could not find out why. He held it to his ear, smiled, and asked her to leave it with him until Friday. On
Friday it kept perfect time, and lying beside it on the white cloth was a curved grain of sand, so small that
she needed her lens to see it. From that day they worked together. She taught him to read the charts, and he
built for her a machine of wheels and wires that drew the tide as a long blue line on a roll of paper. The
line rose and fell, week after week, and when they laid the rolls side by side on the floor of the town hall
the whole year was there to see. The council bought the machine, the school copied it, and the newspaper
printed a picture of both of them standing next to it in the rain. In autumn the brass clock struck for the
first time. Nobody knew what had changed. Everyone in the bakery stopped talking and counted, and afterwards
they agreed that it had struck eleven, although it was only a quarter past four. Later that week there was a
market by the water. """


@dataclass(frozen=True)
class Pair:
    """Two prompts of equal length: `source` is answered by `answer`, `base` by `wrong`.

    Values are carried from the source run into the base run: the denoising direction.
    """

    name: str
    source: str
    base: str
    source_ids: tuple[int, ...]
    base_ids: tuple[int, ...]
    answer: int
    wrong: int

    @property
    def arguments(self) -> dict[str, Any]:
        """What a side that takes ids is given."""
        return {
            "base": list(self.base_ids),
            "source": list(self.source_ids),
            "answer": self.answer,
            "wrong": self.wrong,
        }


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a text, as transformers gives them by default."""
    return list(tokenizer(text).input_ids)


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """A text whose token ids are exactly these.

    Raises:
        ValueError: the text made from the ids reads as other ids.
    """
    text = str(tokenizer.decode(list(ids)))
    if ids_of(tokenizer, text) != list(ids):
        raise ValueError(f"The text of {len(ids)} tokens that begins {text[:40]!r} reads as other tokens.")
    return text


def single(tokenizer: Any, text: str) -> int:
    """The id of a text that is one token."""
    ids = ids_of(tokenizer, text)
    if len(ids) != 1:
        raise ValueError(f"{text!r} is {len(ids)} tokens, not one.")
    return ids[0]


def story(tokenizer: Any, length: int) -> list[int]:
    """The last `length` tokens of the story and the sentence."""
    ids = ids_of(tokenizer, " ".join(STORY.split()) + " " + SENTENCE)
    if length > len(ids):
        raise ValueError(f"The story has {len(ids)} tokens, not {length}.")
    return ids[-length:]


def pair(tokenizer: Any, length: int | None = None, *, from_start: bool = False) -> Pair:
    """The indirect-object pair, alone or at the end of the story.

    Args:
        tokenizer: the model's.
        length: number of tokens; None for the sentence alone.
        from_start: also let the first token differ: then no position is equal after layer 0.
    """
    alone = ids_of(tokenizer, SENTENCE)
    source = alone if length is None else story(tokenizer, length)
    contrast = ids_of(tokenizer, CONTRAST)
    changed = [index for index, (a, b) in enumerate(zip(alone, contrast, strict=True)) if a != b]
    base = list(source)
    for index in changed:
        base[len(base) - len(alone) + index] = contrast[index]
    if from_start:
        base[0] = single(tokenizer, OTHER_START)
    return Pair(
        name=f"{len(source)} tokens" + (", differing from the first token on" if from_start else ""),
        source=text_of(tokenizer, source),
        base=text_of(tokenizer, base),
        source_ids=tuple(source),
        base_ids=tuple(base),
        answer=single(tokenizer, ANSWER),
        wrong=single(tokenizer, WRONG),
    )
