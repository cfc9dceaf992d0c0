"""How is a method run from the command line? `cutaway run METHOD --task ioi top=3`.

Everything is checked before the model is opened; the result is drawn in the terminal, kept where `--out`
says, and the command that repeats it is printed, also for a run whose words came from a script.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cutaway.cli.list import details
from cutaway.core import parameters, registry
from cutaway.core.errors import StoreError
from cutaway.core.provenance import command_line

if TYPE_CHECKING:
    from cutaway.core.result import Result
    from cutaway.runtime.run import Prepared

_ASKED, _KEPT, _MODEL = "What is asked", "What becomes of it", "The model"


def _option(*names: str, metavar: str, help: str, group: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=group)


Texts = list[str] | None
Method = Annotated[str, typer.Argument(metavar="METHOD", hidden=True)]
Words = Annotated[Texts, typer.Argument(metavar="KEY=VALUE", hidden=True)]
Model = Annotated[str, _option("--model", "-m", metavar="NAME", help="See `cutaway models`.", group=_MODEL)]
Device = Annotated[str | None, _option("--device", metavar="NAME", help="cpu, cuda, cuda:1 or mps.", group=_MODEL)]
Dtype = Annotated[str | None, _option("--dtype", metavar="NAME", help="float32, bfloat16 or float16.", group=_MODEL)]
Edits = Annotated[
    list[Path] | None,
    _option("--edit", metavar="FILE", help="Edited weights to put in; may be repeated.", group=_MODEL),
]
TaskName = Annotated[
    str | None, _option("--task", "-t", metavar="NAME", help="See `cutaway list tasks`.", group=_ASKED)
]
Prompt = Annotated[
    Texts,
    _option("--prompt", "-p", metavar="TEXT", help="Your own, instead of a task; may be repeated.", group=_ASKED),
]
Contrast = Annotated[
    Texts, _option("--contrast", metavar="TEXT", help="The prompt with one thing changed.", group=_ASKED)
]
Answer = Annotated[
    Texts,
    _option("--answer", metavar="TEXT", help='How it goes on: " Mary"; several: " a| b".', group=_ASKED),
]
Wrong = Annotated[Texts, _option("--wrong", metavar="TEXT", help="How it does not go on.", group=_ASKED)]
File = Annotated[
    Path | None, _option("--file", "-f", metavar="FILE", help="Prompts as CSV or JSON lines.", group=_ASKED)
]
Metric = Annotated[
    str | None, _option("--metric", metavar="NAME", help="The score, such as logit_difference.", group=_ASKED)
]
Out = Annotated[
    list[Path] | None,
    _option("--out", "-o", metavar="FILE", help="Keep it: .nc .json .csv .svg .png .html.", group=_KEPT),
]
ArtifactFile = Annotated[
    Texts,
    _option("--artifact", metavar="FILE", help="Keep what it learned: .safetensors, or NAME=FILE.", group=_KEPT),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, not pictures.", rich_help_panel=_KEPT)]
Help = Annotated[bool, typer.Option("--help", "-h", help="Show this, or all about METHOD.")]


def run(
    context: typer.Context,
    method: Method = "",
    words: Words = None,
    model: Model = "smollm2",
    device: Device = None,
    dtype: Dtype = None,
    edit: Edits = None,
    task: TaskName = None,
    prompt: Prompt = None,
    contrast: Contrast = None,
    answer: Answer = None,
    wrong: Wrong = None,
    file: File = None,
    metric: Metric = None,
    out: Out = None,
    artifact: ArtifactFile = None,
    as_json: AsJson = False,
    show_help: Help = False,
) -> None:
    """Run a method on a model and a task.

    METHOD is one of `cutaway list methods`; KEY=VALUE is a parameter: top=3 of it, task.n=20 of the task.

    [dim]On a task:[/] cutaway run logit_lens --task ioi task.n=20 top=3

    [dim]On your words:[/] cutaway run logit_lens -p "The capital of France is"

    [dim]All about a method:[/] cutaway run logit_lens --help
    """
    if show_help or not method:
        _help(context, method)
        raise typer.Exit
    from cutaway.cli.artifact_files import asked_for, written
    from cutaway.runtime.run import Prompts, prepare  # numpy, xarray

    prompts = Prompts(tuple(prompt or ()), tuple(contrast or ()), tuple(answer or ()), tuple(wrong or ()), file, metric)
    prepared = prepare(method, words or (), task, prompts)
    _refuse_unwritable(out or ())
    wanted = asked_for(artifact or ())
    result = _result(method, prepared, model, {"device": device, "dtype": dtype}, edit or ())
    for path in out or ():
        result.save(path)
    learned = written(result.artifacts, wanted, method)
    _say(result, [*(out or ()), *learned], as_json=as_json)


def _help(context: typer.Context, method: str) -> None:
    if method:
        Console(highlight=False).print(details(registry.find("method", method)))
    else:
        context.get_help()


def _result(
    name: str, prepared: Prepared, model: str, options: Mapping[str, str | None], edits: Sequence[Path]
) -> Result:
    """The result, which is told the command as it was typed: the model and the method as they were named."""
    from cutaway.models.edited import open_edited  # torch, transformers
    from cutaway.models.open import open
    from cutaway.runtime.progress import watched

    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    with watched():
        opened = open_edited(model, edits, **given) if edits else open(model, **given)
        result = prepared.method(opened, prepared.task, **prepared.parameters)
    chosen = parameters.chosen(prepared.method.function, prepared.parameters)
    files = registry.loose_files()
    command = command_line(
        name, model, prepared.task, chosen, options={**given, "edit": [str(path) for path in edits]}, plugins=files
    )
    return replace(result, provenance={**result.provenance, "command": command})


def _refuse_unwritable(paths: Sequence[Path]) -> None:
    """Find out before the work and not after it."""
    known = {end: entry for entry in registry.entries("format") for end in entry.facts.get("suffixes") or ()}
    for path in paths:
        if path.suffix not in known:
            expected = f"the suffixes are {', '.join(sorted(known))}."
            raise StoreError(f"the file {path} ends in {path.suffix!r};", expected, f"Write --out {path.stem}.nc.")
        if not path.absolute().parent.is_dir():
            raise StoreError(
                f"the folder {path.parent} does not exist;", "a file is written into one.", "Make it first."
            )


def _say(result: Result, kept: Sequence[Path], *, as_json: bool) -> None:
    console = Console(stderr=as_json, highlight=False)
    if as_json:
        from cutaway.store.records import record_of

        typer.echo(json.dumps(record_of(result), indent=1, allow_nan=False))
    else:
        result.show("terminal")
    for path in kept:
        again = f"; cutaway show {path} draws it again" if path.suffix in (".nc", ".json") else ""
        console.print(Text(f"Kept in {path}{again}.", style="dim"), soft_wrap=True)
    if result.provenance["command"]:
        console.print(Text.assemble(("Repeat: ", "dim"), result.provenance["command"]), soft_wrap=True)
