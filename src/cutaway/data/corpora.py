"""What does a model do with text that has nothing to do with the question? Plain English, found everywhere.

Side effects and mean activations need ordinary text that favours no task. The documentation strings of
Python's own standard library are at hand wherever Python is: they are read from its source files (nothing is
imported), cut into paragraphs, and those that read as prose are kept.
Limits: it is technical English, and another Python version has slightly other text, so `SOURCE` names the
version. For figures that are to be compared across machines, give texts of your own.
"""

from __future__ import annotations

import ast
import platform
import re
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cutaway.core.errors import TaskError
from cutaway.data.words import listed

SOURCE = f"documentation strings of the standard library of Python {platform.python_version()}"
_LENGTH = range(80, 601)  # characters of a paragraph
_PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,.;:'()\"-]*[.]")
_LETTERS = 0.75  # share of the characters of a paragraph that are letters
# Modules with much prose, which every distribution has (some leave out tkinter, idlelib and the tests).
_MODULES = listed(
    """
    bdb calendar cmd code codecs collections configparser contextlib difflib doctest email fileinput gzip
    heapq http importlib ipaddress linecache locale logging lzma mimetypes os pathlib pdb pkgutil platform
    poplib queue random sched shutil smtplib socket socketserver ssl statistics string tempfile textwrap
    threading timeit traceback turtle typing urllib xml xmlrpc
    """
)

_Documented: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def plain_text(n: int, seed: int = 0) -> tuple[str, ...]:
    """`n` different paragraphs of plain English, the same ones for the same seed and Python version.

    Raises:
        TaskError: there are not so many, or this Python came without its source files.
    """
    found = paragraphs()
    if not 1 <= n <= len(found):
        here = "This Python has no source files of its library." if not found else f"Write 1 to {len(found)}."
        raise TaskError(f"{n} paragraphs of plain text were asked for;", f"there are {len(found)} here.", here)
    order = np.random.default_rng(seed).permutation(len(found))
    return tuple(found[int(index)] for index in order[:n])


@lru_cache(maxsize=1)
def paragraphs() -> tuple[str, ...]:
    """Every paragraph of the corpus, in the order of the files that they come from."""
    library = Path(sysconfig.get_path("stdlib"))
    files = (path for name in _MODULES for path in (library / f"{name}.py", *(library / name).rglob("*.py")))
    return tuple(dict.fromkeys(text for path in sorted(files) for text in _prose(path)))


def _prose(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # a file that cannot be read is no text
    for node in _documented(tree):
        for block in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
            text = " ".join(block.split())
            if _reads_as_prose(text):
                yield text


def _documented(node: _Documented) -> Iterator[_Documented]:
    """A module, class or function and those within it; `ast.walk` would look at every expression."""
    yield node
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documented(child)


def _reads_as_prose(text: str) -> bool:
    letters = sum(character.isalpha() for character in text)
    return len(text) in _LENGTH and letters >= _LETTERS * len(text) and _PLAIN.fullmatch(text) is not None
