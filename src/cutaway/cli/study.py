"""What do the papers of the field say, and what comes out here? `cutaway study ACTION`.

`list` and `report` read what is kept; `run` runs one study, keeps its record, and shows each claim with the paper's figure
and ours. A run that is stopped goes on where it was with the same command.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.core.errors import Cancelled, ParameterError, StoreError, nearest

if TYPE_CHECKING:
    from cutaway.core.claim import Claim
    from cutaway.core.result import Result
    from cutaway.runtime.studies import Outcome, Prepared
    from cutaway.studies.report import Standing

ACTIONS = ("list", "show", "run", "train", "report")
_NAMED = ("show", "run", "train")
_COLOURS = {
    "reproduced": "bold green",
    "same phenomenon at small scale": "green",
    "not reproduced": "bold red",
    "not tested here": "dim",
}


def study(
    action: Annotated[str, typer.Argument(metavar="ACTION", hidden=True)],
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)] = "",
    scale: Annotated[str, typer.Option("--scale", metavar="SCALE", help="tiny, small or paper.")] = "small",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Draws everything that is drawn.")] = 0,
    model: Annotated[
        str,
        typer.Option("--model", "-m", metavar="NAME", help="run: another model, at small scale. See `cutaway models`."),
    ] = "",
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="NAME", help="float32, bfloat16, float16.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="run: forget the steps of a stopped run.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="show, run, report: write one page.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Run the study of a paper, or see what became of all of them.

    ACTION: list, show NAME, run NAME, train NAME, report. NAME is one of `cutaway study list`.

    run shows each claim with the paper's figure and ours; stopped, it goes on with the same command.

    train only makes the models that a study needs; report is one page with all papers.

    [dim]In seconds:[/] cutaway study run wang2022_ioi --scale tiny

    [dim]All papers:[/] cutaway study report --html studies.html
    """
    _refuse(action, name, html)
    if model and action != "run":
        raise ParameterError(f"{action} was given --model {model};", "only run measures a model.", "Leave it out.")
    match action:
        case "list" | "report":
            _all(action, html, as_json)
        case "show":
            _show(name, html, as_json)
        case "train":
            _train(name, {"scale": scale, "seed": seed, "options": {"device": device, "dtype": dtype}}, as_json)
        case _:
            options = {"device": device, "dtype": dtype}
            choices = {"scale": scale, "seed": seed, "model": model, "fresh": fresh, "options": options}
            _run(name, choices, html, as_json)


def _refuse(action: str, name: str, html: Path | None) -> None:
    if action not in ACTIONS:
        raise ParameterError(f"there is no action {action!r};", nearest(action, ACTIONS), "Write cutaway study list.")
    if action in _NAMED and not name:
        raise ParameterError(
            f"{action} was given no name;", "it is about one study.", "`cutaway study list` shows their names."
        )
    if action not in _NAMED and name:
        raise ParameterError(
            f"{action} was given {name!r};", "it is about all studies.", f"Write cutaway study show {name}."
        )
    if html is not None and not html.absolute().parent.is_dir():
        raise StoreError(f"the folder {html.parent} does not exist;", "a page is written into one.", "Make it first.")


# --- all studies -------------------------------------------------------------------------------------------------


def _all(action: str, html: Path | None, as_json: bool) -> None:
    from cutaway.runtime.study_records import records
    from cutaway.studies.report import standings

    found = standings(records())
    if as_json:
        typer.echo(_dumped([as_record(standing) for standing in found]))
    else:
        Console(highlight=False).print(_listed(found) if action == "list" else _report(found))
    if html is not None:
        from cutaway.studies.pages import html_report

        _write(html, html_report(found))


def as_record(standing: Standing) -> dict[str, Any]:
    """A paper with its study, status and claims as JSON values."""
    from dataclasses import asdict

    from cutaway.runtime.study_records import claim_json

    return {
        **asdict(standing.paper),
        "methods": [{"name": name, "exists": exists} for name, exists in standing.methods],
        "study": standing.study.name if standing.study else None,
        "status": standing.status,
        "scale": standing.record.scale if standing.record else None,
        "verdicts": standing.verdicts,
        "stale": standing.stale,
        "claims": [claim_json(claim) for claim in standing.claims],
    }


def _listed(found: list[Standing]) -> RenderableType:
    from cutaway.studies.report import standing_in_words, totals

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for standing in found:
        name = standing.study.name if standing.study else ""
        year = f", {standing.paper.year}" if standing.paper.year else ""
        cell = Text(standing.paper.question).append(f"\n{standing.paper.title}{year}", "dim")
        cell.append(f"  ·  {standing_in_words(standing)}", "dim" if standing.record is None else "")
        item = Text(standing.paper.item)
        table.add_row(item, Text(name, style="cyan").append("\n" if name else "").append_text(cell))
    counts = ", ".join(f"{n} {what}" for what, n in totals(found).items() if n)
    hint = Text("Run one: cutaway study run NAME", style="dim")
    return Group(Text.assemble(("Papers", "bold"), (f"  {counts}", "dim")), table, Text(), hint)


def _report(found: list[Standing]) -> RenderableType:
    parts: list[RenderableType] = []
    for standing in found:
        parts += [_head(standing), *([claims_table(standing.claims)] if standing.claims else []), Text()]
    return Group(*parts)


# --- one study ---------------------------------------------------------------------------------------------------


def _show(name: str, html: Path | None, as_json: bool) -> None:
    from cutaway.core.result import Result
    from cutaway.runtime.study_records import picture_of, records
    from cutaway.studies.report import standing_of

    standing = standing_of(name, records())
    file = picture_of(standing.record) if standing.record else None
    picture = Result.load(file) if file else None
    if as_json:
        from cutaway.runtime.study_records import as_json as record_json

        record = record_json(standing.record) if standing.record else None
        typer.echo(_dumped({**as_record(standing), "record": record}))
    else:
        _print(standing, picture)
    if html is not None:
        _write_study(html, standing, picture)


def _run(name: str, choices: dict[str, Any], html: Path | None, as_json: bool) -> None:
    from cutaway.runtime.progress import watched
    from cutaway.runtime.studies import carry_out, prepare

    prepared = prepare(name, **choices)
    console = Console(stderr=True, highlight=False)
    console.print(_announced(prepared), style="dim", soft_wrap=True)
    try:
        with watched():
            outcome = carry_out(prepared)
    except (Cancelled, KeyboardInterrupt) as stopped:
        raise Cancelled(f"Stopped. {_left(prepared)}") from stopped
    except Exception:
        console.print(_left(prepared), soft_wrap=True)
        raise
    standing = _of_outcome(prepared, outcome)
    if as_json:
        from cutaway.runtime.study_records import as_json as record_json

        typer.echo(_dumped({"study": outcome.record.study, **record_json(outcome.record)}))
    else:
        _print(standing, outcome.findings.result)
        kept = f"Recorded in {outcome.record.place}." if outcome.written else "A tiny run tests no claim: no record."
        console.print(kept, style="dim", soft_wrap=True)
    if html is not None:
        _write_study(html, standing, outcome.findings.result)


def _train(name: str, choices: dict[str, Any], as_json: bool) -> None:
    from cutaway.runtime.progress import watched
    from cutaway.runtime.studies import prepare, train

    prepared = prepare(name, **choices)
    with watched():
        trained = train(prepared)
    if as_json:
        typer.echo(
            _dumped([{"name": each["name"], "seconds": each["seconds"], "kept": each["kept"]} for each in trained])
        )
        return
    console = Console(highlight=False)
    if not trained:
        console.print(f"{name} trains no model.")
    for each in trained:
        how = "was kept from before" if each["kept"] else f"took {each['seconds']:.0f} s"
        console.print(f"{each['name']}: {how}")


def claims_table(claims: tuple[Claim, ...]) -> RenderableType:
    """Each claim with the paper's figure, ours, the control and the verdict."""
    from cutaway.studies.report import control, ours, theirs

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading, ratio in (("claim", 5), ("paper", 2), ("ours", 2), ("control", 2), ("verdict", 3)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for claim in claims:
        sentence = Text(claim.sentence).append(f" ({claim.criterion})", "dim")
        said = Text(claim.verdict, style=_COLOURS[claim.verdict])
        table.add_row(sentence, Text(theirs(claim)), Text(ours(claim)), Text(control(claim)), said)
    return table


def _elsewhere(standing: Standing) -> RenderableType:
    """The figures and verdicts on other models than the scale's own."""
    from cutaway.studies.report import elsewhere

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("on other models", ratio=2, overflow="fold")
    for record in standing.others:
        table.add_column(record.model, ratio=1, overflow="fold")
    for said, each in elsewhere(standing):
        cells = (Text(f"{figure}\n").append(verdict, style=_COLOURS[verdict]) for figure, verdict in each)
        table.add_row(Text(said), *cells)
    return table


def _head(standing: Standing) -> RenderableType:
    from cutaway.studies.report import about

    title = Text.assemble((f"{standing.paper.item} ", "dim"), (standing.paper.title, "bold"))
    if standing.study is not None:
        title.append(f"  {standing.study.name}", "cyan")
    return Group(title, *(Text(line, style="" if i == 0 else "dim") for i, line in enumerate(about(standing))))


def _print(standing: Standing, picture: Result | None) -> None:
    console = Console(highlight=False)
    console.print(_head(standing))
    console.print()
    if standing.claims:
        console.print(claims_table(standing.claims))
        console.print()
    if standing.others:
        console.print(_elsewhere(standing))
        console.print()
    if picture is not None:
        picture.show("terminal")
    if standing.record is not None:
        console.print(Text.assemble(("What differs: ", "bold"), standing.record.differs))
        console.print(Text(_machine(standing.record), style="dim"))
        console.print(Text.assemble(("Repeat: ", "dim"), standing.record.command), soft_wrap=True)


def _machine(record: Any) -> str:
    models = ", ".join(dict.fromkeys(str(model["name"]) for model in record.models)) or "no model"
    kept = sum(bool(step["kept"]) for step in record.steps)
    resumed = f" · {kept} of {len(record.steps)} steps kept from before" if kept else ""
    return f"{models} · seed {record.seed} · {record.device} · {record.seconds:.1f} s · {record.date}{resumed}"


def _of_outcome(prepared: Prepared, outcome: Outcome) -> Standing:
    from dataclasses import replace

    from cutaway.studies.report import standing_of

    found = standing_of(prepared.entry.name, {})
    scales = (outcome.record.scale,)
    return replace(found, scales=scales, record=outcome.record, claims=outcome.record.claims)


def _announced(prepared: Prepared) -> str:
    seconds = prepared.study.seconds.get(prepared.scale)
    about = f" It takes about {_duration(seconds)} on two cores." if seconds else ""
    before = prepared.before
    goes_on = f" Going on after {len(before)} finished steps ({', '.join(before)})." if before else ""
    model = f", on {prepared.model}" if prepared.model else ""
    return f"{prepared.entry.name} at {prepared.scale} scale{model}, seed {prepared.seed}.{about}{goes_on}"


def _left(prepared: Prepared) -> str:
    before = prepared.before
    if not before:
        return f"No step was finished; {prepared.command} begins anew."
    return f"Kept: {', '.join(before)}. Go on with {prepared.command}, or begin anew with --fresh."


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def _write_study(path: Path, standing: Standing, picture: Result | None) -> None:
    from cutaway.studies.pages import html_of_study

    _write(path, html_of_study(standing, picture))


def _write(path: Path, page: str) -> None:
    from cutaway.store.atomic import write_bytes

    write_bytes(path, page.encode())
    Console(stderr=True, highlight=False).print(f"Wrote {path}.", style="dim", soft_wrap=True)


def _dumped(value: Any) -> str:
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """The value with the numbers that JSON does not know as null."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value
