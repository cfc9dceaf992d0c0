"""Which methods, tasks, studies, renderers and formats are there, and how is one got by name?

One door for ours and others': packages announce modules under the entry-point group `cutaway`, and so does
cutaway itself. `entries` reads the
files below those modules (see `catalog`) without importing them; `get` imports the one file that is asked
for. Built-ins answer to their bare name. A stranger's function is called `distribution/name`, and its bare
name works too while nobody else has it. The environment variable CUTAWAY_PLUGINS limits strangers: empty
turns all of them off, `a,b` leaves those two distributions.
Limits: an entry point names a module or package, not an object in one; zipped packages are not looked into.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cutaway.core.catalog import KINDS, Entry, Parameter, entries_of_file
from cutaway.core.errors import CutawayError, MethodError, TaskError, nearest

__all__ = [
    "KINDS",
    "Entry",
    "Namespace",
    "Parameter",
    "PluginWarning",
    "entries",
    "find",
    "get",
    "load_file",
    "loose_files",
]

GROUP = "cutaway"
OURS = "cutaway"
_HOLDS = {
    "cutaway.methods": "method",
    "cutaway.data.tasks": "task",
    "cutaway.studies": "study",
}  # of ours, and nothing else
_ERRORS: dict[str, type[CutawayError]] = {"method": MethodError, "task": TaskError, "study": MethodError}
_LISTED = ("method", "task", "study")  # what people add and name
_files: dict[Path, str] = {}  # loose files given by --plugin, with the module name of each


class PluginWarning(UserWarning):
    """A plug-in that is broken, or that wants a name that is taken."""


class Namespace:
    """All functions of one kind as attributes: `cutaway.tasks.ioi(n=50)`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        """The function `name`; one that does not exist gets the nearest names."""
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return get(self._kind, name)
        except CutawayError as error:
            raise AttributeError(str(error)) from error

    def __dir__(self) -> list[str]:
        return sorted(entry.name for entry in entries(self._kind) if entry.name.isidentifier())

    def __repr__(self) -> str:
        return f"<cutaway {self._kind}s: {', '.join(dir(self))}>"


def entries(kind: str) -> list[Entry]:
    """All functions of one kind, sorted by name, built-ins first. Nothing is imported.

    Args:
        kind: one of `KINDS`.
    """
    if kind not in KINDS:
        raise CutawayError(f"there is no kind {kind!r};", nearest(kind, KINDS))
    found = [entry for entry in _all(kind) if entry.kind == kind]
    return sorted(_without_shadows(found), key=lambda e: (e.distribution != OURS, e.name))


def find(kind: str, name: str) -> Entry:
    """The entry called `name`; `-` and `_` are the same.

    Raises:
        MethodError, TaskError, CutawayError: there is none, or several; the message has the nearest names.
    """
    wanted = name.replace("-", "_")
    known = entries(kind)
    exact = [e for e in known if e.name.replace("-", "_") == wanted]
    bare = [e for e in known if e.name.rpartition("/")[2].replace("-", "_") == wanted]
    error = _ERRORS.get(kind, CutawayError)
    if exact:
        return exact[0]
    if len(bare) == 1:
        return bare[0]
    if bare:
        names = ", ".join(e.name for e in bare)
        raise error(f"several plug-ins have a {kind} {name!r}:", f"{names}.", f"Write {bare[0].name}.")
    plural = "studies" if kind == "study" else f"{kind}s"
    advice = f"`cutaway list {plural}` shows them all." if kind in _LISTED else ""
    options = {e.name for e in known} | {e.function for e in known if kind in _LISTED}
    raise error(f"there is no {kind} {name!r};", nearest(wanted, options), advice)


def get(kind: str, name: str) -> Any:
    """The function called `name`, imported now.

    Raises:
        MethodError, TaskError, CutawayError: as `find`; or its module cannot be imported.
    """
    entry = find(kind, name)
    try:
        module = _imported(entry)
        return getattr(module, entry.function)
    except Exception as error:
        raise _ERRORS.get(kind, CutawayError)(
            f"the {kind} {entry.name!r} of {entry.distribution} could not be loaded",
            f"({type(error).__name__}: {error}).",
            f"Look at {entry.path.name}, line {entry.line}, or remove the plug-in."
            if entry.distribution != OURS
            else "",
        ) from error


def load_file(path: str | Path) -> list[Entry]:
    """Add a loose Python file: its functions are named `file/name`, and by the bare name where that is free.

    Raises:
        MethodError: the file does not exist, is not Python, or holds no named function.
    """
    file = Path(path).resolve()
    advice = "Write a file with `cutaway new method NAME`."
    try:
        ast.parse(file.read_bytes())
        found = entries_of_file(file, _module_name(file))
    except OSError as error:
        raise MethodError(f"{file} cannot be read: {error.strerror};", "a plug-in is a Python file.", advice) from error
    except SyntaxError as error:
        where = f"line {error.lineno}: {error.msg}"
        raise MethodError(f"{file} is not valid Python ({where});", "a plug-in is a Python file.") from error
    if not found:
        expected = "a plug-in has functions decorated with @cutaway.method(...), @cutaway.task(...) or @study(...)."
        raise MethodError(f"{file} holds no method, task, study or renderer;", expected, advice)
    _files[file] = _module_name(file)
    return [_loose(entry, file) for entry in found]


def loose_files() -> list[Path]:
    """The files that `load_file` added."""
    return [*_files]


def _all(kind: str) -> Iterator[Entry]:
    """Entries of a kind, and others that stand in the same places."""
    seen: set[tuple[str, str, str]] = set()
    for value, distribution in _announced(tuple(sys.path), os.environ.get("CUTAWAY_PLUGINS")):
        if distribution == OURS and _HOLDS.get(value, kind) != kind:
            continue
        for entry in _below(value, distribution):
            if (entry.kind, entry.module, entry.function) not in seen:
                seen.add((entry.kind, entry.module, entry.function))
                yield entry
    for file, module in _files.items():
        for entry in _read(file, module, file.name):
            yield _loose(entry, file)


@lru_cache(maxsize=8)
def _announced(path: tuple[str, ...], allowed: str | None) -> tuple[tuple[str, str], ...]:
    """`(module, distribution)` of every entry point; the arguments are what the answer depends on."""
    found = []
    for point in metadata.entry_points(group=GROUP):
        distribution = point.dist.name if point.dist is not None else "unknown"
        names = [name.strip() for name in (allowed or "").split(",")]
        if distribution == OURS or allowed is None or distribution in names:
            found.append((point.value.partition(":")[0].strip(), distribution))
    return tuple(sorted(set(found), key=lambda pair: (pair[1] != OURS, pair)))


def _below(value: str, distribution: str) -> Iterator[Entry]:
    """Entries of a module, or of all modules below a package."""
    place = _place(value)
    if place is None:
        _warn(f"{distribution} announces the module {value!r}, which is not installed; it is left out.")
        return
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    for file in files:
        parts = file.relative_to(place).with_suffix("").parts if place.is_dir() else ()
        module = ".".join([value, *(p for p in parts if p != "__init__")])
        for entry in _read(file, module, distribution):
            yield _owned(entry, distribution)


def _place(value: str) -> Path | None:
    """Folder or file of a module, found from its top package, which is located and not imported."""
    top, *rest = value.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or []:
        place = Path(folder).joinpath(*rest)
        if place.is_dir():
            return place
        if place.with_suffix(".py").is_file():
            return place.with_suffix(".py")
    return Path(spec.origin) if spec.origin and not rest and not spec.submodule_search_locations else None


def _read(file: Path, module: str, distribution: str) -> tuple[Entry, ...]:
    try:
        return entries_of_file(file, module)
    except (SyntaxError, OSError, ValueError) as error:
        _warn(f"{file.name} of {distribution} cannot be read ({error}); it is left out.")
        return ()


def _owned(entry: Entry, distribution: str) -> Entry:
    name = entry.name if distribution == OURS else f"{distribution}/{entry.name}"
    return dataclasses.replace(entry, name=name, distribution=distribution)


def _loose(entry: Entry, file: Path) -> Entry:
    return dataclasses.replace(entry, name=f"{file.stem}/{entry.name}", distribution=file.name, loose=True)


def _without_shadows(found: list[Entry]) -> list[Entry]:
    """The same entries; a stranger with the bare name of a built-in is told that it stays the built-in's."""
    ours = {entry.name for entry in found if entry.distribution == OURS}
    for entry in found:
        bare = entry.name.rpartition("/")[2]
        if entry.distribution != OURS and bare in ours:
            name = f"it is reached only as {entry.name!r}."
            _warn(f"{entry.distribution} has a {entry.kind} {bare!r}, a name of cutaway itself; {name}")
    return found


def _imported(entry: Entry) -> Any:
    if not entry.loose:
        return importlib.import_module(entry.module)
    if entry.module not in sys.modules:
        spec = importlib.util.spec_from_file_location(entry.module, entry.path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{entry.path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[entry.module] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[entry.module]
            raise
    return sys.modules[entry.module]


def _module_name(file: Path) -> str:
    return "cutaway_plugin_" + "".join(c if c.isalnum() else "_" for c in file.stem)


def _warn(text: str) -> None:
    warnings.warn(text, PluginWarning, stacklevel=2)
