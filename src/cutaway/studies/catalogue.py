"""Which papers, articles, tools and groups are on the public list of language-model interpretability?

Facts alone stand here: what a paper is called, where it is, what it asks, which methods its study uses. What has become
of it is told by the registry and the records (`report`), never written by hand. Links of the list that lead
elsewhere are put right, and the list's own link is kept beside.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cutaway.core.errors import MethodError, nearest

_FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Paper:
    """A paper or article of the list.

    Attributes:
        item: its number in the list: P1 to P43, A1 to A10.
        key: citation key.
        title: as printed.
        authors: initials and family names; of long lists the first ones and "et al.".
        year: of its first version.
        link: where it is.
        question: what it asks, in one line.
        methods: names of the methods that its study uses; some are still to come.
        listed: the link in the list, where that leads elsewhere.
        also: another place where it can be read.
        same: the item that is the same paper.
        note: what a reader must know of the entry.
    """

    item: str
    key: str
    title: str
    authors: str
    year: int
    link: str
    question: str
    methods: tuple[str, ...]
    listed: str = ""
    also: str = ""
    same: str = ""
    note: str = ""


@dataclass(frozen=True)
class Neighbour:
    """A tool or a group of the list."""

    item: str
    title: str
    link: str
    about: str


def papers() -> tuple[Paper, ...]:
    """All papers and articles, in the order of the list."""
    return _read()[0]


def tools() -> tuple[Neighbour, ...]:
    """All tools of the list."""
    return _read()[1]


def groups() -> tuple[Neighbour, ...]:
    """All groups of the list."""
    return _read()[2]


def paper(item: str) -> Paper:
    """The paper with this number.

    Raises:
        MethodError: there is none.
    """
    known = {each.item: each for each in papers()}
    if item not in known:
        raise MethodError(
            f"there is no item {item!r} on the list;", nearest(item, known), "Write P1 to P43, A1 to A10."
        )
    return known[item]


@lru_cache(maxsize=1)
def _read() -> tuple[tuple[Paper, ...], tuple[Neighbour, ...], tuple[Neighbour, ...]]:
    content = json.loads(_FILE.read_text(encoding="utf-8"))
    found = tuple(Paper(**{**entry, "methods": tuple(entry["methods"])}) for entry in content["papers"])
    return found, *(tuple(Neighbour(**entry) for entry in content[kind]) for kind in ("tools", "groups"))  # type: ignore[return-value]
