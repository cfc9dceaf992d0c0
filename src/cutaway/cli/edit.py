"""What is in an edit, and how is it made or taken back? `cutaway edit ACTION FILE`.

An edit is a file of kind `weights`, as `cutaway run rome … --artifact FILE` writes it: the bits of the changed weights
before and after. Making and undoing it copies those bits, and is refused on any other weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cutaway.core.errors import ParameterError, nearest

if TYPE_CHECKING:
    from cutaway.core.artifact import Artifact

ACTIONS = ("show", "apply", "undo")


def edit(
    action: Annotated[str, typer.Argument(metavar="ACTION", hidden=True)],
    file: Annotated[Path, typer.Argument(metavar="FILE", hidden=True)],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help="See `cutaway models`; undo: the edited folder.")
    ] = "smollm2",
    save: Annotated[Path | None, typer.Option("--save", metavar="FOLDER", help="A new folder for the model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show, make or undo an edit of a model's weights.

    ACTION: show FILE, apply FILE, undo FILE. FILE is what `cutaway run rome … --artifact FILE` wrote.

    apply and undo open the model, check that its weights are those that the edit was made for, and save it.

    [dim]Make it:[/] cutaway edit apply rome.safetensors --save edited

    [dim]Take it back, bit for bit:[/] cutaway edit undo rome.safetensors -m edited --save restored
    """
    from cutaway.core.artifact import Artifact
    from cutaway.models.weight_edit import changes_of  # torch

    if action not in ACTIONS:
        raise ParameterError(
            f"there is no action {action!r};", nearest(action, ACTIONS), "Write cutaway edit show FILE."
        )
    artifact = Artifact.load(file)
    changes_of(artifact)  # refuses what is no edit
    record = record_of(artifact)
    if action != "show":
        record |= {"action": action, "model": model, "edits": _changed(action, artifact, model, save)}
        record["saved"] = str(save) if save else None
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    else:
        Console(highlight=False).print(_page(record))


def record_of(artifact: Artifact) -> dict[str, Any]:
    """What is in an edit, as JSON values."""
    about = dict(artifact.about)
    return {
        "id": artifact.id,
        "made_for": about.get("model", ""),
        "method": about.get("method", ""),
        "layers": about.get("layers", []),
        "facts": about.get("facts", []),
        "parameters": about.get("parameters", {}),
    }


def _changed(action: str, artifact: Artifact, model: str, save: Path | None) -> list[str]:
    """Make or undo the edit, save the model; the edits that it carries then."""
    from cutaway.core.parameters import to_text
    from cutaway.models import edited, weight_edit
    from cutaway.runtime.progress import watched

    if save is None:
        raise ParameterError(
            f"{action} was asked for without a place for the model;",
            "the model that was opened is never written to.",
            f"Write --save {to_text('edited' if action == 'apply' else 'restored')}.",
        )
    dtype = str(next(iter(artifact.tensors.values())).dtype).removeprefix("torch.")
    with watched():
        opened = edited.open_edited(model, dtype=dtype, device="cpu")
        (weight_edit.apply if action == "apply" else weight_edit.undo)(opened, artifact)
        edited.save(opened, save)
    return list(weight_edit.ledger(opened))


def _page(record: dict[str, Any]) -> Group:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("weights", "size of the change", "before", "after"):
        table.add_column(name, overflow="fold", justify="right" if "size" in name else "left")
    for name, each in record["parameters"].items():
        relative = each["norm_of_the_change"] / max(each["norm_before"], 1e-30)
        table.add_row(name, f"{relative:.3g}", each["before"][:12], each["after"][:12])
    facts = [Text(f"  {fact['prompt']}{fact['answer']}") for fact in record["facts"]]
    heading = Text.assemble(
        (f"Edit {record['id'][:12]}", "bold"), f" by {record['method']}, made for {record['made_for']}"
    )
    said: list[Any] = [heading, *facts, table]
    if "action" in record:
        done = "Made" if record["action"] == "apply" else "Undone, bit for bit,"
        carried = ", ".join(each[:12] for each in record["edits"]) or "none"
        said.append(Text(f"{done} in {record['model']}; saved in {record['saved']}. Edits that it carries: {carried}."))
    return Group(*said)
