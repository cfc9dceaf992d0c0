"""Which sentences come with their trees? The project's own, or a treebank of Universal Dependencies.

`made` are sentences of a small grammar (`cutaway.data.grammar`), whose trees are known because they were made that way.
`ewt` is the development part of the English Web Treebank [@silveira2014], which the project does not carry: it is looked for
where the environment variable `CUTAWAY_UD` says. Any other name is the path of a `.conllu` file, or of a folder with one.
Limits: a grammar's sentences are plainer than people's, so figures on them are figures on them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cutaway.core.errors import TaskError
from cutaway.data.conllu import Sentence, read_conllu
from cutaway.data.grammar import made_sentences

EWT = "https://github.com/UniversalDependencies/UD_English-EWT"  # CC BY-SA 4.0
EWT_DEV = "https://raw.githubusercontent.com/UniversalDependencies/UD_English-EWT/master/en_ewt-ud-dev.conllu"
PLACE = "CUTAWAY_UD"


def treebank_sentences(name: str, n: int | None, seed: int = 0, longest: int = 60) -> tuple[Sentence, ...]:
    """Sentences with trees.

    Args:
        name: `made`, `ewt`, or the path of a `.conllu` file.
        n: how many, drawn with the seed; all of a file when None. A file with fewer gives all it has.
        seed: draws the sentences.
        longest: of a file, sentences with more words are left out, and those with fewer than three.

    Raises:
        TaskError: there is no such treebank.
    """
    if name == "made":
        return made_sentences(n or 200, seed)
    every = [s for s in read_conllu(treebank_path(name)) if 3 <= len(s.words) <= longest]
    if not every:
        raise TaskError(f"{name!r} has no sentence of 3 to {longest} words;", "a treebank has many.")
    if n is None or n >= len(every):
        return tuple(every)
    order = np.random.default_rng(seed).permutation(len(every))[:n]
    return tuple(every[int(index)] for index in sorted(order))


def treebank_path(name: str) -> Path:
    """The file of a treebank that is not made.

    Raises:
        TaskError: it is not there.
    """
    place = os.environ.get(PLACE, "") if name == "ewt" else name
    if name == "ewt" and not place:
        raise TaskError(
            f"the treebank 'ewt' was asked for, and {PLACE} does not say where it is;",
            f"it is a file, or a folder with a .conllu file. The treebank is at {EWT} (CC BY-SA 4.0).",
            f"Fetch {EWT_DEV} and set {PLACE} to the file, or take treebank=made.",
        )
    path = Path(place)
    files = sorted(path.glob("*.conllu")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise TaskError(
            f"there is no treebank {name!r}" + (f" at {place!r};" if place != name else ";"),
            "a treebank is 'made', 'ewt', or the path of a .conllu file or of a folder with one.",
            "Write treebank=made for the sentences that come with cutaway.",
        )
    return _the_one(files, place)


def _the_one(files: Sequence[Path], place: str) -> Path:
    dev = [file for file in files if file.stem.endswith("-dev")]
    if len(files) > 1 and len(dev) != 1:
        raise TaskError(
            f"{place!r} has {len(files)} .conllu files;",
            "one of them is meant.",
            f"Write the path of the file, such as {files[0].name}.",
        )
    return dev[0] if dev else files[0]
