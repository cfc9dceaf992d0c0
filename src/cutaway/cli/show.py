"""How do I look at a result that was saved? `cutaway show FILE`, in the terminal or as a file.

Limits: a place given with `--at` holds for every view that has the dimension.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.core.errors import ParameterError

if TYPE_CHECKING:
    from cutaway.core.result import Result
    from cutaway.core.view import Place, View


def show(
    file: Annotated[Path, typer.Argument(help="A result that was saved, as .nc or .json.")],
    view: Annotated[int | None, typer.Argument(help="Number of the one view to show, from 0.")] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(help="Where to stand in a dimension that is not shown, as layer=3. Repeat it for more."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that needs no network.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the pictures as SVG.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the pictures as PNG.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the numbers as a long table.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write all of the result as JSON.")] = None,
) -> None:
    """Show a saved result: in the terminal, or written to files."""
    from cutaway.core.result import Result

    result = standing_at(Result.load(file), at or [])
    wanted = {"html": html, "svg": svg, "png": png, "csv": csv, "json": json}
    written = [write(result, suffix, path, view) for suffix, path in wanted.items() if path is not None]
    if not written:
        result.show("terminal", view)
    for path in written:
        typer.echo(f"wrote {path}")


def standing_at(result: Result, places: list[str]) -> Result:
    """The result with its views at other places, given as `dimension=place`.

    Raises:
        ParameterError: a place that is not written so, or that no view can stand at.
    """
    from dataclasses import replace

    chosen = dict(map(_place, places))
    for dim in chosen:
        if not any(dim in view.at for view in result.views):
            known = sorted({name for view in result.views for name in view.at})
            raise ParameterError(
                f"no view of this result stands at a place in {dim!r};",
                f"they stand in: {', '.join(known) or 'no dimension, since they show all of it'}.",
            )
    return replace(result, views=tuple(_moved(view, chosen) for view in result.views)) if chosen else result


def write(result: Result, suffix: str, path: Path, view: int | None) -> Path:
    """Write the result, or one of its views, in the format of this suffix, whatever the file is called."""
    from dataclasses import replace

    from cutaway.core import registry
    from cutaway.core.result import view_at

    if view is not None:
        result = replace(result, views=(view_at(result, view),))
    registry.get("format", suffix)().save(result, path)
    return path


def _place(written: str) -> tuple[str, Place]:
    dim, equals, place = written.partition("=")
    if not equals or not dim or not place:
        raise ParameterError(
            f"{written!r} is not a place;", "a place is a dimension and where in it.", "Write --at layer=3"
        )
    try:
        return dim, int(place)
    except ValueError:
        return dim, place


def _moved(view: View, chosen: dict[str, Place]) -> View:
    from dataclasses import replace

    return replace(view, at={dim: chosen.get(dim, place) for dim, place in view.at.items()})
