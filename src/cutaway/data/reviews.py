"""Which sentences come with a feeling? Short film reviews that are for or against.

`made` are sentences written for the project. `sst` is the development part of the Stanford Sentiment Treebank [@socher2013],
whole sentences without the neutral ones, which the project does not carry: it is looked for where the environment variable
`CUTAWAY_SST` says. Any other name is the path of a `.csv` file with the columns `label` (1 for, 0 against) and
`sentence`, or of a folder with one.
Limits: the sentences that were written for the project are plainer than reviewers', so figures on them are figures on them.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cutaway.core.errors import TaskError, nearest

SST = "https://github.com/openai/generating-reviews-discovering-sentiment"  # terms of the treebank itself: for research
SST_DEV = (
    "https://raw.githubusercontent.com/openai/generating-reviews-discovering-sentiment/master/data/dev_binary_sent.csv"
)
PLACE = "CUTAWAY_SST"
COLUMNS = ("label", "sentence")


@dataclass(frozen=True)
class Review:
    """A sentence and which way it leans.

    Attributes:
        text: the sentence.
        positive: whether it speaks for the film.
    """

    text: str
    positive: bool

    @property
    def words(self) -> tuple[str, ...]:
        """What stands between spaces; commas and full stops belong to the word before them."""
        return tuple(self.text.split())


_FOR = (
    "A warm and funny film that never loses its way.",
    "The two leads are wonderful together, and the music is lovely.",
    "I laughed, I cried, and I would gladly see it again.",
    "Clever, quick and full of small delights.",
    "It is slow at first but grows into something truly moving.",
    "A beautiful story, told with patience and great care.",
    "The best comedy of the year by a long way.",
    "Not a single scene is wasted in this fine thriller.",
)
_AGAINST = (
    "A dull and noisy film that goes nowhere.",
    "The jokes are stale, and the plot makes no sense.",
    "I looked at my watch more often than at the screen.",
    "Loud, lazy and far too long.",
    "It starts well but soon becomes a tiresome mess.",
    "A silly story, told without any feeling for its people.",
    "The worst acting that I have seen in years.",
    "Not even the splendid costumes can save this dreary drama.",
)
MADE = tuple(Review(text, positive) for pair in zip(_FOR, _AGAINST) for text, positive in zip(pair, (True, False)))


def reviews(name: str, n: int | None, seed: int = 0, *, shortest: int = 1, longest: int = 60) -> tuple[Review, ...]:
    """Reviews with their labels.

    Args:
        name: `made`, `sst`, or the path of a `.csv` file.
        n: how many, drawn with the seed; all when None. Where there are fewer, all there are.
        seed: draws the reviews.
        shortest, longest: reviews with fewer or more words are left out.

    Raises:
        TaskError: there are no such reviews.
    """
    found = MADE if name == "made" else read_reviews(reviews_path(name))
    every = [review for review in found if shortest <= len(review.words) <= longest]
    if not every:
        raise TaskError(
            f"none of the {len(found)} reviews of {name!r} has {shortest} to {longest} words;",
            f"they have {min(len(each.words) for each in found)} to {max(len(each.words) for each in found)}.",
            "Write other limits.",
        )
    if n is None or n >= len(every):
        return tuple(every)
    order = np.random.default_rng(seed).permutation(len(every))[:n]
    return tuple(every[int(index)] for index in sorted(order))


def read_reviews(path: str | Path) -> tuple[Review, ...]:
    """The reviews of a file.

    Args:
        path: a `.csv` file in UTF-8 with the columns `label` and `sentence`; other columns are passed over.

    Raises:
        TaskError: the file is absent or no such table, or a row of it does not fit; with the number of its line.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return parse_reviews(lines, path.name)
    except (OSError, UnicodeDecodeError) as error:
        reason = f"it is not UTF-8 ({error.reason})" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise TaskError(
            f"the reviews {str(path)!r} cannot be read: {reason};",
            "reviews are a .csv file with the columns label and sentence.",
            f"Those of the Stanford Sentiment Treebank are at {SST}.",
        ) from error


def parse_reviews(lines: Iterable[str], name: str = "the table") -> tuple[Review, ...]:
    """The reviews of a table.

    Args:
        lines: of a CSV file, the first with the names of the columns.
        name: how messages call it.

    Raises:
        TaskError: a table without these columns or without rows, or a row that does not fit.
    """
    table = csv.DictReader(lines)
    given = table.fieldnames or []
    if missing := [column for column in COLUMNS if column not in given]:
        raise TaskError(
            f"{name} has no column {missing[0]!r};",
            f"it has {', '.join(map(repr, given)) or 'none'}. " + (nearest(missing[0], given) if given else ""),
            "Write label,sentence into its first line.",
        )
    found = []
    for row in table:
        label, text = (row["label"] or "").strip(), (row["sentence"] or "").strip()
        if label not in ("0", "1") or not text:
            raise TaskError(
                f"{name}, line {table.line_num}: the label is {label!r} and the sentence {_short(text)!r};",
                "a label is 1 (for) or 0 (against), and a sentence has words.",
                "Leave the row out, or put quotes around a sentence with commas in it.",
            )
        found.append(Review(text, label == "1"))
    if not found:
        raise TaskError(f"{name} has no reviews;", "below its first line stands a review a line.")
    return tuple(found)


def reviews_path(name: str) -> Path:
    """The file of reviews that are not made.

    Raises:
        TaskError: it is not there.
    """
    place = os.environ.get(PLACE, "") if name == "sst" else name
    if name == "sst" and not place:
        raise TaskError(
            f"the reviews 'sst' were asked for, and {PLACE} does not say where they are;",
            f"they are a file, or a folder with a .csv file. They are at {SST} (for research).",
            f"Fetch {SST_DEV} and set {PLACE} to the file, or take the reviews 'made'.",
        )
    path = Path(place)
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise TaskError(
            f"there are no reviews {name!r}" + (f" at {place!r};" if place != name else ";"),
            "reviews are 'made', 'sst', or the path of a .csv file or of a folder with one.",
            "Write 'made' for the sentences that come with cutaway.",
        )
    dev = [file for file in files if file.stem.startswith("dev")]
    if len(files) > 1 and len(dev) != 1:
        raise TaskError(
            f"{place!r} has {len(files)} .csv files;",
            "one of them is meant.",
            f"Write the path of the file, such as {files[0].name}.",
        )
    return dev[0] if dev else files[0]


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
