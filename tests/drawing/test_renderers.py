"""Every kind of picture × every renderer × awkward data: all are drawn, none crashes, all text is safe."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable, Mapping
from xml.etree import ElementTree

import pytest
from rich.console import Console

from cutaway.core import registry
from cutaway.core.errors import ParameterError
from cutaway.core.result import Result
from cutaway.core.view import KINDS
from cutaway.drawing.html import fragment
from cutaway.drawing.notebook import plain
from cutaway.drawing.svg import draw

SVG = "{http://www.w3.org/2000/svg}"
VARIANTS = ["empty", "single", "all zero", "all equal", "missing", "infinite", "tiny", "giant", "both giants"]


def test_the_example_has_every_kind(result: Result) -> None:
    assert {view.kind for view in result.views} == set(KINDS)


def test_renderers_are_found_by_name() -> None:
    names = {entry.name for entry in registry.entries("renderer")}
    assert names >= {"terminal", "svg", "png", "html", "notebook", "csv"}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_awkward_data_are_drawn_everywhere(
    make: Callable[..., Result], variants: Mapping[str, tuple[int, float]], kind: str, variant: str
) -> None:
    result = make(kind, *variants[variant])
    drawing = ElementTree.fromstring(draw(result, result.views[0]))
    assert len(list(drawing.iter(f"{SVG}text"))) >= 1
    assert "nan" not in {value for element in drawing.iter() for value in element.attrib.values()}
    assert not any(
        "nan" in value or "inf" in value
        for e in drawing.iter()
        for n, value in e.attrib.items()
        if n != "aria-label" and n != "font-family"
    )
    assert fragment(result, 0).startswith(f'<figure class="{kind}">')
    for colours in (None, "truecolor"):
        console = Console(file=io.StringIO(), width=80, color_system=colours, force_terminal=bool(colours))
        registry.get("renderer", "terminal")(result, console=console)
    rows = list(csv.reader(io.StringIO(registry.get("renderer", "csv")(result, 0))))
    assert rows[0][0] == "variable"
    assert rows[0][-1] == "value"


@pytest.mark.parametrize("kind", KINDS)
def test_png_draws_every_kind(make: Callable[..., Result], kind: str) -> None:
    drawing = registry.get("renderer", "png")(make(kind, 3, 0.5), zoom=0.5)
    assert drawing[:8] == b"\x89PNG\r\n\x1a\n"


def _drawn(page: str) -> str:
    """The page with what its images hold in their places."""
    return re.sub(
        r'<img [^>]*src="data:image/svg\+xml;base64,([^"]+)">', lambda found: base64.b64decode(found[1]).decode(), page
    )


def test_everything_is_said_by_every_renderer(result: Result) -> None:
    """Claims, how they were checked, figures, controls, outcomes in words, notes, titles, origin."""
    said = {
        "terminal": " ".join(plain(result, width=240).split()),
        "svg": " ".join("".join(ElementTree.fromstring(registry.get("renderer", "svg")(result)).itertext()).split()),
        "html": " ".join(_text_of(registry.get("renderer", "html")(result)).split()),
        "notebook": " ".join(_text_of(_drawn(registry.get("renderer", "notebook")(result)["text/html"])).split()),
    }
    needed = [
        *(view.title for view in result.views),
        "These three heads write the answer.",
        "✓ holds",
        "✗ does not hold",
        "50 random sets of three heads",
        "3.21 logits",
        "0.410 logits, interval 0.100 to 0.920 (n = 50)",
        "measured is above the interval of the control",
        "measured is inside the interval of the control",
        "2 prompts were left out",
        "Bars show the mean over prompts.",
        "logit difference",
        "3.46",
        "saliency (logits)",
        "block 1, head 2",
        "·Mary",
        "smollm2",
        result.id[:12],
    ]
    for name, text in said.items():
        missing = [part for part in needed if part not in text]
        assert not missing, name


def test_one_view_is_drawn_alone(result: Result) -> None:
    for name in ("svg", "html"):
        drawn = registry.get("renderer", name)(result, 4)
        assert "Accuracy by layer" in drawn
        assert "Which words matter" not in drawn
    with pytest.raises(ParameterError, match=r"there is no view 99; the result has 0: Which words matter \(tokens\)"):
        registry.get("renderer", "svg")(result, 99)


def _text_of(page: str) -> str:
    from html.parser import HTMLParser

    parts: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            parts.append(data)

    Reader().feed(page)
    return "".join(parts)
