"""The model's drawing and its forward pass in space show the numbers that a run of the model gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import cutaway as ca

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest
Until = Callable[..., None]

PROMPT = "When Mary and John went to the store, John gave a drink to"


def inspected(page: Any, until: Until, site: str | None = None) -> tuple[str, float]:
    """The cell that the inspector tells of, once it has its number."""
    shown = "document.querySelector('.inspector-value')"
    wanted = f"{shown}?.dataset.site === {json.dumps(site)}" if site else f"{shown} !== null"
    until(page, f"{wanted} && {shown}.dataset.value !== '' && !document.querySelector('.inspector[aria-busy=true]')")
    data = page.locator(".inspector-value").evaluate("element => ({...element.dataset})")
    return data["site"], float(data["value"])


def loaded(page: Any, until: Until) -> Any:
    """The drawing in space, once all its tensors are there."""
    scene = page.get_by_role("application")
    scene.wait_for()
    shown = "document.querySelector('.scene').dataset"
    until(page, f"Number({shown}.blocks) > 0 && {shown}.loaded === {shown}.blocks", 120)
    return scene


def value(model: ca.Model, cell: str, text: str = PROMPT) -> float:
    """The number of a cell in a run of the model. A pattern's cell is called `pattern[L].head[H].unit[KEY]@QUERY`."""
    square = re.fullmatch(r"((?:pattern|scores)\[\d+\]\.head\[\d+\])\.unit\[(\d+)\]@(\d+)", cell)
    if square:
        site, key, query = square.groups()
        return float(model.run(text, read=site)[site].float().squeeze()[int(query), int(key)])
    return float(model.run(text, read=cell)[cell].float().reshape(()))


def test_cells_are_those_of_a_run(visit: Visitor, model: ca.Model, until: Until) -> None:
    page = visit("/model?model=smollm2&3d=1&layer=23")
    scene = loaded(page, until)
    scene.focus()
    kinds = set()
    for keys in (["ArrowDown"], *([["]", "]", "ArrowDown", "Shift+ArrowRight"]] * 9), ["]"] * 12, ["]"] * 12):
        for key in keys:
            scene.press(key)
        address = parse_qs(urlsplit(page.url).query)["cell"][0]
        if "scores" in address or "pattern" in address:  # what the mask hides has no number: go to the first key
            for _ in range(2):
                scene.press("Shift+ArrowLeft")
            address = parse_qs(urlsplit(page.url).query)["cell"][0]
        site, shown = inspected(page, until, address)
        kinds.add(site.split("[")[0])
        assert shown == pytest.approx(value(model, site), abs=1e-5, rel=1e-5), site
    assert len(kinds) >= 4


@pytest.mark.parametrize(
    "cell",
    [
        "resid_post[23].unit[5]@13",
        "resid_mid[23].unit[100]@2",
        "mlp_act[23].unit[700]@13",
        "q[23].head[3].unit[1]@13",
        "pattern[23].head[3].unit[1]@13",
        "z[23].head[3].unit[40]@13",
    ],
)
def test_formulas_come_out_at_the_cell(visit: Visitor, model: ca.Model, until: Until, cell: str) -> None:
    """The operands are the model's numbers, and the formula computed from them gives the cell."""
    page = visit(f"/model?model=smollm2&3d=1&layer=23&cell={cell}")
    loaded(page, until)
    assert inspected(page, until, cell)[1] == pytest.approx(value(model, cell), abs=1e-5, rel=1e-5)
    formula = page.locator(".formula")
    formula.wait_for()
    assert float(formula.get_attribute("data-computed")) == pytest.approx(value(model, cell), abs=2e-4, rel=2e-4)
    rows = page.locator("table.operands tr[data-site]").evaluate_all("rows => rows.map((row) => ({...row.dataset}))")
    read = [row for row in rows if row["site"]]
    assert read or page.locator("table.terms tr[data-left]").count()
    for row in read:
        assert float(row["value"]) == pytest.approx(value(model, row["site"]), abs=1e-5, rel=1e-5), row


def test_pointing_shows_a_cell(visit: Visitor, model: ca.Model, until: Until) -> None:
    page = visit("/model?model=smollm2&3d=1&layer=3")
    scene = loaded(page, until)
    box = scene.bounding_box()
    assert box
    found: dict[str, float] = {}
    for across in range(3, 18):
        page.mouse.move(box["x"] + box["width"] * across / 20, box["y"] + box["height"] * (0.3 + 0.02 * across))
        page.wait_for_timeout(150)
        shown = page.locator(".inspector-value")
        if shown.count() and shown.get_attribute("data-value"):
            site, number = inspected(page, until)
            found[site] = number
        if len(found) >= 3:
            break
    assert len(found) >= 2, "no cell was found under the pointer"
    for site, number in found.items():
        assert number == pytest.approx(value(model, site), abs=1e-5, rel=1e-5), site


def test_the_text_is_written_on(visit: Visitor, model: ca.Model, until: Until) -> None:
    cell = "resid_post[0].unit[7]@14"
    page = visit("/model?model=smollm2&3d=1&layer=0")
    loaded(page, until)
    page.get_by_role("button", name="Next token").click()
    until(page, "document.querySelectorAll('.forward-tokens li').length === 15")
    longer = PROMPT + " Mary"
    assert page.locator(".forward-tokens li").last.inner_text() == "·Mary"
    assert parse_qs(urlsplit(page.url).query)["prompt"] == [longer]
    page.goto(f"{page.url}&cell={cell}")
    loaded(page, until)
    assert inspected(page, until, cell)[1] == pytest.approx(value(model, cell, longer), abs=1e-5, rel=1e-5)


def test_without_webgl_the_drawing_is_flat(visit_flat: Visitor) -> None:
    page = visit_flat("/model?model=smollm2&3d=1")
    page.get_by_text("This browser draws no WebGL 2").wait_for()
    assert page.get_by_role("group", name="smollm2 to scale").count() == 1
    assert page.locator(".scene").count() == 0


def test_areas_are_shares_of_the_parameters(visit: Visitor, model: ca.Model) -> None:
    page = visit("/model?model=smollm2")
    page.locator("svg.anatomy").wait_for()
    parts = page.locator("svg.anatomy [data-parameters]").evaluate_all(
        "parts => parts.map((part) => [Number(part.dataset.parameters), "
        "Number(part.getAttribute('width')) * Number(part.getAttribute('height'))])"
    )
    total = sum(parameter.numel() for parameter in model.hf.parameters())
    assert sum(parameters for parameters, _ in parts) == total
    scale = sum(area for _, area in parts) / total
    for parameters, area in parts:
        if parameters > total / 1000:  # what is smaller may be drawn a little wider, so that it is seen
            assert area == pytest.approx(parameters * scale, rel=0.02)
    page.locator('[data-layer="0"]').focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("group", name="Layer 2 to scale").wait_for()
    page.get_by_role("group", name="Heads").get_by_role("button", name="4", exact=True).click()
    assert parse_qs(urlsplit(page.url).query)["head"] == ["4"]
    # its queries and outputs, and the keys and values that it shares, are marked in the drawing
    marked = page.locator(".anatomy-band.chosen")
    assert marked.count() == 4
    assert all(band.bounding_box()["width"] > 10 and band.bounding_box()["height"] > 10 for band in marked.all())
