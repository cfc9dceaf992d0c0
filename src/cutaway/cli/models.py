"""What can be opened here and now? `cutaway models` lists it, and says what to install for the rest."""

from __future__ import annotations

import json as encoding
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from cutaway.models.weights import Entry


def models(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read the cache through and check sums.")] = False,
) -> None:
    """List the models that open here and now, and what to install for the others."""
    from rich.console import Console

    from cutaway.models.weights import ALIASES, cache_folder, inventory

    entries = inventory()
    faults = damaged() if verify else {}
    if json:
        listed = [asdict(entry) for entry in entries]
        record = {"cache": str(cache_folder()), "models": listed, "damaged": faults}
        typer.echo(encoding.dumps(record, indent=2))
    else:
        console = Console(soft_wrap=False)
        console.print(table(entries))
        for entry in entries:
            if entry.install:
                other = f"hf download {ALIASES[entry.name].hub}"
                console.print(f"{entry.name} comes with [bold]{entry.install}[/bold], or {other}")
        for folder, fault in faults.items():
            console.print(f"damaged: {folder}: {fault}; it is converted again when it is opened")
    if faults:
        raise typer.Exit(1)


def damaged() -> dict[str, str]:
    """The converted folders in the cache whose files do not have their recorded sums, and how so."""
    from cutaway.models.weights import LAYOUT, cache_folder, fault

    folders = sorted(cache_folder().glob(f"gguf-*-v{LAYOUT}"))
    return {str(folder): wrong for folder in folders if (wrong := fault(folder, full=True))}


def table(entries: list[Entry]) -> Table:
    """The entries as a table for the terminal."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "opens", "size", "from", "what it is"):
        drawn.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    for entry in entries:
        style = "dim" if entry.status == "absent" else ""
        drawn.add_row(entry.name, entry.status, size(entry.bytes), entry.where, entry.about, style=style)
    return drawn


def size(count: int) -> str:
    """Bytes for a reader: 538 MB.

    >>> size(538090432)
    '538 MB'
    """
    if not count:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
