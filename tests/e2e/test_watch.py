"""The watch that all journeys are under sees what it is there to see."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest


def told(visit: Visitor) -> list[str]:
    """What the watch has to tell, which it then forgets."""
    visit.close()
    watch = visit.watch
    found: list[str] = watch.problems()
    watch.asked.clear(), watch.complaints.clear(), watch.refused.clear()
    return found


def test_a_page_that_asks_another_machine(visit: Visitor) -> None:
    page = visit("/")
    page.evaluate("fetch('http://192.0.2.1/').catch(() => 0)")
    found = told(visit)
    assert any("policy: connect-src" in each for each in found)


def test_a_picture_from_elsewhere(visit: Visitor) -> None:
    page = visit("/")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://192.0.2.1/x.png'}))")
    page.wait_for_timeout(300)
    assert any("policy: img-src" in each for each in told(visit))


def test_an_error_that_nobody_catches(visit: Visitor) -> None:
    page = visit("/")
    page.evaluate("setTimeout(() => { throw new Error('nobody catches this') })")
    page.wait_for_timeout(300)
    assert any("nobody catches this" in each for each in told(visit))


def test_an_answer_that_is_missing(visit: Visitor) -> None:
    page = visit("/")
    page.evaluate("fetch('/api/results/zz')")
    page.wait_for_timeout(300)
    assert any("/api/results/zz" in each for each in told(visit))


def test_a_page_from_another_machine(visit: Visitor) -> None:
    """A page is changed on its way so that it brings in a stranger's script: the policy keeps it out, the watch tells."""
    context = visit("/methods").context
    page = context.new_page()

    def changed(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(
            response=answer,
            body=answer.text().replace("</head>", '<script src="http://192.0.2.1/x.js"></script></head>'),
        )

    page.route(f"{visit.site.url}/methods", changed)
    page.goto(f"{visit.site.url}/methods")
    page.wait_for_timeout(300)
    found = told(visit)
    assert any("policy: script-src" in each for each in found)
