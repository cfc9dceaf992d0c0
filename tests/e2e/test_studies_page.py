"""The gallery of studies, a study with its figure, and the graph of a circuit: filtered, folded, an edge tested."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest
Kept = Callable[[str], str]
PROMPT = "When Mary and John went to the store, John gave a drink to"
CONTRAST = "When Mary and John went to the store, Mary gave a drink to"
OUTSIDE = "document.documentElement.scrollWidth - window.innerWidth"


def test_a_study_is_found_and_read(visit: Visitor, site: Any, drawn: Callable[[Any], None]) -> None:
    page = visit("/studies")
    papers = page.locator(".method-card")
    papers.first.wait_for()
    everything = papers.count()
    page.get_by_label("Status").select_option("recorded")
    recorded = papers.count()
    assert 0 < recorded < everything
    page.get_by_label("Search").fill("indirect object")
    page.get_by_role("status").get_by_text(re.compile(rf"^\d+ of {everything} papers$")).wait_for()
    assert 0 < papers.count() < recorded
    assert "status=recorded" in page.url and "text=indirect" in page.url
    papers.get_by_role("link").first.click()
    claims = page.get_by_role("table", name="Claims")
    claims.wait_for()
    record = next(each for each in site.ask("/studies") if each["study"] and each["study"] in page.url)
    assert claims.get_by_role("row").count() == len(record["claims"]) + 1
    drawn(page)
    assert page.locator("figure .cv-failed").count() == 0


def test_claims_need_no_scrolling_sideways_on_a_phone(visit: Visitor) -> None:
    page = visit("/studies/wang2022_ioi", width=390, height=844)
    claims = page.get_by_role("table", name="Claims")
    claims.wait_for()
    assert page.evaluate(OUTSIDE) <= 0
    inside = "(all) => all.every((each) => each.getBoundingClientRect().right <= window.innerWidth)"
    assert claims.get_by_role("cell").evaluate_all(inside)
    assert (
        claims.get_by_role("cell").first.evaluate("(each) => getComputedStyle(each, '::before').content") == '"Paper"'
    )


def test_a_circuit_is_filtered_folded_and_an_edge_tested(
    visit: Visitor, kept: Kept, drawn: Callable[[Any], None]
) -> None:
    page = visit(f"/results/{kept('circuit')}")
    drawn(page)
    graph = page.locator("#view-0")
    arrows = graph.locator("[data-arrow]")
    slider = graph.get_by_role("slider", name=re.compile("Strongest arrows"))
    everything = arrows.count()
    slider.press("Home")
    slider.press("ArrowRight")
    assert (arrows.count(), everything > 2) == (2, True)
    slider.press("End")
    nodes = graph.locator("svg[role=application] rect")
    before = nodes.count()
    graph.get_by_role("button", name="Fold by layer").click()
    assert nodes.count() < before
    graph.get_by_role("button", name="Unfold all layers").click()
    arrows.last.locator("polygon").click()
    test = page.get_by_role("region", name=re.compile("matter"))
    assert test.get_by_label("Text", exact=True).input_value() != ""  # the result's own pair
    test.get_by_label("Text", exact=True).fill(PROMPT)
    test.get_by_label("Contrast", exact=True).fill(CONTRAST)
    test.get_by_role("button", name="Change this edge").click()
    test.get_by_text(re.compile(r"The prediction moves by [\d.]+ nats; 20 random edges")).wait_for(timeout=120_000)


def test_an_edge_at_a_position_is_tested_there(visit: Visitor, kept: Kept, drawn: Callable[[Any], None]) -> None:
    page = visit(f"/results/{kept('circuit at positions')}")
    drawn(page)
    page.locator("#view-0 [data-arrow]").last.locator("polygon").click()
    test = page.get_by_role("region", name=re.compile("matter"))
    assert re.fullmatch(r"\d+(, \d+)*", test.get_by_label("At tokens").input_value())
    test.get_by_role("button", name="Change this edge").click()
    test.get_by_text(re.compile(r"The prediction moves by [\d.]+ nats; 20 random edges")).wait_for(timeout=120_000)


def test_a_spelling_is_a_tree(visit: Visitor, kept: Kept, drawn: Callable[[Any], None]) -> None:
    page = visit(f"/results/{kept('spelling')}")
    drawn(page)
    tree = page.locator("#view-0")
    branches = tree.locator("[data-node]")
    everything = branches.count()
    tree.get_by_role("slider", name=re.compile("Cut off below")).press("End")
    assert branches.count() < everything
    tree.get_by_role("slider", name=re.compile("Cut off below")).press("Home")
    tree.get_by_role("button", name="Fold to first branches").click()
    folded = branches.count()
    assert 1 < folded < everything
    tree.get_by_role("application").focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert branches.count() > folded
    with page.expect_download() as download:
        tree.get_by_role("link", name="PNG").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
