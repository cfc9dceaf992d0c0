"""What is in the store, is it whole, and how does it get to another machine? `cutaway store ACTION`.

A store is opened as the server and Python open it (`cutaway.store.index`), with the same default place.
Exit status of `check`: 1 when something is missing or damaged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.cli.models import size
from cutaway.core.errors import ParameterError, nearest

if TYPE_CHECKING:
    from cutaway.store.index import ArtifactSummary, Freed, Report, ResultSummary, Store, Transferred

_MOST_LISTED = 50


@dataclass(frozen=True)
class Said:
    """What an action has to say: as JSON values, for the terminal, and whether all is well."""

    record: Any
    page: RenderableType
    well: bool = True


def store(
    action: Annotated[str, typer.Argument(metavar="ACTION", hidden=True)],
    words: Annotated[list[str] | None, typer.Argument(metavar="WORDS", hidden=True)] = None,
    place: Annotated[
        str | None,
        typer.Option("--store", metavar="PLACE", help="Folder or PostgreSQL URL; CUTAWAY_STORE says it too."),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="check: mend what can be mended.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="gc: delete damaged files too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List, check, clear, export or import what is kept.

    ACTION: list [WORD ...], check, gc, export FILE.zip [ID ...], import FILE ..., path [ID].

    list shows results in which all words occur; path, where the store or a file is.

    check compares index and files; gc deletes what cannot be used any more.

    export writes one zip of all or some; import takes in a zip, a .nc or .safetensors.
    """
    from cutaway.runtime.progress import watched
    from cutaway.store.index import Store

    act = _action(action)
    _refuse_options(action, repair=repair, damaged=damaged)
    with Store.open(place) as opened, watched():
        said = act(opened, words or [], repair or damaged)
    if as_json:
        from cutaway.store.records import strict

        typer.echo(json.dumps(strict(said.record), indent=2, allow_nan=False))
    else:
        Console(highlight=False).print(said.page, soft_wrap=isinstance(said.page, Text))
    if not said.well:
        raise typer.Exit(1)


def _list(opened: Store, words: Sequence[str], option: bool) -> Said:
    text = " ".join(words)
    results = opened.results(text=text, limit=_MOST_LISTED)
    artifacts = opened.artifacts(text=text, limit=_MOST_LISTED)
    record = {
        "results": {"total": results.total, "items": [item.record() for item in results.items]},
        "artifacts": {"total": artifacts.total, "items": [item.record() for item in artifacts.items]},
    }
    rows = [
        *((_cells(item, f"{item.method} · {item.task}", item.model)) for item in results.items),
        *((_cells(item, item.kind, str(item.about.get("site", "")))) for item in artifacts.items),
    ]
    total = f"{_number(results.total, 'result')}, {_number(artifacts.total, 'artifact')}"
    heading = Text.assemble((total, "bold"), (f"  {opened.place}", "dim"))
    if not rows:
        advice = "store.add_result(result) keeps one; cutaway store import FILE takes one in."
        return Said(record, Group(heading, Text(advice, style="dim")))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("id", "kept", "what", "on", "size", "title and tags"):
        table.add_column(name, overflow="fold", no_wrap=name in ("id", "kept"))
    for cells in rows:
        table.add_row(*(Text(cell) for cell in cells))
    return Said(record, Group(heading, table))


def _cells(kept: ResultSummary | ArtifactSummary, what: str, on: str) -> tuple[str, ...]:
    called = " ".join([kept.title, *(f"#{tag}" for tag in kept.tags)]).strip()
    day = kept.created[:16].replace("T", " ")
    return kept.id[:12], day, what, on, size(kept.bytes), called


def _check(opened: Store, words: Sequence[str], repair: bool) -> Said:
    _refuse_words("check", words)
    report = opened.check(repair=repair)
    return Said({**asdict(report), "sound": report.sound}, _report(report), report.sound)


def _report(report: Report) -> RenderableType:
    counts = _counted(report)
    lines = [Text(f"{counts}, {size(report.bytes) or '0 kB'}: " + ("sound" if report.sound else "not sound"))]
    for label, faults, style in (("mended", report.repaired, "green"), ("", report.faults, "yellow")):
        for fault in faults:
            named = fault.id[:12] or fault.path
            lines.append(Text.assemble((label or fault.kind, style), f"  {named}  {fault.how}"))
    kinds = {fault.kind for fault in report.faults}
    if kinds & {"leftover", "missing"}:
        lines.append(Text("cutaway store gc clears away what is left over and missing.", style="dim"))
    if "unlisted" in kinds:
        lines.append(Text("cutaway store check --repair takes in what is unlisted.", style="dim"))
    if "damaged" in kinds:
        lines.append(Text("Damaged: make it again, or delete it with cutaway store gc --damaged.", style="dim"))
    return Group(*lines)


def _gc(opened: Store, words: Sequence[str], damaged: bool) -> Said:
    _refuse_words("gc", words)
    freed: Freed = opened.gc(damaged=damaged)
    told = f"Deleted {freed.files} files ({size(freed.bytes) or '0 kB'}) and {freed.rows} entries of the index."
    return Said(asdict(freed), Text(told))


def _export(opened: Store, words: Sequence[str], option: bool) -> Said:
    if not words:
        raise ParameterError("no file is named;", "an export is one zip.", "Write cutaway store export results.zip")
    path = Path(words[0])
    if path.suffix.lower() != ".zip":
        raise ParameterError(
            f"{words[0]!r} is to be the export;", "an export is one zip.", f"Write cutaway store export {path}.zip"
        )
    done = opened.export(path, words[1:] or None)
    return Said({**asdict(done), "path": str(path)}, Text(f"Wrote {_counted(done)} to {path}."))


def _import(opened: Store, words: Sequence[str], option: bool) -> Said:
    if not words:
        raise ParameterError("no file is named;", "a zip, a result or an artifact.", "Write cutaway store import F.zip")
    done = {word: opened.import_(word) for word in words}
    lines = [
        f"Took in {_counted(each)} from {word}" + (f"; {each.known} known already." if each.known else ".")
        for word, each in done.items()
    ]
    return Said({word: asdict(each) for word, each in done.items()}, Text("\n".join(lines)))


def _counted(done: Transferred | Report) -> str:
    counts = {"result": done.results, "artifact": done.artifacts, "job": done.jobs}
    return ", ".join(_number(n, word) for word, n in counts.items() if n) or "nothing"


def _number(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _path(opened: Store, words: Sequence[str], option: bool) -> Said:
    if not words:
        record = {"store": opened.place, "files": str(opened.files)}
        return Said(record, Text(opened.place))
    paths = [str(opened.path(word)) for word in words]
    return Said({"paths": paths}, Text("\n".join(paths)))


ACTIONS: dict[str, Callable[[Store, Sequence[str], bool], Said]] = {
    "list": _list,
    "check": _check,
    "gc": _gc,
    "export": _export,
    "import": _import,
    "path": _path,
}


def _action(name: str) -> Callable[[Store, Sequence[str], bool], Said]:
    if name not in ACTIONS:
        raise ParameterError(f"there is no action {name!r};", nearest(name, ACTIONS), "Write cutaway store check.")
    return ACTIONS[name]


def _refuse_options(action: str, **given: bool) -> None:
    owners = {"repair": "check", "damaged": "gc"}
    for option, said in given.items():
        if said and action != owners[option]:
            raise ParameterError(f"--{option} is of no use to {action};", f"it belongs to {owners[option]}.")


def _refuse_words(action: str, words: Sequence[str]) -> None:
    if words:
        raise ParameterError(f"{action} was given {words[0]!r};", "it takes no words: it looks at the whole store.")
