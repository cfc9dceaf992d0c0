"""The catalogue is the list, whole; what became of each paper follows from registry and records."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import registry
from cutaway.core.claim import Claim, Figure
from cutaway.core.errors import MethodError
from cutaway.runtime.study_records import Record
from cutaway.studies import catalogue, pages
from cutaway.studies.report import (
    about,
    claims_written,
    control,
    ours,
    standing_in_words,
    standing_of,
    standings,
    theirs,
    totals,
)

ECHO = Path(__file__).parents[1] / "runtime" / "echo_study.py"
NAME = "echo_study/echo_study"
CLAIMS = (
    Claim("lead", "It | leads", "1.0", "figure 1", "memory", at_least=0.0, unit="logits"),
    Claim("never", "Not measured", at_most=1.0),
)


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> registry.Entry:
    monkeypatch.setattr(registry, "_files", {})
    registry.load_file(ECHO)
    monkeypatch.setattr(
        registry, "_all", lambda kind: (e for e in registry._read(ECHO, "echo", "x") if e.kind == "study")
    )
    entry = replace(registry.entries("study")[0], name=NAME)
    monkeypatch.setattr(registry, "entries", lambda kind: [entry] if kind == "study" else [])
    return entry


def record(entry: registry.Entry, **changed: Any) -> Record:
    figure = Figure(5.678, low=5.1, high=6.3, n=9, control=0.02, control_is="untrained <b>")
    from cutaway.runtime.study_recipe import fingerprint_of_file

    given: dict[str, Any] = {
        "study": NAME,
        "scale": "small",
        "claims": (CLAIMS[0].measured(figure, "small"), CLAIMS[1].measured(None, "small")),
        "differs": "Another <model>.",
        "seed": 3,
        "versions": {"torch": "2"},
        "device": "cpu, 2 threads",
        "models": ({"name": "smollm2", "device": "cpu"},),
        "seconds": 12.0,
        "date": "2026-01-02T03:04:05+00:00",
        "code": fingerprint_of_file(entry.path)[:16],
        "command": f"cutaway study run {NAME} --scale small",
    }
    return Record(**{**given, **changed})


def test_the_list_is_whole() -> None:
    items = [paper.item for paper in catalogue.papers()]
    assert items == [*(f"P{n}" for n in range(1, 44)), *(f"A{n}" for n in range(1, 11))]
    assert [tool.item for tool in catalogue.tools()] == [f"T{n}" for n in range(1, 17)]
    assert [group.item for group in catalogue.groups()] == ["G1", "G2", "G3"]


def test_wrong_links_are_put_right() -> None:
    right = {"P26": "2304.01373", "P33": "2310.11207", "P35": "2309.08600", "P36": "2304.11158"}
    for item, number in right.items():
        assert catalogue.paper(item).link == f"https://arxiv.org/abs/{number}"
    assert {paper.item for paper in catalogue.papers() if paper.listed} == {"P26", "P35", "P36"}
    links = [paper.link for paper in catalogue.papers() if not paper.same]
    assert len(set(links)) == len(links)


@pytest.mark.parametrize("paper", catalogue.papers(), ids=lambda paper: paper.item)
def test_an_entry_says_what_a_reader_needs(paper: catalogue.Paper) -> None:
    assert paper.title
    assert paper.authors
    assert 2016 < paper.year < 2026
    assert re.match(r"https://[\w.-]+/\S+$", paper.link)
    assert paper.question.endswith("?")
    assert len(paper.question) < 100
    assert paper.methods
    assert all(name.isidentifier() for name in paper.methods)


def test_an_unknown_item_is_a_sentence() -> None:
    with pytest.raises(MethodError, match=r"there is no item 'P99' on the list; .*Write P1 to P43"):
        catalogue.paper("P99")


def test_a_study_finds_its_paper(echo: registry.Entry) -> None:
    found = standings({})
    (standing,) = [each for each in found if each.study]
    assert standing.paper.item == "P34"
    assert standing.status == "not run yet"
    assert standing.claims == claims_written(echo)
    assert standing.verdicts == {"not tested here": 2}
    assert totals(found)["to come"] == 52


def test_a_record_gives_the_verdicts(echo: registry.Entry) -> None:
    standing = standing_of("echo_study", {NAME: {"small": record(echo)}})
    assert standing.status == "recorded"
    assert not standing.stale
    assert standing.verdicts == {"same phenomenon at small scale": 1, "not tested here": 1}
    assert standing_in_words(standing) == (
        "recorded at small scale on 2026-01-02: 1 same phenomenon at small scale, 1 not tested here"
    )
    assert about(standing)[0].endswith("(K. Wang, A. Variengien, A. Conmy, B. Shlegeris, J. Steinhardt, 2022)")


def test_the_largest_scale_is_shown(echo: registry.Entry) -> None:
    paper = record(echo, scale="paper", claims=(CLAIMS[0].measured(Figure(1.0), "paper"),))
    standing = standing_of("echo_study", {NAME: {"small": record(echo), "paper": paper}})
    assert standing.scales == ("paper", "small")
    assert standing.verdicts == {"reproduced": 1}


def test_a_changed_study_says_that_its_record_is_older(echo: registry.Entry) -> None:
    standing = standing_of("echo_study", {NAME: {"small": record(echo, code="0" * 16)}})
    assert standing.stale
    assert standing_in_words(standing).endswith("; the study was changed since")


def test_papers_without_a_study_are_found_by_item_and_key(echo: registry.Entry) -> None:
    assert standing_of("P1", {}).status == standing_of("gurnee2023", {}).status == "to come"
    with pytest.raises(MethodError, match="there is no study 'P99'"):
        standing_of("P99", {})


def test_figures_in_words() -> None:
    claim = CLAIMS[0].measured(Figure(5.678, low=5.1, high=6.3, control=0.02, control_is="untrained"), "small")
    assert theirs(claim) == "1.0 (from memory)"
    assert ours(claim) == "5.68 logits [5.1, 6.3]"
    assert control(claim) == "0.02 (untrained)"
    assert (theirs(CLAIMS[1]), ours(CLAIMS[1]), control(CLAIMS[1])) == ("–", "–", "–")


def test_the_page_is_safe_and_has_every_paper(echo: registry.Entry) -> None:
    text = pages.html_report(standings({NAME: {"small": record(echo)}}))
    assert all(f'<section id="{paper.item}">' in text for paper in catalogue.papers())
    assert "same phenomenon at small scale" in text
    assert "untrained &lt;b&gt;" in text
    assert "Another &lt;model&gt;." in text
    assert "<b>" not in text.partition("<main")[2]
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_the_page_of_the_docs_has_claims_and_corrections(echo: registry.Entry) -> None:
    text = pages.markdown(standings({NAME: {"small": record(echo)}}), "<!-- made -->")
    assert "It \\| leads (figure 1) | 1.0 (from memory) | 5.68 logits [5.1, 6.3]" in text
    assert "| P35 Sparse Autoencoders Find Highly Interpretable Features in Language Models | https://arxiv.org" in text
    assert "(smollm2; seed 3; cpu, 2 threads; 12 s)" in text
    assert "Papers: 1 recorded, 0 not run yet, 52 to come." in text
    rows = re.findall(r"^\| (?:P|A)\d+ \| ", text, re.MULTILINE)
    assert len(rows) == 53
