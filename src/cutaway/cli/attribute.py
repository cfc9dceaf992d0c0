"""Which words mattered? `cutaway attribute PROMPT`: a map of the words, with its test beside it."""

from __future__ import annotations

import json as _json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.core.errors import Cancelled, ParameterError, StoreError, nearest

if TYPE_CHECKING:
    from cutaway.core.result import Result
    from cutaway.models.model import Model

_ASKED, _KEPT, _MODEL = "What is asked", "What becomes of it", "The model"


def _option(*names: str, metavar: str, help: str, group: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=group)


Text = str | None
File = Path | None


def attribute(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text whose words are weighed.")] = "",
    words: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", hidden=True)] = None,
    continuation: Annotated[
        Text, _option("--continuation", "-c", metavar="TEXT", help="Explain each token of this text.", group=_ASKED)
    ] = None,
    generate: Annotated[
        int, _option("--generate", "-g", metavar="N", help="Let the model write N tokens first.", group=_ASKED)
    ] = 0,
    method: Annotated[
        Text, _option("--method", metavar="NAME", help="integrated_gradients, saliency, …, or compare.", group=_ASKED)
    ] = None,
    score: Annotated[
        Text, _option("--score", metavar="NAME", help="probability, logit, kl, …: what is explained.", group=_ASKED)
    ] = None,
    contrast: Annotated[
        Text,
        _option("--contrast", metavar="TEXT", help="Another prompt: show what its words do differently.", group=_ASKED),
    ] = None,
    foil: Annotated[
        Text, _option("--foil", metavar="TEXT", help="Why the continuation and not this?", group=_ASKED)
    ] = None,
    answer: Annotated[
        Text, _option("--answer", "-a", metavar="WORD", help="Explain this next word.", group=_ASKED)
    ] = None,
    group: Annotated[
        str, _option("--group", metavar="PIECE", help="token, word, sentence or chunk.", group=_ASKED)
    ] = "token",
    faithful: Annotated[
        bool, typer.Option("--faithfulness", help="Test the map in full.", rich_help_panel=_ASKED)
    ] = False,
    file: Annotated[
        File,
        _option("--file", "-f", metavar="FILE", help="Prompts as CSV or JSON lines, to --out-folder.", group=_ASKED),
    ] = None,
    inseq: Annotated[
        File, _option("--inseq", metavar="FILE", help="Show an attribution that Inseq saved.", group=_ASKED)
    ] = None,
    html: Annotated[
        File, _option("--html", metavar="FILE", help="One page that needs no network.", group=_KEPT)
    ] = None,
    json: Annotated[File, _option("--json", metavar="FILE", help="Every number as JSON.", group=_KEPT)] = None,
    latex: Annotated[File, _option("--latex", metavar="FILE", help="Coloured tokens for a paper.", group=_KEPT)] = None,
    out: Annotated[File, _option("--out", "-o", metavar="FILE", help=".nc .svg .png .csv …", group=_KEPT)] = None,
    out_folder: Annotated[
        File, _option("--out-folder", metavar="FOLDER", help="A result for each prompt of --file.", group=_KEPT)
    ] = None,
    jobs: Annotated[
        int, _option("--jobs", "-j", metavar="N", help="Processes for --file; each opens the model.", group=_KEPT)
    ] = 1,
    model: Annotated[
        str, _option("--model", "-m", metavar="NAME", help="See `cutaway models`.", group=_MODEL)
    ] = "smollm2",
    device: Annotated[Text, _option("--device", metavar="NAME", help="cpu, cuda, cuda:1 or mps.", group=_MODEL)] = None,
    dtype: Annotated[
        Text, _option("--dtype", metavar="NAME", help="float32, bfloat16 or float16.", group=_MODEL)
    ] = None,
) -> None:
    """Weigh the words of a prompt for what the model writes, and test the map.

    KEY=VALUE is a parameter of the method: steps=50.

    [dim]Simplest:[/] cutaway attribute "The capital of France is"

    [dim]Each word that follows:[/] cutaway attribute "The capital of France is" -c " Paris, of course"

    [dim]Which method to trust:[/] cutaway attribute "The capital of France is" --method compare
    """
    if prompt and (file is not None or inseq is not None):  # there is no PROMPT then: the first word is a parameter
        prompt, words = "", [prompt, *(words or ())]
    _refuse(prompt, file, out_folder, inseq, jobs)
    _refuse_unwritable(html, json, latex, out)
    files = {".html": html, ".json": json, ".tex": latex, "": out}
    if inseq is not None:
        from cutaway.methods.attribution_inseq import from_inseq

        _written(_grouped(from_inseq(inseq), group), files)
        return
    given = {"score": score, "continuation": continuation, "generate": generate or None, "foil": foil}
    asked = {name: value for name, value in given.items() if value is not None}
    name = _method(method, contrast, faithful)
    values = _parameters(name, method, words or (), asked, contrast)
    options = {key: value for key, value in (("device", device), ("dtype", dtype)) if value}
    if file is not None:
        _all(model, options, file, out_folder, name, values, jobs)
        return
    from cutaway.models.open import open
    from cutaway.runtime.progress import watched

    with watched():
        result = _asked(open(model, **options), name, prompt, answer, values)  # type: ignore[arg-type]
    _written(_grouped(result, group), files)


_COMPARE = "compare_attributions"


def _refuse(prompt: str, file: Path | None, folder: Path | None, inseq: Path | None, jobs: int) -> None:
    if sum((bool(prompt.strip()), file is not None, inseq is not None)) != 1:
        raise ParameterError(
            "one of PROMPT, --file and --inseq is needed;",
            "they say whose words are weighed.",
            'For example: cutaway attribute "The capital of France is"',
        )
    if (file is None) != (folder is None):
        raise ParameterError(
            "--file and --out-folder go together;",
            "each prompt of the file gets a result in the folder.",
            "Write cutaway attribute --file prompts.csv --out-folder maps",
        )
    if file is None and jobs != 1:
        raise ParameterError(
            f"--jobs {jobs} was given without --file;",
            "processes share the prompts of a file.",
            "Leave it out, or write --file prompts.csv --out-folder maps",
        )


def _refuse_unwritable(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise StoreError(
                f"{path} cannot be written: there is no folder {str(path.parent)!r}.",
                "",
                f"Make it first: mkdir -p {path.parent}",
            )


def _method(method: str | None, contrast: str | None, faithful: bool) -> str:
    """The method that is run: the map itself, or one that works on maps."""
    if method == "compare":
        return _COMPARE
    if contrast is not None:
        return "contrast_attributions"
    return "faithfulness" if faithful else (method or "integrated_gradients").replace("-", "_")


def _parameters(
    name: str, method: str | None, words: list[str] | tuple[str, ...], asked: Mapping[str, Any], contrast: str | None
) -> dict[str, Any]:
    """All parameters, those typed as KEY=VALUE read by the method's own rules."""
    from typing import get_args

    from cutaway.core import registry
    from cutaway.methods.attribute.maps import MapName

    if name not in (*get_args(MapName), _COMPARE, "contrast_attributions", "faithfulness"):
        guess = nearest(name, get_args(MapName))
        raise ParameterError(f"there is no attribution {name!r};", guess, "`cutaway list methods` shows all.")
    typed = dict(word.partition("=")[::2] for word in words)
    read: dict[str, Any] = registry.get("method", name).parse(typed)
    values = {key: value for key, value in read.items() if key in {typed_key.replace("-", "_") for typed_key in typed}}
    if name in ("contrast_attributions", "faithfulness") and method:
        values["of"] = method.replace("-", "_")
    if contrast is not None:
        values["other"] = contrast
    return {**values, **asked}


def _asked(opened: Model, name: str, prompt: str, answer: str | None, values: Mapping[str, Any]) -> Result:
    from cutaway.core import registry
    from cutaway.core.task import Task

    task = Task.from_prompts([prompt], answers=[answer] if answer else None)
    result: Result = registry.get("method", name)(opened, task, **values)
    return result


def _all(
    model: str,
    options: Mapping[str, str],
    file: Path,
    folder: Path | None,
    name: str,
    values: Mapping[str, Any],
    jobs: int,
) -> None:
    from cutaway.runtime.attribute_dataset import ROWS, attribute_dataset
    from cutaway.runtime.progress import watched

    assert folder is not None
    try:
        with watched():
            rows = attribute_dataset(model, file, folder, method=name, jobs=jobs, options=options, **values)
    except (Cancelled, KeyboardInterrupt) as stopped:
        raise Cancelled(f"Stopped. What is finished is in {folder}; the same command goes on.") from stopped
    failed = [row for row in rows if row.error]
    old = sum(row.found for row in rows)
    typer.echo(f"{len(rows) - len(failed)} results in {folder}" + (f", {old} of them from before." if old else "."))
    if failed:
        few = f"{len(failed)} of {len(rows)} rows failed, see {folder / ROWS}; row {failed[0].row}: {failed[0].error}"
        typer.echo(few, err=True)
        raise typer.Exit(1)


def _grouped(result: Result, group: str) -> Result:
    if group == "token":
        return result
    from cutaway.methods.attribution_aggregation import aggregated

    return aggregated(result, by=group)  # type: ignore[arg-type]


def _written(result: Result, files: Mapping[str, Path | None]) -> None:
    result.show("terminal")
    for kind, path in files.items():
        if path is None:
            continue
        if kind == ".json":
            from cutaway.store.atomic import write_bytes
            from cutaway.store.records import record_of

            write_bytes(path, _json.dumps(record_of(result), ensure_ascii=False, indent=1).encode("utf-8"))
        elif kind == ".tex":
            from cutaway.core import registry
            from cutaway.store.atomic import write_bytes

            write_bytes(path, registry.get("renderer", "latex")(result).encode("utf-8"))
        else:
            result.save(path)
        typer.echo(f"Written: {path}")
