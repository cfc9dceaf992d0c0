"""How is a result taken along? As a picture, a table, a page, or as the file itself, from the formats that there are.

Pictures are light, or dark: their marks carry classes, to which the dark colours are given by a style sheet
inside the picture.
Limits: pictures and tables are made of results that fit in memory; a larger one is taken as its NetCDF file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cutaway.core.errors import ParameterError
from cutaway.web.answers import Refusal

if TYPE_CHECKING:
    from cutaway.core.result import Result
    from cutaway.store.index import Store

Format = Literal["svg", "png", "csv", "nc", "json", "html"]
Theme = Literal["light", "dark"]
TYPES: dict[str, str] = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "csv": "text/csv; charset=utf-8",
    "nc": "application/x-netcdf",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
}
_LARGEST = 512 * 1024 * 1024  # bytes of a file that is read whole
_DARK = {"ink": "#e7eaee", "muted": "#9aa4b0", "rule": "#343a42", "paper": "#15181c"}


@dataclass(frozen=True)
class Export:
    """A file to be taken: its bytes, or where they lie, and what it is called."""

    name: str
    media_type: str
    body: bytes = b""
    path: Path | None = None


def export(store: Store, id: str, format: Format, view: int | None, theme: Theme) -> Export:
    """A result, or one of its views, as a file.

    Raises:
        NotKept: there is no such result.
        Refusal: there is no such view, or the result is too large for this format.
        StoreError: the format needs what is not installed.
    """
    path = store.path(id)
    stem = f"cutaway-{store.summary(id).id[:12]}{'' if view is None else f'-{view}'}"
    name = f"{stem}.{format}"
    if format == "nc":
        return Export(name, TYPES[format], path=path)
    if path.stat().st_size > _LARGEST:
        expected = f"{_LARGEST:,} bytes is the most."
        raise Refusal(413, f"the result is too large to be written as {format};", expected, "Take format=nc.")
    return Export(name, TYPES[format], _written(store.result(id), format, view, theme))


def _written(result: Result, format: Format, view: int | None, theme: Theme) -> bytes:
    from cutaway.core import registry

    try:
        if format == "json":
            from cutaway.core.result import view_at
            from cutaway.store.records import record_of

            chosen = result if view is None else replace(result, views=(view_at(result, view),))
            return json.dumps(record_of(chosen), allow_nan=False).encode()
        if format == "png":
            from cutaway.drawing.png import from_svg

            return from_svg(_svg(result, view, theme))
        if format == "svg":
            return _svg(result, view, theme).encode("utf-8", "backslashreplace")
        drawn: str = registry.get("renderer", format)(result, view)
        return drawn.encode("utf-8", "backslashreplace")
    except ParameterError as error:
        raise Refusal(404, error.what, error.expected, error.instead) from error


def _svg(result: Result, view: int | None, theme: Theme) -> str:
    from cutaway.drawing.svg import svg

    drawing = svg(result, view)
    if theme == "light":
        return drawing
    start = drawing.index(">") + 1
    return f"{drawing[:start]}<style>{''.join(_dark_rules())}</style>{drawing[start:]}"


def _dark_rules() -> Iterator[str]:
    from cutaway.drawing.palette import CLASSES, MISSING, class_colour, hexadecimal, ink_on, steps

    for name, colour in _DARK.items():
        yield f".{name}{{fill:{colour}}}.{name}-line{{stroke:{colour}}}"
    yield f".dot{{fill:{_DARK['paper']}}}.ringed{{stroke:{_DARK['muted']}}}"
    colours: dict[str, Any] = {"none": MISSING["dark"]}
    for scale in ("diverging", "sequential"):
        colours |= {f"{scale[0]}{step}": rgb for step, rgb in enumerate(steps(scale, "dark"))}
    colours |= {f"k{index}": class_colour(index, "dark") for index in range(len(CLASSES["dark"]))}
    for name, rgb in colours.items():
        ground, ink = hexadecimal(rgb), hexadecimal(ink_on(rgb))
        yield f".{name}{{fill:{ground}}}.{name}-line{{stroke:{ground}}}.on-{name}{{fill:{ink}}}"
