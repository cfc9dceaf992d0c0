"""A method is found, filled in, run, cancelled; a stranger's method appears by itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cutaway as ca

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest
Site = Any
Drawn = Callable[[Any], None]

PLUGIN = Path(__file__).parents[1] / "plugin_package" / "src" / "cutaway_margin" / "margin.py"
CAPITAL = "The capital of France is"


def fill(page: Any, *, prompt: str) -> None:
    page.get_by_role("radio", name="prompts of my own").check()
    page.get_by_label("prompt", exact=True).fill(prompt)


def test_a_method_is_found_and_run(visit: Visitor, model: ca.Model, drawn: Drawn) -> None:
    page = visit("/methods")
    page.get_by_label("Search").fill("stopped after each")
    page.get_by_text(re.compile(r"^1 of \d+ methods$")).wait_for()
    page.get_by_role("link", name="What would the model say if it stopped after each layer?").click()
    page.get_by_role("heading", name="What would the model say if it stopped after each layer?").wait_for()
    fill(page, prompt=CAPITAL)
    top = page.get_by_label(re.compile("^top"))
    top.fill("0")
    page.get_by_role("alert").wait_for()
    assert page.get_by_role("button", name="Run").is_disabled()
    top.fill("2")
    page.get_by_label(re.compile("^controls")).fill("5")
    page.get_by_label(re.compile("^tested")).fill("1")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("heading", name=re.compile("^Result")).wait_for(timeout=120_000)
    drawn(page)
    assert "job=" in page.url and "p.top=2" in page.url
    grid = page.locator(".cv-grid").first
    grid.focus()
    grid.press("Control+End")
    share = model.run(CAPITAL).logits[0, -1].float().softmax(-1)
    token = model.tokenizer.decode([int(share.argmax())])
    said = page.locator(".cv-picture").first.locator("[aria-live]").inner_text()
    assert token.strip() in said and f"{float(share.max()):.3g}" in said
    # the same, as text to copy
    copied = page.locator("aside").inner_text()
    assert f'cutaway run logit_lens -m smollm2 --prompt "{CAPITAL}"' in copied or "cutaway run logit_lens" in copied
    page.get_by_role("link", name="open it by itself").click()
    page.get_by_role("heading", name="Where it comes from").wait_for()


def test_a_long_method_is_cancelled(visit: Visitor, site: Site) -> None:
    page = visit("/methods/patching?t.n=200")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("progressbar", name="Progress").wait_for()
    page.get_by_text(re.compile(r"so far")).wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("The job was cancelled; nothing of it was kept.").wait_for()
    job = site.ask(f"/jobs/{page.url.split('job=')[1].split('&')[0]}")
    assert job["state"] == "cancelled" and not job["results"]
    assert page.get_by_role("button", name="Run").is_enabled()
    # the model is free for the next question
    other = visit("/")
    other.get_by_label("Prompt", exact=True).fill(CAPITAL)
    other.get_by_role("list", name="Likeliest next tokens").locator("li").first.wait_for(timeout=20_000)


@pytest.fixture
def visit_plugin(
    browser: Any, pages: Path, serving_site: Callable[..., Any], visiting_site: Callable[..., Any], tmp_path: Path
) -> Iterator[Visitor]:
    """A visitor of a server that was started with a stranger's file."""
    assert pages.exists()
    with serving_site(tmp_path / "store", "--plugin", str(PLUGIN)) as site, visiting_site(browser, site) as visitor:
        yield visitor


def test_a_strangers_method_appears_and_runs(visit_plugin: Visitor, model: ca.Model, drawn: Drawn) -> None:
    page = visit_plugin("/methods")
    page.get_by_role("link", name="By how much does the favourite lead?").click()
    runner_up = page.get_by_label(re.compile("^runner up"))
    assert runner_up.input_value() == "2"
    page.get_by_text("rank of the token that is compared with").wait_for()
    runner_up.fill("3")
    fill(page, prompt=CAPITAL)
    page.get_by_role("button", name="Run").click()
    page.get_by_role("heading", name=re.compile("^Result")).wait_for(timeout=120_000)
    drawn(page)
    top = model.run(CAPITAL).logits[0, -1].float().topk(3).values
    shown = page.locator(".metrics div", has_text="mean margin").locator("dd").inner_text()
    assert float(shown) == pytest.approx(float(top[0] - top[2]), rel=6e-3)


def test_what_this_server_does_not_have(visit: Visitor) -> None:
    page = visit("/methods/margin")
    page.get_by_role("heading", name="There is no method margin").wait_for()
