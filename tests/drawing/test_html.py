from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from cutaway.core import view as views
from cutaway.core.errors import ParameterError
from cutaway.core.result import Result
from cutaway.drawing.html import fragment, html, style
from cutaway.drawing.notebook import notebook
from cutaway.drawing.palette import BINS


def test_a_page_is_one_whole_document(result: Result) -> None:
    whole = html(result)
    assert whole.startswith("<!doctype html>")
    assert whole.count("<figure") == whole.count("</figure>") == len(result.views)
    assert whole.count('class="check holds"') == 1
    assert whole.count('class="check fails"') == 1


class Depths(HTMLParser):
    """Whether every element is closed in its order."""

    VOID = ("meta", "rect", "line", "circle", "path", "polygon", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID[:1]:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_all_elements_are_closed_in_order(result: Result) -> None:
    reader = Depths()
    reader.feed(html(result))
    assert reader.open == []


def test_every_class_of_a_colour_has_a_dark_colour(result: Result) -> None:
    dark = style().partition("@media (prefers-color-scheme: dark){.cutaway .d0")[2]
    used = set(re.findall(r'class="([^"]*)"', html(result)))
    names = {name for group in used for name in group.split()}
    coloured = {name for name in names if re.fullmatch(r"(on-)?[ds]\d+|k\d|none|[dsk]\d+-line", name)}
    assert len(coloured) > 40
    missing = {name for name in coloured - {"d0"} if f".cutaway .{name}{{" not in dark}
    assert not missing
    assert f".cutaway .d{BINS - 1}{{" in dark


def test_words_tables_and_texts_are_elements_and_not_pictures(result: Result) -> None:
    assert '<b class="d28"' in fragment(result, 0) or re.search(r'<b class="d\d+"[^>]*>·Mary</b>', fragment(result, 0))
    table = next(i for i, view in enumerate(result.views) if view.kind == "table")
    assert '<td class="text">z[0].head[0]</td>' in fragment(result, table)
    assert "<svg" not in fragment(result, table, with_checks=False)
    text = next(i for i, view in enumerate(result.views) if view.kind == "text")
    assert "<pre>Mary &amp; &lt;b&gt;John&lt;/b&gt;\nwent home.</pre>" in fragment(result, text)


def test_a_fragment_has_its_caption_and_the_checks_unless_told(result: Result) -> None:
    whole = fragment(result, 3)
    assert "<strong>Where a head looks</strong> <span>block 1, head 2</span>" in whole
    assert "✓ holds" in whole
    assert "holds" not in fragment(result, 3, with_checks=False)
    with pytest.raises(ParameterError, match="there is no view 40"):
        fragment(result, 40)


def test_values_are_in_the_hints(result: Result) -> None:
    assert 'data-hint="·Mary +0.400"' in fragment(result, 0)
    assert "<title>layer 0\ntoken &lt;|im_start|&gt;\neffect 0" in fragment(result, 2)


@pytest.mark.parametrize(("kind", "said"), [("table", "500 of 600 rows are shown."), ("tokens", "")])
def test_what_is_left_out_is_said(make: Callable[..., Result], kind: str, said: str) -> None:
    assert said in fragment(make(kind, 600, 1.0), 0)


def test_a_notebook_gets_html_and_text(result: Result) -> None:
    bundle = result._repr_mimebundle_()
    assert bundle == notebook(result)
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/html"].startswith("<style>")
    assert "<script" not in bundle["text/html"]
    assert "Which words matter" in bundle["text/plain"]
    assert "\x1b" not in bundle["text/plain"]


def stepped(targets: int, words: int) -> Result:
    values = np.arange(2.0 * targets * words).reshape(2, targets, words)
    data = xr.Dataset(
        {"attribution": (("prompt", "target", "position"), values)},
        coords={
            "prompt": ["a", "a"],
            "target": np.arange(targets),
            "token": (("prompt", "position"), np.full((2, words), " so", dtype=object)),
            "target_token": (
                ("prompt", "target"),
                np.array([[f" <{row}{i}>" for i in range(targets)] for row in "xy"]),
            ),
        },
    )
    view = views.tokens(value="attribution", at={"prompt": 1, "target": targets - 1}, title="Map")
    return Result(data, views=(view,))


def test_a_sentence_at_several_places_has_them_all_in_a_page_of_its_own() -> None:
    result = stepped(3, 2)
    whole = html(result)
    names = re.findall(r'<div class="step" data-name="([^"]*)"( data-first)?>', whole)
    assert names == [
        ("1 of 3: ·&lt;y0&gt;", ""),
        ("2 of 3: ·&lt;y1&gt;", ""),
        ("3 of 3: ·&lt;y2&gt;", " data-first"),
    ]
    assert re.findall(r"<i>([^<]*)</i>", whole) == ["6.00", "7.00", "8.00", "9.00", "10.0", "11.0"]
    assert re.findall(r"<i>([^<]*)</i>", fragment(result, 0)) == ["10.0", "11.0"]
    reader = Depths()
    reader.feed(whole)
    assert reader.open == []


def test_a_long_sentence_stays_at_its_place() -> None:
    assert 'class="step"' not in html(stepped(100, 100))
    assert 'class="step"' not in html(stepped(201, 1))
    assert 'class="step"' in html(stepped(100, 80))
