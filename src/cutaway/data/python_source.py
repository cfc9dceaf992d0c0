"""Which program text is on every machine? The source of Python's own standard library.

Read as text and as functions: the name of each, its arguments, and plain words from its documentation. Nothing is
imported or run. Limits: another Python version has slightly other text, so `SOURCE` names the version; tests and
installed packages are left out.
"""

from __future__ import annotations

import ast
import platform
import re
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cutaway.core.errors import TaskError

SOURCE = f"source of the standard library of Python {platform.python_version()}"
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__"}
_LARGEST = 300_000  # characters of a file: larger ones are tables
_WORD = re.compile(r"[a-z]{3,10}")


@dataclass(frozen=True)
class Function:
    """A function of the library.

    Attributes:
        name: its name.
        arguments: their names, without `self` and `cls`.
        words: lower-case words of its documentation, in order.
    """

    name: str
    arguments: tuple[str, ...]
    words: tuple[str, ...]


@lru_cache(maxsize=4)
def files(most: int | None = None) -> tuple[str, ...]:
    """The text of the library's source files, in the order of their paths.

    Args:
        most: only so many, from the first on.

    Raises:
        TaskError: this Python came without source files.
    """
    library = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in sorted(library.rglob("*.py")):
        if not _LEFT_OUT & set(path.relative_to(library).parts[:-1]):
            text = path.read_text(encoding="utf-8", errors="ignore")
            if 500 <= len(text) <= _LARGEST:
                found.append(text)
        if len(found) == most:
            break
    if not found:
        raise TaskError(
            "This Python has no source files of its library.", "", "Install its source, or use another Python."
        )
    return tuple(found)


@lru_cache(maxsize=4)
def functions(most: int | None = None) -> tuple[Function, ...]:
    """The library's functions that take an argument, in the order of files and lines.

    Args:
        most: only those of so many files.
    """
    found = []
    for text in files(most):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue  # a file that is a sample of something else
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                taken = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                arguments = tuple(name for name in taken if name not in ("self", "cls"))
                if arguments:
                    words = _WORD.findall(ast.get_docstring(node) or "")
                    found.append(Function(node.name, arguments, tuple(words)))
    return tuple(found)
