"""How does a picture get into slides? As PNG, drawn from the SVG.

Needs the optional `resvg-py` (one wheel, no system libraries). The letters come from fonts that lie beside
this file, so a machine without fonts writes the same text as any other; fonts of the system are asked only
for characters that ours lack, such as Chinese ones.
Limits: a character that no font has is drawn as an empty box.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from cutaway.core.errors import StoreError
from cutaway.core.method import renderer
from cutaway.core.result import Result
from cutaway.drawing.svg import svg

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"


@renderer("png", asks="How do I put the pictures into slides?")
def png(result: Result, view: int | None = None, *, zoom: float = 2.0) -> bytes:
    """All pictures of a result, or one of them, as the bytes of a PNG.

    Args:
        result: what to draw.
        view: index of the one view to draw; all when None.
        zoom: pixels for each unit of the SVG.

    Raises:
        StoreError: `resvg-py` is not installed.
    """
    return from_svg(svg(result, view), zoom=zoom)


def from_svg(drawing: str, *, zoom: float = 2.0) -> bytes:
    """The bytes of a PNG that shows an SVG document.

    Raises:
        StoreError: `resvg-py` is not installed.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise StoreError(
            "PNG pictures need resvg-py, which is not installed;",
            "SVG and HTML need nothing.",
            'Write pip install "cutaway[png]", or save as .svg.',
        ) from error
    fonts = [str(path) for path in sorted(Path(str(files("cutaway.drawing") / "fonts")).glob("*.ttf"))]
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=drawing,
            zoom=zoom,
            font_files=fonts,
            font_family=SANS,
            sans_serif_family=SANS,
            monospace_family=MONO,
        )
    )
