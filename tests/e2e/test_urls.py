"""An address holds the state of its page: a browser that has never been here shows the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest
Until = Callable[..., None]
Drawn = Callable[[Any], None]

# Everything that a reader can set, as the page shows it: fields, pressed buttons, ticks; and what it says on top.
STATE = """() => ({
  title: document.querySelector("main h1")?.innerText,
  fields: [...document.querySelectorAll("main textarea, main select, main input:not([type=checkbox]):not([type=radio])")]
    .map((field) => `${field.labels?.[0]?.innerText.split("\\n")[0] ?? ""}: ${field.value}`),
  pressed: [...document.querySelectorAll("main [aria-pressed=true]")].map((button) => button.innerText),
  ticked: [...document.querySelectorAll("main input:checked")].map((box) => box.labels?.[0]?.innerText ?? box.ariaLabel),
  pictures: [...document.querySelectorAll("main figcaption > span:first-child")].map((caption) => caption.innerText),
})"""


def same_elsewhere(visit: Visitor, page: Any, ready: Callable[[Any], None]) -> dict[str, Any]:
    """The state of the page, which a fresh browser must show too."""
    ready(page)
    state = page.evaluate(STATE)
    other = visit(page.url)
    ready(other)
    for _ in range(40):
        if other.evaluate(STATE) == state:
            break
        other.wait_for_timeout(250)
    assert other.evaluate(STATE) == state
    assert other.url == page.url
    found: dict[str, Any] = state
    return found


def test_a_report(visit: Visitor, explained: dict[str, Any], until: Until, drawn: Drawn) -> None:
    page = visit(explained["address"])

    def ready(page: Any) -> None:
        page.get_by_role("heading", name="In short").wait_for()
        until(page, "document.querySelectorAll('.report-section figure').length >= 6")
        drawn(page)
        until(page, "document.querySelectorAll('.before-after li').length >= 10")
        until(page, "document.querySelectorAll('.next-token li').length === 10")

    page.get_by_role("checkbox", name=re.compile(r"^MLP 28")).check()
    page.get_by_role("checkbox", name=re.compile(r"^head 29\.1")).check()
    state = same_elsewhere(visit, page, ready)
    assert len(state["ticked"]) == 2
    assert "Prompt: When Mary and John went to the store, John gave a drink to" in state["fields"]


def test_a_picture_of_a_result(visit: Visitor, lenses: tuple[str, str], drawn: Drawn) -> None:
    page = visit(f"/results/{lenses[0]}")
    drawn(page)
    slider = page.get_by_role("slider").first
    slider.focus()
    slider.press("ArrowRight")
    place = slider.input_value()
    tab = page.get_by_role("group", name="Which picture").get_by_role("button").nth(1)
    chosen = tab.inner_text()
    tab.click()
    state = same_elsewhere(visit, page, drawn)
    assert state["pressed"] == [chosen] and state["pictures"] == [chosen]
    assert "view=0" in page.url and "at." in page.url
    fresh = visit(page.url)
    drawn(fresh)
    assert fresh.get_by_role("slider").first.input_value() == place


def test_a_comparison(visit: Visitor, lenses: tuple[str, str], drawn: Drawn) -> None:
    page = visit(f"/compare/{lenses[0]}/{lenses[1]}")
    drawn(page)
    page.get_by_role("group", name="Which picture").get_by_role("button").nth(2).click()
    state = same_elsewhere(visit, page, drawn)
    assert "view=2" in page.url
    assert len(state["pictures"]) == 3 and len(state["pressed"]) == 1


def test_a_method_that_was_filled_in(visit: Visitor) -> None:
    page = visit("/methods/logit_lens")
    page.get_by_role("radio", name="prompts of my own").check()
    page.get_by_label("prompt", exact=True).fill(" two  spaces & a <b>")
    page.get_by_role("button", name="Add a prompt").click()
    page.get_by_label("prompt", exact=True).nth(1).fill("The capital of France is")
    page.get_by_label(re.compile("^top")).fill("7")
    page.get_by_label("Model").select_option("gemma3-270m")

    def ready(page: Any) -> None:
        page.get_by_role("group", name="Prompt 2").wait_for()

    state = same_elsewhere(visit, page, ready)
    assert {"Model: gemma3-270m"} <= set(state["fields"])
    assert page.get_by_label("prompt", exact=True).first.input_value() == " two  spaces & a <b>"


def test_a_layer_of_a_model(visit: Visitor) -> None:
    page = visit("/model?model=smollm2")
    page.get_by_role("button", name="Layer 11", exact=True).click()
    page.get_by_role("group", name="Heads").get_by_role("button", name="5", exact=True).click()

    def ready(page: Any) -> None:
        page.get_by_role("group", name="Layer 11 to scale").wait_for()

    state = same_elsewhere(visit, page, ready)
    assert state["pressed"] == ["To scale", "5"]


def test_a_cell_in_space(visit: Visitor, until: Until) -> None:
    page = visit("/model?model=smollm2&3d=1&layer=4&prompt=The+capital+of+France+is")

    def ready(page: Any) -> None:
        page.get_by_role("application").wait_for()
        until(page, "document.querySelector('.inspector-value')?.dataset.value > ''")
        until(page, "document.querySelectorAll('.forward-side .distribution li').length === 8")

    page.get_by_role("application").focus()
    page.get_by_role("application").press("]")
    page.get_by_role("application").press("ArrowDown")
    state = same_elsewhere(visit, page, ready)
    assert "A forward pass in 3-D" in state["pressed"]
    cells = [each.locator(".inspector-value").get_attribute("data-site") for each in (page, visit(page.url))]
    assert cells[0] == cells[1] is not None


@pytest.mark.parametrize(("view", "mode"), [("All heads", "model"), ("Queries and keys", "qk")])
def test_a_view_of_attention(visit: Visitor, until: Until, view: str, mode: str) -> None:
    page = visit("/attention?model=smollm2&text=The+capital+of+France+is&layers=7&heads=2")
    page.get_by_role("button", name=view).click()

    def ready(page: Any) -> None:
        page.locator(".attention-frame").wait_for()
        until(page, "document.querySelector('#query-token')?.value !== ''")
        page.get_by_role("button", name=view, pressed=True).wait_for()
        page.get_by_label("Running the model").wait_for(state="detached")

    state = same_elsewhere(visit, page, ready)
    assert f"mode={mode}" in page.url and view in state["pressed"]


def test_back_leads_back(visit: Visitor) -> None:
    page = visit("/methods")
    page.get_by_role("link", name="Which words is the prediction most sensitive to?").click()
    page.wait_for_url("**/methods/saliency")
    page.get_by_role("link", name="Results").first.click()
    page.wait_for_url("**/results")
    page.go_back()
    page.get_by_role("heading", name="Which words is the prediction most sensitive to?").wait_for()
    page.go_back()
    page.get_by_role("heading", name="Methods").wait_for()


def test_an_address_that_leads_nowhere(visit: Visitor) -> None:
    page = visit("/nowhere")
    page.get_by_role("heading", name="There is no such page").wait_for()
    visit.watch.allowed.add(404)
    page = visit("/results/" + "0" * 64)
    page.get_by_role("alert").wait_for()
