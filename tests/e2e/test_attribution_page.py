"""Which words: a map is stepped through, read by words, and its test opened; two texts stand side by side."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import cutaway as ca

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest
Kept = Callable[[str], str]
PROMPT = "The unbelievable capital of France is"
OUTSIDE = "() => document.documentElement.scrollWidth - window.innerWidth"


def numbers(page: Any) -> list[float]:
    """What stands under the words that have a value."""
    said = page.locator(".reading .cv-word:not([data-mark]) i").all_inner_texts()
    return [float(text) for text in said]


def test_step_by_step(visit: Visitor, kept: Kept, model: ca.Model, drawn: Callable[[Any], None]) -> None:
    page = visit(f"/results/{kept('map')}")
    drawn(page)
    slider = page.get_by_role("slider", name="explained token")
    wanted = ca.saliency(model, PROMPT, continuation=" Paris, of course.", controls=0).data["attribution"].values[0]
    assert numbers(page) == pytest.approx([x for x in wanted[0].tolist() if x == x], rel=0.01)
    tops = page.locator(".reading .cv-word").evaluate_all("(all) => all.map((each) => each.offsetLeft)")
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    assert numbers(page) == pytest.approx([x for x in wanted[2].tolist() if x == x], rel=0.01)
    assert tops == page.locator(".reading .cv-word").evaluate_all("(all) => all.map((each) => each.offsetLeft)")
    assert page.locator(".reading [data-mark=target] b").inner_text() == "·of"
    assert "at.target=2" in page.url
    page.get_by_label("read by").select_option("word")
    page.get_by_label("value of what is joined").select_option("l2")
    assert "·unbelievable" in page.locator(".reading .cv-word b").all_inner_texts()
    again = visit(page.url.removeprefix(page.url.split("/results")[0]))
    drawn(again)
    assert numbers(again) == numbers(page)
    again.get_by_role("button", name=re.compile("its test")).click()
    assert again.locator(".badge-detail .check-figures").is_visible()


def test_heatmap_moves_the_step(visit: Visitor, kept: Kept, drawn: Callable[[Any], None]) -> None:
    page = visit(f"/results/{kept('map')}")
    drawn(page)
    grid = page.locator(".cv-heatmap [role=application]")
    grid.focus()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        grid.press(key)
    page.get_by_text("2 of 5: ,", exact=True).wait_for()


def test_two_texts(visit: Visitor, kept: Kept, drawn: Callable[[Any], None]) -> None:
    page = visit(f"/results/{kept('contrast')}", width=390, height=844)
    drawn(page)
    rows = page.get_by_role("list", name="Tokens of both texts, aligned")
    rows.wait_for()
    assert rows.get_by_text("·France", exact=True).count() == rows.get_by_text("·Italy", exact=True).count() == 1
    assert page.evaluate(OUTSIDE) <= 0
    before = rows.inner_text()
    page.get_by_role("button", name="Next explained token").first.click()
    assert rows.inner_text() != before


def test_the_page_that_is_taken_along_has_the_slider_too(site: Any, kept: Kept, browser: Any, tmp_path: Path) -> None:
    with urlopen(f"{site.url}/api/results/{kept('map')}/export?format=html") as answer:
        (tmp_path / "map.html").write_bytes(answer.read())
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((tmp_path / "map.html").as_uri())
    slider = page.get_by_role("slider", name="target")
    for _ in range(2):
        slider.press("ArrowRight")
    shown = page.locator(".step:visible")
    assert (shown.count(), shown.get_attribute("data-name")) == (1, "3 of 5: ·of")
    assert slider.get_attribute("aria-valuetext") == "3 of 5: ·of"
    assert not complaints
    page.close()
