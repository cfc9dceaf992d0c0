"""A reader explains a prompt, takes parts out, does it all by keyboard, and writes markup that stays text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cutaway as ca

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest
Site = Any
Until = Callable[..., None]
Drawn = Callable[[Any], None]

PROMPT = "When Mary and John went to the store, John gave a drink to"
MARKUP = '<script>window.broken=1</script><img src=x onerror="window.broken=1"> is'


def percent(share: float) -> str:
    """As the pages write a share: three digits that count."""
    return f"{float(f'{100 * share:.3g}'):g} %"


def next_tokens(model: ca.Model, text: str, **how: Any) -> Any:
    return model.run(text, **how).logits[0, -1].float().softmax(-1)


def test_a_prompt_is_explained_to_the_end(
    visit: Visitor, explained: dict[str, Any], model: ca.Model, until: Until
) -> None:
    page = visit(explained["address"])
    page.get_by_role("heading", name="In short").wait_for()
    report = explained["job"]["report"]
    share = next_tokens(model, PROMPT)
    top = int(share.argmax())
    assert model.tokenizer.decode([top]) == report["answer"]["token"] == " Mary"
    assert report["answer"]["probability"] == pytest.approx(float(share[top]), abs=1e-5)

    # the page says that number, and only that number, of the answer
    said = page.locator(".summary li").first.inner_text()
    assert f"probability of {percent(float(share[top]))}" in said
    assert page.locator("article.report h2").first.inner_text().endswith("·Mary")
    # as one types: the ten likeliest tokens are those of the model, with their shares
    rows = page.get_by_role("list", name="Likeliest next tokens").locator("li")
    until(page, "document.querySelectorAll('[aria-label=\"Likeliest next tokens\"] li').length === 10")
    values, indices = share.topk(10)
    shown = [tuple(row.inner_text().split("\n")) for row in rows.all()]
    wanted = [(model.tokenizer.decode([int(i)]).replace(" ", "·"), percent(float(v))) for v, i in zip(values, indices)]
    assert shown == wanted


def test_the_report_is_whole(visit: Visitor, explained: dict[str, Any], until: Until, drawn: Drawn) -> None:
    """Every section with its pictures drawn, every claim with its check and its control."""
    page = visit(explained["address"])
    page.get_by_role("heading", name="In short").wait_for()
    sections = explained["job"]["report"]["sections"]
    until(page, f"document.querySelectorAll('.report-section figure').length >= {len(sections)}")
    drawn(page)
    assert page.locator(".report-section").count() == len(sections) >= 5
    assert page.locator(".cv-failed").count() == 0
    checks = sum(len(section["checks"]) for section in sections)
    assert page.locator(".report-section .check").count() == checks > 0
    assert page.locator(".report-section .check .interval").count() == checks
    assert page.get_by_role("status").get_by_text("The explanation is ready.").count() == 1
    assert page.get_by_role("progressbar", name="Progress").count() == 0


def test_a_word_is_shown_in_every_row_at_once(visit: Visitor, explained: dict[str, Any], until: Until) -> None:
    page = visit(explained["address"])
    page.get_by_role("heading", name="In short").wait_for()
    strip = page.get_by_role("list", name="Tokens of the explained prompt").locator("li")
    strip.nth(9).hover()
    until(page, "document.querySelectorAll('.token-strip li.hovered').length >= 3")
    hovered = page.locator(".token-strip li.hovered").all_inner_texts()
    assert hovered == ["·John", "·Mary", "·John"]  # in the prompt, in its contrast, in the report


def test_a_part_is_taken_out(visit: Visitor, explained: dict[str, Any], model: ca.Model) -> None:
    page = visit(explained["address"])
    panel = page.get_by_role("region", name="Take parts out")
    panel.get_by_role("checkbox", name=re.compile(r"^head 23\.3")).check()
    sentence = panel.locator("p", has_text="goes from")
    sentence.wait_for()
    mary = model.tokenizer.encode(" Mary")[-1]
    without = next_tokens(model, PROMPT, edit=[ca.ablate("z[23].head[3]", "zero")])
    shown = sentence.locator("strong").all_inner_texts()
    assert shown == [percent(float(next_tokens(model, PROMPT)[mary])), percent(float(without[mary]))]
    assert "random parts of the same kind" in sentence.inner_text()
    first = panel.get_by_role("list", name="Without the parts").locator("li").first.inner_text().split("\n")
    assert first == [model.tokenizer.decode([int(without.argmax())]).replace(" ", "·"), percent(float(without.max()))]
    assert "ablate=z%5B23%5D.head%5B3%5D" in page.url


@pytest.fixture(scope="module")
def by_keyboard(browser: Any, site: Site) -> Iterator[dict[str, Any]]:
    """A prompt full of markup, explained with Tab and Enter alone: which controls were passed, and the report."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(site.url)
    page.get_by_label("Prompt", exact=True).wait_for()
    passed = []
    for _ in range(40):
        focused = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
        passed.append(focused)
        if focused == "prompt":
            page.keyboard.insert_text(MARKUP)
            page.get_by_role("list", name="Likeliest next tokens").locator("li").first.wait_for(timeout=60_000)
        if focused == "Explain":
            page.keyboard.press("Enter")
            break
        page.keyboard.press("Tab")
    page.wait_for_url(re.compile("job="), timeout=60_000)
    job = site.wait(page.url.split("job=")[1].split("&")[0])
    page.get_by_role("heading", name="In short").wait_for(timeout=60_000)
    yield {"passed": passed, "address": page.url, "job": job}
    context.close()


def test_a_prompt_is_explained_by_keyboard(by_keyboard: dict[str, Any]) -> None:
    assert by_keyboard["job"]["state"] == "done", by_keyboard["job"]["error"]
    assert by_keyboard["job"]["spec"]["prompt"] == MARKUP
    # in the order in which they stand: the prompt, its contrast, the answer, the button
    passed = by_keyboard["passed"]
    assert passed.index("prompt") < passed.index("instead") < passed.index("answer") < passed.index("Explain")


def test_markup_in_a_prompt_stays_text(visit: Visitor, by_keyboard: dict[str, Any], until: Until, drawn: Drawn) -> None:
    page = visit(by_keyboard["address"])
    page.get_by_role("heading", name="In short").wait_for()
    until(page, "document.querySelectorAll('.report-section figure').length >= 4")
    drawn(page)
    # each token's box of the pictures is pointed at, since hints are made from the text too
    for token in page.locator(".cv-tokens li, .cv-tokens button, .token-strip li").all()[:12]:
        token.hover()
    assert_no_markup(page)
    assert "<script>" in page.locator("article.report h2").first.inner_text()
    assert page.get_by_label("Prompt", exact=True).input_value() == MARKUP
    page.goto(page.url.replace("/explain?", "/?"))
    assert_no_markup(page)


def assert_no_markup(page: Any) -> None:
    assert page.evaluate("window.broken") is None
    assert page.locator("img[src=x], img[onerror], main script").count() == 0
