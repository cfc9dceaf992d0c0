"""What is there to choose from? Methods, tasks, views, references and models, without importing torch.

Methods and tasks are read from their source files. The schemas of their parameters need the modules
themselves, so the worker makes them, once: they are kept in the user's cache under a name that changes with
the sources.
Limits: a schema that leans on a module outside the package of its method is not made anew when that changes.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cutaway.core import registry
from cutaway.core.registry import Entry
from cutaway.models.weights import ALIASES, cache_folder, inventory, read_json, write_json

KINDS = ("method", "task")
_FIELD = re.compile(r"(\w+)\s*=\s*[{\"](.*?)[}\"]\s*,?\s*$", re.MULTILINE)
_ENTRY = re.compile(r"^@\w+\{\s*([^,\s]+)\s*,(.*?)^\}", re.MULTILINE | re.DOTALL)

Schemas = Mapping[str, Mapping[str, Mapping[str, Any]]]


def entries() -> dict[str, list[Entry]]:
    """All methods and tasks."""
    return {kind: registry.entries(kind) for kind in KINDS}


def wanted(found: Mapping[str, Sequence[Entry]]) -> dict[str, list[str]]:
    """The names whose schemas are needed."""
    return {kind: [entry.name for entry in listed] for kind, listed in found.items()}


def state_of(found: Mapping[str, Sequence[Entry]]) -> str:
    """A name for the sources as they are: it changes when one of them, or a neighbour, does."""
    listed = [entry for kind in KINDS for entry in found[kind]]
    folders = sorted({_top(entry) for entry in listed})
    said = [metadata.version("cutaway"), *(f"{e.kind} {e.name} {e.module} {e.function}" for e in listed)]
    said += [f"{folder} {_newest(folder)}" for folder in folders]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:24]


def kept_schemas(state: str) -> Schemas | None:
    """The schemas that were made for these sources, if they are kept."""
    return read_json(_schema_file(state))


def keep_schemas(state: str, schemas: Schemas) -> None:
    """Keep schemas for these sources, and let go of older ones. Where nothing can be written, nothing is kept."""
    file = _schema_file(state)
    try:
        write_json(file, schemas)
        for old in sorted(file.parent.glob("schemas-*.json"), key=lambda path: path.stat().st_mtime_ns)[:-5]:
            old.unlink(missing_ok=True)
    except OSError:
        return


def method_records(found: Sequence[Entry], schemas: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Methods as JSON values."""
    return [{**_record(e, schemas), "needs": list(e.needs), "group": _group(e), "doc": _docstring(e)} for e in found]


def task_records(found: Sequence[Entry], schemas: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tasks as JSON values."""
    return [_record(entry, schemas) for entry in found]


def view_records() -> list[dict[str, Any]]:
    """The kinds of picture, and the parts that each has."""
    from cutaway.core.roles import ROLES

    return [
        {
            "kind": kind,
            "roles": {
                name: {"dims": list(role.dims), "required": role.required, "numeric": role.numeric}
                for name, role in roles.items()
            },
        }
        for kind, roles in ROLES.items()
    ]


@lru_cache(maxsize=1)
def references() -> dict[str, dict[str, str]]:
    """What the code cites, by key: authors, year, title, and where to read it."""
    here = Path(__file__).resolve().parents[1]
    for file in (here / "references.bib", here.parents[1] / "docs" / "references.bib"):
        if file.is_file():
            return dict(_read_references(file.read_text(encoding="utf-8")))
    return {}


def model_records(opened: Mapping[str, Mapping[str, Any]], named: Sequence[str]) -> list[dict[str, Any]]:
    """The models that open here, those that could, and those that the server was started with."""
    listed = {entry.name: entry for entry in inventory()}
    records = []
    for entry in listed.values():
        available = entry.status != "absent"
        alias = ALIASES.get(entry.name)
        why_not = "" if available else "its weights are not on this machine"
        install = entry.install + (f"   or   hf download {alias.hub}" if alias else "") if entry.install else ""
        facts = {"description": entry.about, "available": available, "why_not": why_not, "install": install}
        records.append({"name": entry.name, **facts, "source": entry.where, **_opened(entry.name, opened)})
    for name in dict.fromkeys((*named, *opened)):
        if name not in listed:
            facts = {
                "description": "named when the server was started",
                "available": True,
                "why_not": "",
                "install": "",
            }
            records.append({"name": name, **facts, "source": "", **_opened(name, opened)})
    return records


def openable(named: Sequence[str]) -> set[str]:
    """The names that a request may open: a path is none of them unless the server was started with it."""
    return {entry.name for entry in inventory() if entry.status != "absent"} | set(named)


def _opened(name: str, opened: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    facts = opened.get(name)
    if facts is None:
        return {"opened": False, "parameters": None, "layers": None}
    source = {"source": facts["source"]} if facts.get("source") else {}
    return {"opened": True, "parameters": facts.get("parameters"), "layers": facts.get("layers"), **source}


def _record(entry: Entry, schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    made = schemas.get(entry.name) or {"schema": None, "problem": ""}
    return {
        "name": entry.name,
        "package": entry.distribution,
        "asks": entry.asks,
        "cites": [key.strip() for key in entry.cites.split(",") if key.strip()],
        "summary": entry.summary,
        "schema": made["schema"],
        "problem": made.get("problem") or "",
    }


def _group(entry: Entry) -> str:
    """The folder of a method of ours: its kind of question. Of a stranger's, the package."""
    parts = entry.module.split(".")
    return parts[2] if entry.module.startswith("cutaway.methods.") and len(parts) > 3 else entry.distribution


def _docstring(entry: Entry) -> str:
    try:
        return _docstrings(entry.path, entry.path.stat().st_mtime_ns).get(entry.function, "")
    except (OSError, SyntaxError):
        return ""


@lru_cache(maxsize=1024)
def _docstrings(path: Path, changed: int) -> dict[str, str]:
    """Of the functions of a file; the module's own stands before each, since it has idea, limits and citation."""
    tree = ast.parse(path.read_bytes())
    module = ast.get_docstring(tree) or ""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: "\n\n".join(filter(None, (module, ast.get_docstring(node)))) for node in functions}


def _top(entry: Entry) -> Path:
    """The folder of the whole package, or the loose file."""
    if entry.loose:
        return entry.path
    depth = len(entry.module.split(".")) - (entry.path.name != "__init__.py")
    return entry.path.parents[depth - 1] if depth else entry.path


def _newest(place: Path) -> int:
    files: Iterator[Path] = place.rglob("*.py") if place.is_dir() else iter([place])
    return max((file.stat().st_mtime_ns for file in files), default=0)


def _schema_file(state: str) -> Path:
    return cache_folder().parent / "web" / f"schemas-{state}.json"


def _read_references(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for key, body in _ENTRY.findall(text):
        fields = {name.lower(): _plain(value) for name, value in _FIELD.findall(body)}
        yield key, {name: fields.get(name, "") for name in ("title", "year", "url")} | {"authors": _authors(fields)}


def _authors(fields: Mapping[str, str]) -> str:
    names = [" ".join(reversed(name.split(", ", 1))) for name in fields.get("author", "").split(" and ") if name]
    return ", ".join(names)


def _plain(value: str) -> str:
    return " ".join(value.replace("{", "").replace("}", "").split())
