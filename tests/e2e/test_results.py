"""What was kept: found, read cell by cell, renamed, compared with another, taken along, deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

import cutaway as ca

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest
Site = Any
Drawn = Callable[[Any], None]

PROMPT = "When Mary and John went to the store, John gave a drink to"
MARKUP = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>'


def array(site: Site, result: str, name: str, **where: Any) -> np.ndarray:
    """Numbers of a kept result, as the pages fetch them."""
    query = "&".join(f"{dim}={place}" for dim, place in where.items())
    with urlopen(f"{site.url}/api/results/{result}/array/{name}?{query}") as answer:
        shape = [int(size) for size in answer.headers["X-Shape"].split(",") if size]
        return np.frombuffer(answer.read(), answer.headers["X-Dtype"]).reshape(shape)


def spoken(grid: Any, *keys: str) -> str:
    """What a heat map says of the cell to which these keys lead."""
    grid.focus()
    for key in keys:
        grid.press(key)
    said: str = grid.locator("xpath=ancestor::*[contains(@class,'cv-picture')]").locator("[aria-live]").inner_text()
    return said


def figure(said: str) -> float:
    """The last number of what is said of a cell."""
    return float(re.findall(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?", said.replace("−", "-"))[-1].rstrip(",.").replace(",", ""))


def test_a_result_says_its_numbers(
    visit: Visitor, site: Site, lenses: tuple[str, str], drawn: Drawn, model: ca.Model
) -> None:
    page = visit(f"/results/{lenses[0]}")
    drawn(page)
    said = spoken(page.locator(".cv-grid").first, "Control+End")
    assert "Mary" in said
    share = model.run(PROMPT).logits[0, -1].float().softmax(-1).max()
    assert figure(said) == pytest.approx(float(share), abs=6e-4)  # it is said with three digits


def test_two_results_are_compared(visit: Visitor, site: Site, lenses: tuple[str, str], drawn: Drawn) -> None:
    page = visit("/results")
    for result in lenses:
        row = page.locator("tr", has=page.locator(f'a[href="/results/{result}"]'))
        row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare the two").click()
    page.wait_for_url(f"**/compare/{lenses[0]}/{lenses[1]}*")
    first, second, difference = (
        page.get_by_role("region", name=name) for name in ("Result A", "Result B", "Difference")
    )
    difference.locator(".cv-grid").wait_for()
    drawn(page)
    a, b = (array(site, result, "top_probability", prompt=0, top=0) for result in lenses)
    keys = ["Control+Home", *["ArrowDown"] * 3, "End"]
    said = {name: figure(spoken(region.locator(".cv-grid"), *keys)) for name, region in
            (("a", first), ("b", second), ("difference", difference))}  # fmt: skip
    cell = (3, -1)  # layer and position
    assert said["a"] == pytest.approx(a[cell], rel=6e-3, abs=1e-6)
    assert said["b"] == pytest.approx(b[cell], rel=6e-3, abs=1e-6)
    assert said["difference"] == pytest.approx(a[cell] - b[cell], rel=6e-3, abs=1e-6)


def test_pointing_at_one_result_points_at_the_other(visit: Visitor, lenses: tuple[str, str], drawn: Drawn) -> None:
    page = visit(f"/compare/{lenses[0]}/{lenses[1]}")
    page.get_by_role("region", name="Difference").locator(".cv-grid").wait_for()
    drawn(page)
    marks = page.get_by_role("region", name="Result B").locator(".cv-grid canvas").nth(1)
    before = marks.evaluate("canvas => canvas.toDataURL()")
    spoken(page.get_by_role("region", name="Result A").locator(".cv-grid"), "Control+Home", "ArrowDown")
    page.wait_for_timeout(300)
    assert marks.evaluate("canvas => canvas.toDataURL()") != before


def test_title_tags_and_note_are_kept_as_text(visit: Visitor, lenses: tuple[str, str]) -> None:
    page = visit(f"/results/{lenses[1]}")
    page.get_by_label("Title", exact=True).fill(MARKUP)
    page.get_by_label("Tags").fill(f"draft, {MARKUP}")
    page.get_by_label("Note").fill(f"first line\n{MARKUP}")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved", exact=True).wait_for()
    for address in (f"/results/{lenses[1]}", "/results", f"/compare/{lenses[0]}/{lenses[1]}"):
        other = visit(address)  # a browser that remembers nothing
        other.get_by_text(MARKUP).first.wait_for()
        assert other.evaluate("window.broken") is None
        assert other.locator("img[src=x], img[onerror], main script").count() == 0
    fresh = visit(f"/results/{lenses[1]}")
    assert fresh.get_by_label("Title", exact=True).input_value() == MARKUP
    assert fresh.get_by_label("Tags").input_value() == f"draft, {MARKUP}"
    assert fresh.get_by_label("Note").input_value() == f"first line\n{MARKUP}"
    found = visit("/results?tag=draft")
    found.get_by_text("1 result", exact=True).wait_for()


def test_delete_asks_first(visit: Visitor, site: Site, drawn: Drawn) -> None:
    prompts = {"prompts": ["The capital of Spain is"]}
    result = site.run(
        kind="method", method="logit_lens", prompts=prompts, parameters={"controls": 5, "tested": 1, "top": 2}
    )
    page = visit(f"/results/{result}")
    drawn(page)
    page.get_by_role("button", name="Delete…").click()
    asked = page.get_by_role("alertdialog")
    assert page.evaluate("document.activeElement.textContent") == "Keep it"
    asked.get_by_role("button", name="Keep it").click()
    asked.wait_for(state="detached")
    assert site.ask(f"/results/{result}")["id"] == result
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete", exact=True).click()
    page.wait_for_url("**/results")
    page.get_by_text(re.compile(r"^\d+ results?$")).wait_for()
    assert page.locator(f'a[href="/results/{result}"]').count() == 0
    with pytest.raises(AssertionError, match="answered with 404"):
        site.ask(f"/results/{result}")


def test_a_result_is_taken_along(visit: Visitor, lenses: tuple[str, str], drawn: Drawn, tmp_path: Path) -> None:
    page = visit(f"/results/{lenses[0]}")
    drawn(page)
    section = page.locator("section", has=page.get_by_role("heading", name="Take it along"))
    starts = {"NetCDF": b"\x89HDF", "HTML page": b"<!", "JSON": b"{", "PNG": b"\x89PNG", "SVG": b"<svg"}
    for name, start in starts.items():
        with page.expect_download() as download:
            section.get_by_role("link", name=name, exact=True).click()
        kept = tmp_path / download.value.suggested_filename
        download.value.save_as(kept)
        assert kept.read_bytes().startswith(start), name
        if name == "NetCDF":
            assert ca.Result.load(kept).views
        if name == "JSON":
            json.loads(kept.read_bytes())
    assert "logit_lens" in section.locator("pre, code").first.inner_text()
