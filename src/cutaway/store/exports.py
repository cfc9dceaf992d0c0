"""How do I show a result to somebody who has no cutaway? As a picture, a page or a table in a file.

The drawing is done by the renderers; here it is only put on the disk.
Limits: these files show a result and cannot be read back.
"""

from __future__ import annotations

from pathlib import Path

from cutaway.core import registry
from cutaway.core.method import format
from cutaway.core.result import Format, Result
from cutaway.store.atomic import write_bytes


@format("svg", asks="How do I put a picture into a paper?", suffixes=(".svg",))
def svg_file() -> Format:
    """SVG: all pictures of a result below each other, as sharp as you like."""
    return Format(lambda result, path: _drawn("svg", result, path))


@format("png", asks="How do I put a picture into slides?", suffixes=(".png",))
def png_file() -> Format:
    """PNG: all pictures of a result below each other."""
    return Format(lambda result, path: _drawn("png", result, path))


@format("html", asks="How do I send a result to somebody?", suffixes=(".html", ".htm"))
def html_file() -> Format:
    """HTML: one page with everything in it, which needs no network."""
    return Format(lambda result, path: _drawn("html", result, path))


@format("csv", asks="How do I open the numbers in a spreadsheet?", suffixes=(".csv",))
def csv_file() -> Format:
    """CSV: one long table, a row a number."""
    return Format(lambda result, path: _drawn("csv", result, path))


def _drawn(renderer: str, result: Result, path: Path) -> None:
    drawing: str | bytes = registry.get("renderer", renderer)(result)
    content = drawing if isinstance(drawing, bytes) else drawing.encode("utf-8", "backslashreplace")
    write_bytes(path, content)
