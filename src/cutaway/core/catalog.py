"""Which named functions does a source file hold? Read from its syntax tree, without importing it.

Importing sixty method files costs seconds (they need torch); reading them costs milliseconds. A function
counts when it is decorated, at the top level of the file, with a decorator imported from cutaway:
`@method(...)`, `@task(...)`, `@study(...)`, `@renderer(...)`, `@format(...)`, under whatever name it was imported.
Limits: what stands in the decorator must be written out (text, numbers, tuples of them) to be seen here; of
calls only the `Claim(...)`s of a study are read.
"""

from __future__ import annotations

import ast
import gc
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

KINDS = ("method", "task", "renderer", "format", "study", "app")
_DECORATED = re.compile(rb"^@(?!dataclass|contextmanager|lru_cache)", re.MULTILINE)  # a quick look before reading
_OF_A_CLAIM = ("key", "sentence", "theirs", "where", "mark", "at_least", "at_most", "unit")  # by position


@dataclass(frozen=True)
class Parameter:
    """A parameter as written: type and default are source text."""

    name: str
    type: str
    default: str | None
    help: str = ""


@dataclass(frozen=True)
class Entry:
    """A named function that was found: what it is called, what it answers, and where it is.

    Attributes:
        distribution: the installed package that announces it; of a loose file the file's name.
        loose: whether it stands in a file that was given by `--plugin`.
        facts: everything else that its decorator says.
    """

    kind: str
    name: str
    asks: str
    cites: str
    needs: tuple[str, ...]
    summary: str
    parameters: tuple[Parameter, ...]
    module: str
    function: str
    path: Path
    line: int
    distribution: str = ""
    loose: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


def entries_of_file(path: Path, module: str) -> tuple[Entry, ...]:
    """The named functions in one file, in the order written.

    Args:
        path: the source file.
        module: the name under which it can be imported.

    Raises:
        SyntaxError: the file is not Python.
        OSError: the file cannot be read.
    """
    return _entries(path, module, path.stat().st_mtime_ns)


def first_line(path: Path, function: str) -> str:
    """First line of the docstring of a top-level function, or nothing when there is no such function."""
    tree = ast.parse(path.read_bytes())
    found = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
    return next((_summary(n) for n in found), "")


@lru_cache(maxsize=4096)
def _entries(path: Path, module: str, changed: int) -> tuple[Entry, ...]:
    source = path.read_bytes()
    if b"cutaway" not in source or not _DECORATED.search(source):
        return ()
    text = source.decode()
    collecting = gc.isenabled()
    gc.disable()  # thousands of nodes at once, none of them garbage yet: looking for it takes a tenth of the time
    try:
        tree = _tree(text, path)
        return tuple(_entry(*found, path, module, tree) for found in _decorated(tree, _decorators(tree)))
    finally:
        if collecting:
            gc.enable()


def _tree(text: str, path: Path) -> ast.Module:
    try:
        return ast.parse(skeleton(text), filename=str(path))
    except SyntaxError:
        return ast.parse(text, filename=str(path))


def skeleton(text: str) -> str:
    """The source with all but imports and decorated statements blanked out, lines in place.

    Parsing is nearly all the cost of a listing, and undecorated code is most of a file. A statement is
    known by its first line, which starts in column 0 outside a triple-quoted string; the lines below belong
    to it. Where such a line stands inside what looks like a string, the quotes may have been misread, and
    nothing is cut.
    """
    kept, keep, decorated, quotes = [], False, False, ""
    for line in text.split("\n"):
        wanted = line.startswith(("@", "from ", "import "))
        if wanted and quotes:
            return text
        if not quotes and line and line[0] not in " \t)]}#":
            keep, decorated = wanted or decorated, line.startswith("@")
        for mark in ('"""', "'''"):
            if quotes in ("", mark) and line.count(mark) % 2:
                quotes = "" if quotes else mark
        kept.append(line if keep else "")
    return "\n".join(kept)


def _decorators(tree: ast.Module) -> dict[str, str]:
    """Local names of cutaway's decorators and modules: `{"method": "method", "ca": "*"}`."""
    names: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cutaway":
            for alias in node.names:
                names[alias.asname or alias.name] = alias.name if alias.name in KINDS else "*"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "cutaway":
                    names[alias.asname or "cutaway"] = "*"
    return names


def _decorated(tree: ast.Module, decorators: Mapping[str, str]) -> Iterator[tuple[ast.FunctionDef, ast.Call, str]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and (kind := _kind(call.func, decorators)):
                    yield node, call, kind


def _kind(called: ast.expr, decorators: Mapping[str, str]) -> str:
    match called:
        case ast.Name(id=name):
            kind = decorators.get(name, "")
            return "" if kind == "*" else kind
        case ast.Attribute(attr=attribute) if attribute in KINDS:
            root = called
            while isinstance(root, ast.Attribute):
                root = root.value  # type: ignore[assignment]
            return attribute if isinstance(root, ast.Name) and root.id in decorators else ""
        case _:
            return ""


def _entry(node: ast.FunctionDef, call: ast.Call, kind: str, path: Path, module: str, tree: ast.Module) -> Entry:
    facts = {k.arg: _literal(k.value) for k in call.keywords if k.arg}
    if kind == "study":
        facts["claims"] = _claims(call, path)
    name = _literal(call.args[0]) if call.args else node.name
    needs = facts.get("needs") or ()
    return Entry(
        kind=kind,
        name=str(name or node.name),
        asks=str(facts.get("asks") or ""),
        cites=str(facts.get("cites") or facts.get("paper") or ""),
        needs=(needs,) if isinstance(needs, str) else tuple(needs),
        summary=_summary(node),
        parameters=tuple(_parameters(node, tree, path, module)),
        module=module,
        function=node.name,
        path=path,
        line=node.lineno,
        facts=facts,
    )


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _claims(call: ast.Call, path: Path) -> tuple[dict[str, Any], ...]:
    """What stands in each `Claim(...)` of a study, by name; the tuple may have a name of its own in the file."""
    written = next((k.value for k in call.keywords if k.arg == "claims"), None)
    if isinstance(written, ast.Name):
        written = _assignments(path).get(written.id)
    if not isinstance(written, ast.Tuple | ast.List):
        return ()
    return tuple(
        {
            **dict(zip(_OF_A_CLAIM, map(_literal, claim.args))),
            **{k.arg: _literal(k.value) for k in claim.keywords if k.arg},
        }
        for claim in written.elts
        if isinstance(claim, ast.Call) and ast.unparse(claim.func).rpartition(".")[2] == "Claim"
    )


def _summary(node: ast.FunctionDef) -> str:
    return inspect.cleandoc(ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")


def _parameters(node: ast.FunctionDef, tree: ast.Module, path: Path, module: str) -> Iterator[Parameter]:
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults):
        written = ast.unparse(default) if default is not None else None
        annotation = argument.annotation
        if isinstance(annotation, ast.Name):
            annotation = _alias(annotation.id, tree, path, module) or annotation
        kind, text = _taken_apart(annotation)
        yield Parameter(argument.arg, kind, written, text)


def _alias(name: str, tree: ast.Module, path: Path, module: str) -> ast.expr | None:
    """What `Count` stands for, where this file or one of the same package says `Count = Annotated[...]`."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for imported in node.names:
                if name == (imported.asname or imported.name):
                    source = _beside(path, module, node.module)
                    return _assignments(source).get(imported.name) if source else None
    return _assignments(path).get(name)


def _beside(path: Path, module: str, other: str) -> Path | None:
    """The file of another module of the same top package."""
    parts = module.split(".")
    if other.split(".")[0] != parts[0]:
        return None
    depth = len(parts) - (path.name != "__init__.py")
    root = path.parents[depth] if depth < len(path.parents) else path.parent
    file = root.joinpath(*other.split(".")).with_suffix(".py")
    return file if file.is_file() else None


@lru_cache(maxsize=64)
def _assignments(path: Path) -> Mapping[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for node in ast.parse(path.read_bytes()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found[name] = value
    return found


def _taken_apart(annotation: ast.expr | None) -> tuple[str, str]:
    """Type and help of `Annotated[int, Field(ge=1, description="...")]`: `("int", "...")`."""
    match annotation:
        case None:
            return "", ""
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *rest])):
            keywords = [k for field in rest if isinstance(field, ast.Call) for k in field.keywords]
            texts = [_literal(k.value) for k in keywords if k.arg == "description"]
            return ast.unparse(kind), str(texts[0]) if texts else ""
        case _:
            return ast.unparse(annotation), ""
