"""How does a result look in a terminal? Its pictures, figures, checks and notes, below each other.

Works in 80 columns and in any other width, with colours and without: what colour says is also written. Text
of a prompt is never read as markup, and no control character reaches the terminal.
Limits: large arrays are shown in blocks or in part, and it is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from cutaway.core.method import renderer
from cutaway.core.result import Check, Result, view_at
from cutaway.core.view import View
from cutaway.drawing.characters import cells, lists, plots
from cutaway.drawing.characters.ink import QUIET, STRONG, Room, room_of
from cutaway.drawing.framing import panel
from cutaway.drawing.panels import Bars, Counts, Grid, Lines, Network, Panel, Points, Strip, Table, Texts
from cutaway.drawing.words import (
    controlled,
    measured,
    number,
    origin,
    placed,
    standing,
    verdict,
    visible_text,
)


@dataclass(frozen=True)
class Fitted:
    """Something that is drawn once the room for it is known."""

    draw: Callable[[Room], RenderableType]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.draw(room_of(console, options))


@renderer("terminal", asks="What does the result look like here?")
def terminal(result: Result, view: int | None = None, *, console: Console | None = None) -> None:
    """Print a result: its pictures, figures, checks and notes.

    Args:
        result: what to print.
        view: index of the one view to print; all when None.
        console: where to print; standard output when None.
    """
    target = console or Console(highlight=False)
    if target.encoding.lower().startswith("utf"):
        target.print(whole(result, view))
        return
    with target.capture() as captured:
        target.print(whole(result, view))
    # a screen without Unicode shows question marks; it is no reason to fail
    target.file.write(captured.get().encode(target.encoding, "replace").decode(target.encoding))


def whole(result: Result, view: int | None = None) -> RenderableType:
    """All of a result, or one of its views with the checks."""
    views = result.views if view is None else (view_at(result, view),)
    parts: list[RenderableType] = [part for each in views for part in (renderable(result, each), Text())]
    if view is None and result.metrics:
        parts += [_metrics(result), Text()]
    if not result.views and not result.metrics:
        parts.append(Text(repr(result)))
    parts += [part for each in result.checks for part in (check(each), Text())]
    parts += [Text(f"Note: {visible_text(note)}") for note in result.notes]
    return Group(*parts, Text(origin(result), style=QUIET))


def renderable(result: Result, view: View) -> RenderableType:
    """One picture with its title, for any rich console."""
    where = standing(view, result.data)
    title = Text(visible_text(view.title), style=STRONG)
    if where:
        title.append(f"  ({where})", style=QUIET)
    parts: list[RenderableType] = [title, drawn(panel(result, view))]
    if view.note:
        parts.append(Text(f"  {visible_text(view.note)}", style=QUIET))
    return Group(*parts)


def drawn(content: Panel) -> RenderableType:
    """The panel, drawn for the room that there will be."""
    return Fitted(lambda room: _drawn(content, room))


def check(tested: Check) -> RenderableType:
    """A claim with the intervention that tests it, the figure, the control and the outcome in words."""
    style = "bold green" if tested.passed else "bold red"
    head = Text.assemble((f"Check: {verdict(tested)}", style), f"  {visible_text(tested.claim)}")
    rows = (
        ("how", visible_text(tested.how)),
        ("measured", visible_text(measured(tested))),
        ("control", visible_text(controlled(tested))),
        ("so", placed(tested)),
    )
    table = RichTable.grid(padding=(0, 2))
    for name, said in rows:
        table.add_row(Text(name, style=QUIET), Text(said))
    return Group(head, Padding(table, (0, 0, 0, 2)), Padding(Fitted(lambda room: ruler(tested, room)), (0, 0, 0, 2)))


def ruler(tested: Check, room: Room) -> Text:
    """The interval of the control, its middle and the measured value on one line."""
    ends = [tested.measured, tested.control, *tested.interval, 0.0]
    finite = [end for end in ends if abs(end) < float("inf")]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    width = min(room.width - 24, 48)
    if high == low or len(finite) < len(ends) or width < 10:
        return Text()
    place = [round((end - low) / (high - low) * (width - 1)) for end in ends]
    line = ["·"] * width
    line[place[2] : place[3] + 1] = "─" * (place[3] - place[2] + 1)
    line[place[2]], line[place[3]], line[place[1]], line[place[0]] = "├", "┤", "┼", "●"
    return Text(f"{number(low)} {''.join(line)} {number(high)}", style=QUIET)


def _drawn(content: Panel, room: Room) -> RenderableType:
    match content:
        case Strip():
            return cells.strip(content, room)
        case Grid():
            return cells.grid(content, room)
        case Lines():
            return plots.lines(content, room)
        case Points():
            return plots.points(content, room)
        case Bars():
            return lists.bars(content, room)
        case Counts():
            return lists.counts(content, room)
        case Network():
            return lists.network(content, room)
        case Table():
            return lists.table(content, room)
        case Texts():
            return lists.texts(content, room)


def _metrics(result: Result) -> RenderableType:
    table = RichTable.grid(padding=(0, 2))
    for name, value in result.metrics.items():
        table.add_row(Text(visible_text(name)), Text(_said(value), style=STRONG))
    return table


def _said(value: Any) -> str:
    return visible_text(value) if isinstance(value, str) else number(value)
