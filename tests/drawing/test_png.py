from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cutaway.core.errors import StoreError
from cutaway.core.result import Result
from cutaway.drawing import png
from cutaway.drawing.shapes.marks import MONO, SANS

resvg = pytest.importorskip("resvg_py")
FONTS = [str(path) for path in (Path(png.__file__).parent / "fonts").glob("*.ttf")]


def picture(text: str, family: str) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40">'
        '<rect width="60" height="40" fill="#fff"/>'
        f'<text x="5" y="28" font-size="20" font-family="{family}">{text}</text></svg>'
    )


@pytest.mark.parametrize("family", [SANS.replace('"', "'"), MONO.replace('"', "'")])
@pytest.mark.parametrize("text", ["A", "·", "↵", "⇥", "→", "×", "−", "✓", "✗", "∞", "…", "⟨", "é", "Ω", "Ж", "�"])
def test_text_shows_on_a_machine_without_fonts(text: str, family: str) -> None:
    options = {
        "font_files": FONTS,
        "skip_system_fonts": True,
        "font_family": png.SANS,
        "sans_serif_family": png.SANS,
        "monospace_family": png.MONO,
    }
    drawn = bytes(resvg.svg_to_bytes(svg_string=picture(text, family), **options))
    blank = bytes(resvg.svg_to_bytes(svg_string=picture("", family), **options))
    assert drawn != blank


def test_text_shows_in_what_we_draw() -> None:
    assert png.from_svg(picture("A", "sans-serif")) != png.from_svg(picture("", "sans-serif"))
    assert png.from_svg(picture("A", "sans-serif")) != png.from_svg(picture("B", "sans-serif"))


def test_the_zoom_gives_the_pixels(result: Result) -> None:
    sizes = [int.from_bytes(png.png(result, 0, zoom=zoom)[16:20], "big") for zoom in (1, 2)]
    assert sizes == [760, 1520]


def test_without_the_optional_package_there_is_a_sentence(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(StoreError, match=r'PNG pictures need resvg-py.*pip install "cutaway\[png\]"'):
        png.png(result)
