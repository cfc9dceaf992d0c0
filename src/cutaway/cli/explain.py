"""Why did the model say that? `cutaway explain PROMPT`: one prediction explained, and the explanation tested."""

from __future__ import annotations

import json as _json
from pathlib import Path
from typing import Annotated, Any

import typer

from cutaway.core.errors import StoreError, TaskError


def explain(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text whose next word is explained.")],
    instead: Annotated[
        str | None,
        typer.Option("--instead", "-i", metavar="TEXT", help="The prompt with one thing changed, as many tokens long."),
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option("--answer", "-a", metavar="WORD", help="Explain this word, not the model's own next one."),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", metavar="NAME", help="See `cutaway models`.")] = "smollm2",
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the report as one page that needs no network."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every number as JSON.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws the random controls.")] = 0,
    controls: Annotated[
        int, typer.Option("--controls", min=5, help="Random sets that each claim is held against.")
    ] = 20,
    limit: Annotated[int, typer.Option("--limit", min=2, help="Tokens that a prompt may have.")] = 512,
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="NAME", help="float32, bfloat16 or float16.")] = None,
    edit: Annotated[
        list[Path] | None,
        typer.Option("--edit", metavar="FILE", help="Edited weights to put in; may be repeated."),
    ] = None,
) -> None:
    """Explain why a model predicts the next word, and test the explanation.

    [dim]Simplest:[/] cutaway explain "The capital of France is"

    [dim]With a contrast:[/] cutaway explain "The capital of France is" --instead "The capital of Italy is"
    """
    if not prompt.strip():
        raise TaskError(
            "The prompt is empty.",
            "It has one word or more.",
            'For example: cutaway explain "The capital of France is"',
        )
    _refuse_unwritable(html, json)
    from cutaway.apps.explanation import explain as explained  # torch, transformers
    from cutaway.models.edited import open_edited
    from cutaway.models.open import open
    from cutaway.runtime.progress import watched

    given: dict[str, Any] = {key: value for key, value in (("device", device), ("dtype", dtype)) if value is not None}
    with watched():
        opened = open_edited(model, edit, **given) if edit else open(model, **given)
        found = explained(opened, prompt, instead=instead, answer=answer, seed=seed, controls=controls, limit=limit)
    found.show()
    for path, suffix in ((html, ".html"), (json, ".json")):
        if path is not None:
            from cutaway.apps.explanation import report

            content = found.html() if suffix == ".html" else _json.dumps(found.record(), ensure_ascii=False, indent=1)
            report.write(path, content)
            typer.echo(f"Written: {path}")


def _refuse_unwritable(*paths: Path | None) -> None:
    """Find out before the work and not after it."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise StoreError(
                f"{path} cannot be written: there is no folder {str(path.parent)!r}.",
                "",
                f"Make it first: mkdir -p {path.parent}",
            )
