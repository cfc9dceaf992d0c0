"""Which code did a kept thing come from? Fingerprints of a study's file, and of the training of a model in it.

A step depends on the whole file: whatever changes there, steps are made anew. A training is dear, so it depends only
on its function and on what that uses of its file, docstrings and comments left out: a claim worded better
does not cost an hour.
Limits: what other files hold does not count; neither does what a function reaches by other ways than names.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def fingerprint_of_file(path: Path) -> str:
    """Hash of the bytes of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint_of_training(train: Callable[..., Any]) -> str:
    """Hash of a function and of everything at the top of its file that it reaches by name.

    Args:
        train: a function at the top of a file; of others the whole file counts.
    """
    path = Path(inspect.getsourcefile(train) or "")
    if not path.is_file():
        return hashlib.sha256(train.__qualname__.encode()).hexdigest()
    top = {name: node for node in ast.parse(path.read_bytes()).body for name in _defined(node)}
    if train.__name__ not in top:
        return fingerprint_of_file(path)
    waiting, reached = [train.__name__], dict[str, str]()
    while waiting:
        name = waiting.pop()
        if name in top and name not in reached:
            node = _without_docstrings(top[name])
            reached[name] = ast.dump(node)
            waiting += _named(node)
    return hashlib.sha256("\n".join(f"{n}={reached[n]}" for n in sorted(reached)).encode()).hexdigest()


def trainings_of(path: Path) -> dict[str, str]:
    """The models that a study trains, each with its training function: `run.trained("name", function)` in its file."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Call(func=ast.Attribute(attr="trained"), args=[ast.Constant(value=str(name)), ast.Name(id=train)]):
                found[name] = train
    return found


def opens_a_model(path: Path) -> bool:
    """Whether a study opens the model of its scale, `opened(run, ...)` in its file, so that it can be another one."""
    calls = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "opened" for call in calls)


def _defined(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name.split(".")[0] for alias in names)
        case ast.Assign(targets=targets):
            yield from (name for target in targets for name in _named(target))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def _named(node: ast.AST) -> list[str]:
    return sorted({each.id for each in ast.walk(node) if isinstance(each, ast.Name)})


def _without_docstrings(node: ast.stmt) -> ast.stmt:
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(each, clean=False) is not None:
            each.body = each.body[1:] or [ast.Pass()]
    return node
