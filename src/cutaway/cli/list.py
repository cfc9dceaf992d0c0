"""What is there to ask with, and what to ask? `cutaway list`: methods, tasks, studies, views, renderers.

Methods, tasks and studies are read from source files without importing them, so the list is quick and survives a
plug-in that is broken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.cli.main import run_words
from cutaway.core import registry
from cutaway.core.errors import MethodError, nearest
from cutaway.core.registry import Entry, Parameter

KINDS = {"methods": "method", "tasks": "task", "studies": "study", "renderers": "renderer", "formats": "format"}
SECTIONS = (*KINDS, "views", "models")


def list(
    what: Annotated[str | None, typer.Argument(metavar="WHAT", hidden=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List methods and tasks, or tell all about one.

    WHAT is methods, tasks, studies, renderers, formats, views or models, to list these alone, or the name of one
    method, task or study, to read what it asks, takes and needs.
    """
    wanted = (what or "").lower()
    if wanted == "models":
        raise typer.Exit(run_words(["models", *(["--json"] if as_json else [])]))
    if as_json:
        typer.echo(json.dumps(records(wanted), indent=2, ensure_ascii=False))
    else:
        Console(highlight=False).print(page(wanted))


def page(wanted: str) -> RenderableType:
    """What the terminal shows for a section, a name, or nothing (methods and tasks)."""
    if wanted == "views":
        return _views()
    if wanted in KINDS:
        return _section(wanted)
    if wanted:
        return details(named(wanted))
    hint = Text.from_markup(
        "[dim]All about one:[/] cutaway list logit_lens\n"
        "[dim]Run it:       [/] cutaway run logit_lens --task ioi top=3\n"
        "[dim]Add your own: [/] cutaway new method NAME"
    )
    return Group(_section("methods"), Text(), _section("tasks"), Text(), hint)


def records(wanted: str) -> Any:
    """The same as JSON values: a list for a section, an object for a name, and for nothing what was found."""
    if wanted == "views":
        return [*_view_records()]
    if wanted in KINDS:
        return [_record(entry) for entry in registry.entries(KINDS[wanted])]
    if wanted:
        return _record(named(wanted))
    return {section: records(section) for section in KINDS}


def named(name: str) -> Entry:
    """The method, task or study with this name.

    Raises:
        MethodError: there is neither.
    """
    known = [entry for kind in ("method", "task", "study") for entry in registry.entries(kind)]
    wanted = name.replace("-", "_")
    for entry in known:
        if wanted in (entry.name.replace("-", "_"), entry.function):
            return entry
    raise MethodError(
        f"there is no method, task, study or section {name!r};",
        nearest(wanted, [*SECTIONS, *(entry.name for entry in known)]),
        "`cutaway list` shows methods and tasks.",
    )


def details(entry: Entry) -> RenderableType:
    """All about one method, task or study."""
    title = Text.assemble((entry.name, "bold cyan"), f"  {entry.kind} of {entry.distribution}")
    facts = {"needs": ", ".join(entry.needs), "cites": entry.cites, "from": entry.module}
    return Group(
        title,
        *(Text(said) for said in (entry.asks, entry.summary) if said),
        *(Text.assemble((f"{key}: ", "dim"), value) for key, value in facts.items() if value),
        Text(),
        _claim_table(entry) if entry.kind == "study" else _parameter_table(entry),
        Text(),
        Text.assemble(("Run it: ", "dim"), _example(entry)),
    )


def parameter_words(parameters: Sequence[Parameter]) -> str:
    """Parameters on one line with their defaults: `top=5 sites='resid_post[*]'`."""
    return "  ".join(f"{p.name}={'…' if p.default is None else p.default}" for p in parameters)


def _section(section: str) -> RenderableType:
    found = registry.entries(KINDS[section])
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for entry in found:
        table.add_row(Text(entry.name, style="cyan"), _cell(entry))
    heading = Text.assemble((section.capitalize(), "bold"), (f"  {len(found)}", "dim"))
    return Group(heading, table if found else Text("none", style="dim"))


def _cell(entry: Entry) -> Text:
    cell = Text(entry.asks or entry.summary)
    small = [parameter_words(entry.parameters)] if entry.kind in ("method", "task") else []
    small += [entry.cites, " ".join(entry.facts.get("suffixes") or ())]
    written = "  ·  ".join(part for part in small if part)
    return cell.append(f"\n{written}", style="dim") if written else cell


def _parameter_table(entry: Entry) -> RenderableType:
    if not entry.parameters:
        return Text("It takes no parameters.", style="dim")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("parameter", "type", "default", ""):
        table.add_column(heading, overflow="fold")
    for p in entry.parameters:
        default = Text("needed", style="yellow") if p.default is None else Text(p.default)
        table.add_row(Text(p.name, style="cyan"), Text(_in_words(p.type)), default, Text(p.help))
    return table


def _claim_table(entry: Entry) -> RenderableType:
    """What a study tests, as its file words it."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("claim", "", "paper"):
        table.add_column(heading, overflow="fold")
    for claim in entry.facts.get("claims") or ():
        table.add_row(*(Text(str(claim.get(key) or "")) for key in ("key", "sentence", "theirs")))
    return table


def _in_words(type_text: str) -> str:
    """`Literal['abc', 'swap']` as `abc | swap`."""
    if type_text.startswith("Literal[") and type_text.endswith("]"):
        return " | ".join(part.strip().strip("'\"") for part in type_text[8:-1].split(","))
    return type_text


def _example(entry: Entry) -> str:
    start = f"cutaway --plugin {entry.distribution} run" if entry.loose else "cutaway run"
    if entry.kind == "study":
        return f"{start.removesuffix(' run')} study run {entry.name} --scale tiny"
    words = [f"{p.name}={p.default}" for p in entry.parameters if (p.default or "").isdigit()][:1]
    if entry.kind == "task":
        return " ".join([start, "logit_lens --task", entry.function, *(f"task.{word}" for word in words)])
    return " ".join([start, entry.function if entry.loose else entry.name, "--task ioi", *words])


def _views() -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for record in _view_records():
        words = [name if needed else f"[{name}]" for name, needed in record["roles"].items()]
        table.add_row(Text(record["name"], style="cyan"), Text(record["asks"]).append("\n" + " ".join(words), "dim"))
    return Group(Text("Views", style="bold"), table)


def _view_records() -> Iterator[dict[str, Any]]:
    from cutaway.core import catalog, roles, view  # xarray: only when views are asked for

    for kind in view.KINDS:
        needed = {name: role.required for name, role in roles.ROLES[kind].items()}
        yield {"name": kind, "asks": catalog.first_line(Path(view.__file__), kind), "roles": needed}


def _record(entry: Entry) -> dict[str, Any]:
    kept = ("kind", "name", "asks", "cites", "needs", "summary", "distribution", "module", "function")
    parameters = [asdict(parameter) for parameter in entry.parameters]
    return {**{key: getattr(entry, key) for key in kept}, "parameters": parameters}
