"""Nothing grows too large to be read, and everything says what it is for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "cutaway"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]
LONGEST_MODULE, LONGEST_FUNCTION = 600, 60
FORBIDDEN = {"utils", "util", "helpers", "common", "base", "misc", "manager"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines of the body, its docstring not counted."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_module_can_be_read_at_a_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_bytes())), f"{path.name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    long = {f.name: length(f) for f in functions(tree) if length(f) > LONGEST_FUNCTION}
    assert not long


def test_most_modules_and_functions_are_short() -> None:
    modules = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES)
    lengths = sorted(length(f) for path in FILES for f in functions(ast.parse(path.read_bytes())))
    assert modules[int(0.9 * len(modules))] <= 400
    assert lengths[int(0.9 * len(lengths))] <= 30
    assert lengths[len(lengths) // 2] <= 12


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [name for name in NAMES if FORBIDDEN & set(Path(name).with_suffix("").parts)]


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in FILES}
    assert not [str(folder.relative_to(SOURCE)) for folder in folders if not (folder / "__init__.py").exists()]
