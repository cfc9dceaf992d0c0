"""No text of a prompt, a model or a person becomes markup, a script, or a command to the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from cutaway.core import registry
from cutaway.core.result import Result
from cutaway.core.view import KINDS
from cutaway.drawing.html import fragment, page
from cutaway.drawing.svg import svg
from cutaway.drawing.words import readable, visible

ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></svg></textarea><b>",
    "<!--",
    "]]>",
    "&lt;&amp;&#x3c;",
    "' onmouseover='alert(1)",
    "\x00\x01\x1b[31mred\x1b[0m\x07",
    "\x1b]8;;https://example.org\x07link\x1b]8;;\x07",
    "[bold red]markup[/] [link=x]",
    "\u202eright to left\u2066",
    "\ud83d lone",
    "\ufffe\uffff",
    "line\r\nbreak\u2028\u2029\x85",
    "🙂é中",
]
ALLOWED = {
    *("html", "head", "meta", "title", "style", "script", "body", "main", "h1", "h3", "footer", "section"),
    *("figure", "figcaption", "strong", "span", "div", "p", "b", "i", "dl", "dt", "dd", "code", "pre"),
    *("table", "thead", "tbody", "tr", "th", "td"),
    *("svg", "g", "rect", "text", "line", "circle", "path", "polygon", "polyline"),
}
odd = st.text(st.one_of(st.characters(), st.sampled_from("<>&\"'[]\x00\x1b\n\ud800\u202e")), max_size=12)


class Tags(HTMLParser):
    """Collects elements and attributes as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def assert_safe_html(html: str) -> None:
    tags = parsed(html)
    assert set(tags.tags) <= ALLOWED
    assert tags.tags.count("script") <= 1
    for name, value in tags.attributes:
        assert not name.startswith("on")
        assert name not in ("href", "src", "xlink:href", "action")
        assert value is None or "javascript:" not in value or name in ("aria-label", "data-hint")


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("kind", KINDS)
def test_attacks_stay_text(make: Callable[..., Result], kind: str, attack: str) -> None:
    result = make(kind, 3, 0.5, word=attack)
    ElementTree.fromstring(svg(result))
    assert_safe_html(registry.get("renderer", "html")(result))
    assert_safe_html(fragment(result, 0))
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor", record=True)
    registry.get("renderer", "terminal")(result, console=console)
    drawn = console.export_text()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", drawn)


def test_an_attack_is_still_readable(make: Callable[..., Result]) -> None:
    result = make("tokens", 1, 0.5, word="<b>&[bold]")
    text = "".join(ElementTree.fromstring(svg(result)).itertext())
    assert "<b>&[bold]0" in text
    console = Console(file=io.StringIO(), width=80, color_system=None)
    with console.capture() as captured:
        registry.get("renderer", "terminal")(result, console=console)
    assert "<b>&[bold]0" in captured.get()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=odd, kind=st.sampled_from(KINDS))
def test_any_text_gives_well_formed_pictures(make: Callable[..., Result], word: str, kind: str) -> None:
    result = make(kind, 2, -0.5, word=word)
    ElementTree.fromstring(svg(result))
    assert_safe_html(registry.get("renderer", "html")(result))
    registry.get("renderer", "html")(result).encode("utf-8")
    svg(result).encode("utf-8")


def test_a_page_cannot_reach_the_network_or_run_foreign_scripts() -> None:
    whole = page("<i>Title</i>", ["<p>body</p>", "<script>alert(1)</script>"])
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', whole)
    assert policy
    assert "default-src 'none'" in policy[1]
    scripts = re.search("script-src ([^;]*);", policy[1])
    assert scripts
    assert re.fullmatch("'sha256-[A-Za-z0-9+/=]{44}'", scripts[1])  # so the second script does not run
    assert "<title>&lt;i&gt;Title&lt;/i&gt;</title>" in whole
    assert "http://" not in whole.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in whole


@given(odd)
def test_a_shown_token_has_no_hidden_character(token: str) -> None:
    shown = visible(token)
    shown.encode("utf-8")
    assert not re.search("[\x00-\x20\x7f-\xa0\u2000-\u200b\u200e\u200f\u2028-\u202f\u2060-\u206f\u3000\ufeff]", shown)
    assert (shown == "") == (token == "")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e]", readable(token))
