"""Every page, dark and light, at a desk and on a phone: nothing runs out of sight, everything can be reached and named.

`CUTAWAY_DOCS=write` renews the pictures of the documentation. `CUTAWAY_SHOTS=FOLDER` keeps a picture of every page.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest
Until = Callable[..., None]

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images" / "workbench"
AXE = ROOT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
LARGEST = 200_000
DESK, PHONE = (1280, 800), (390, 844)
PAGES = {
    "explain": "{explain}",
    "methods": "/methods",
    "method": "/methods/logit_lens",
    "results": "/results",
    "result": "/results/{a}",
    "compare": "/compare/{a}/{b}",
    "model": "/model?model=smollm2",
    "layer": "/model?model=smollm2&layer=11&head=3",
    "space": "/model?model=smollm2&3d=1&layer=23&cell=resid_post[23].unit[40]@4&prompt=The capital of France is",
    "attention": "/attention?model=smollm2&layers=23&heads=3,6",
    "heads": "/attention?model=smollm2&mode=model&score=induction",
    "studies": "/studies",
    "study": "/studies/wang2022_ioi",
    "map": "/results/{map}?at.target=2&map.by=word",
    "contrast": "/results/{contrast}",
    "circuit": "/results/{circuit}",
    "spelling": "/results/{spelling}",
    "queries": "/attention?model=smollm2&mode=qk&layers=23&heads=3&key=1",
}
KEPT = {  # what the documentation shows
    ("explain", "light", DESK),
    ("result", "dark", DESK),
    ("map", "light", DESK),
    ("compare", "light", DESK),
    ("model", "light", DESK),
    ("space", "dark", DESK),
    ("attention", "light", DESK),
    ("method", "dark", PHONE),
    ("explain", "dark", PHONE),
}
RENEWED = os.environ.get("CUTAWAY_DOCS") == "write"
SHOTS = os.environ.get("CUTAWAY_SHOTS")

# What can be typed in or pressed and has no name that is read out.
NAMELESS = """() => [...document.querySelectorAll("input, select, textarea, button, a[href], [role=application], [tabindex='0']")]
  .filter((each) => each.checkVisibility())
  .filter((each) => !(each.labels?.length || each.ariaLabel || each.getAttribute("aria-labelledby") || each.innerText?.trim()
    || each.title || each.querySelector?.("img[alt], title")))
  .map((each) => each.outerHTML.slice(0, 120))"""
# What sticks out of the page on the right, although nothing around it scrolls.
OUTSIDE = """() => document.documentElement.scrollWidth <= window.innerWidth ? [] :
  [...document.querySelectorAll("body *")]
    .filter((each) => each.getBoundingClientRect().right > window.innerWidth + 1)
    .map((each) => `${each.tagName} ${each.className?.baseVal ?? each.className} ${Math.round(each.getBoundingClientRect().right)}`)
    .slice(0, 8)"""


@pytest.fixture(scope="module")
def addresses(explained: dict[str, Any], lenses: tuple[str, str], kept: Callable[[str], str]) -> dict[str, str]:
    values = {"explain": explained["address"], "a": lenses[0], "b": lenses[1]}
    values |= {name: kept(name) for name in ("map", "contrast", "circuit", "spelling")}
    return {name: pattern.format(**values) for name, pattern in PAGES.items()}


def settle(page: Any, name: str, until: Until) -> None:
    """Wait until nothing moves."""
    page.locator("main h1").wait_for()
    if name == "explain":
        until(page, "document.querySelectorAll('.report-section figure').length >= 6")
    if name == "space":
        until(
            page,
            "document.querySelector('.scene')?.dataset.loaded === document.querySelector('.scene')?.dataset.blocks",
        )
        until(page, "document.querySelector('.formula') !== null")
    waiting = ".cv[aria-busy=true], .spinner, .stale, .cv-stale, [aria-busy=true]"
    until(page, f"document.querySelectorAll('{waiting}').length === 0")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page(visit: Visitor, addresses: dict[str, str], until: Until, theme: str, size: tuple[int, int]) -> None:
    found: dict[str, Any] = {}
    for name, address in addresses.items():
        page = visit(address, width=size[0], height=size[1], color_scheme=theme)
        settle(page, name, until)
        if page.evaluate("document.documentElement.dataset.theme") != theme:
            found[f"{name}: not {theme}"] = page.url
        if places := page.evaluate(OUTSIDE):
            found[f"{name}: out of sight"] = places
        if places := page.evaluate(NAMELESS):
            found[f"{name}: without a name"] = places
        if SHOTS:
            page.screenshot(path=Path(SHOTS) / f"{name}-{theme}-{size[0]}.png", full_page=True)
        if RENEWED and (name, theme, size) in KEPT:
            IMAGES.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=IMAGES / f"{name}-{theme}-{size[0]}.png")
        if size == DESK:
            found |= {f"{name}: {rule}": places for rule, places in broken_rules(page).items()}
        visit.close()
    assert not found, json.dumps(found, indent=1)


def broken_rules(page: Any) -> dict[str, list[str]]:
    """The rules of WCAG 2.1 A and AA, of those that a machine can judge, that the page breaks, and where."""
    assert AXE.exists(), "axe-core is a development dependency of frontend/: npm ci"
    page.evaluate(AXE.read_text(encoding="utf-8"))
    done = page.evaluate(f"axe.run(document, {json.dumps(RULES)})")
    assert len(done["passes"]) >= 10, "the rules were not run"
    return {
        f"{rule['id']} ({len(rule['nodes'])})": [
            f"{node['target']} {node['failureSummary']}" for node in rule["nodes"]
        ][:3]
        for rule in done["violations"]
    }


def test_the_rules_are_judged(visit: Visitor) -> None:
    page = visit("/methods")
    page.locator(".method-card").first.wait_for()
    assert not broken_rules(page)
    page.evaluate("document.querySelector('main').append(document.createElement('button'), new Image(5, 5))")
    assert {rule.split(" ")[0] for rule in broken_rules(page)} == {"button-name", "image-alt"}


def test_pictures_of_the_documentation_are_there() -> None:
    wanted = {f"{name}-{theme}-{size[0]}.png" for name, theme, size in KEPT}
    assert {path.name for path in IMAGES.iterdir()} == wanted
    assert all(path.stat().st_size <= LARGEST for path in IMAGES.iterdir())


@pytest.mark.parametrize(
    "name", ["explain", "method", "results", "result", "study", "map", "layer", "space", "attention"]
)
def test_focus_is_seen(visit: Visitor, addresses: dict[str, str], until: Until, name: str) -> None:
    """Tab leads through the page, and what has the focus has an outline or a ring."""
    page = visit(addresses[name])
    settle(page, name, until)
    unseen, passed = [], set()
    for _ in range(45):
        page.keyboard.press("Tab")
        what, seen = page.evaluate(
            """() => {
              const at = document.activeElement;
              const style = getComputedStyle(at);
              const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
              return [`${at.tagName} ${at.id || at.ariaLabel || at.innerText?.slice(0, 30)}`, outline || style.boxShadow !== "none"];
            }"""
        )
        if what.startswith("BODY"):
            break
        passed.add(what)
        if not seen:
            unseen.append(what)
    assert not unseen
    assert len(passed) >= 8
