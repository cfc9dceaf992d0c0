"""Pages lead where they say, and what there is is mentioned."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import cutaway
from cutaway.cli.check import _SAYS as LAWS
from cutaway.cli.main import COMMANDS
from cutaway.core import registry
from cutaway.core.catalog import Entry
from cutaway.core.site import KINDS as SITES
from cutaway.core.view import KINDS as VIEWS
from cutaway.testing.documents import anchors_of, links_of
from cutaway.testing.pages import MADE, definitions

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
WRITTEN = "\n".join(text for text in TEXTS.values() if MADE not in text)
INLINE = sorted(set(re.findall(r"`(cutaway (?!COMMAND)[^`]+)`", WRITTEN)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links_of(TEXTS[page]):
        if re.match(r"https?://", link):
            continue
        name, _, part = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (part and part not in anchors_of(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_is_reached(page: Path) -> None:
    linked = {(p.parent / link.partition("#")[0]).resolve() for p, text in TEXTS.items() for link in links_of(text)}
    assert page in linked or page.name == "README.md"


def test_every_public_name_is_mentioned() -> None:
    assert not [name for name in cutaway.__all__ if not re.search(rf"\bca\.{name}\b", WRITTEN)]


def test_every_command_is_mentioned() -> None:
    assert not [c.name for c in COMMANDS if f"cutaway {c.name}" not in WRITTEN]


@pytest.mark.parametrize("kind", ["method", "task"])
def test_every_method_and_task_has_its_place(kind: str) -> None:
    page = TEXTS[ROOT / "docs" / "reference" / f"{kind}s.md"]
    names = [entry.name for entry in registry.entries(kind) if entry.distribution == registry.OURS]
    assert names and not [name for name in names if f"\n## {name}\n" not in page]


def test_every_kind_of_view_is_mentioned() -> None:
    assert not [kind for kind in VIEWS if f"`{kind}`" not in WRITTEN]


def test_every_law_is_mentioned() -> None:
    page = TEXTS[ROOT / "docs" / "anatomy.md"]
    assert not [law for law in LAWS if f"| {law} |" not in page]


def test_the_glossary_has_every_noun_and_every_kind_of_site() -> None:
    nouns = re.findall(r"^\| `(\w+)` \|", TEXTS[ROOT / "ARCHITECTURE.md"], re.MULTILINE)
    assert len(nouns) >= 7
    assert not [word for word in (*nouns, *SITES) if word not in definitions()]


def test_the_glossary_defines_each_word_once() -> None:
    words = re.findall(r"^\* \*\*(.+?)\*\*:", TEXTS[ROOT / "docs" / "glossary.md"], re.MULTILINE)
    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize("line", INLINE)
def test_commands_in_the_text_can_be_typed(line: str) -> None:
    """The names in commands that stand in running text: the commands of blocks are run."""
    words = shlex.split(line.replace("\\|", "|"))[1:]
    while words and words[0].startswith("--"):
        words = words[2:]
    assert words[0] in {command.name for command in COMMANDS}
    if words[0] == "run" and words[1:] and words[1].islower():
        known = _parameters(registry.find("method", words[1]))
        if "--task" in words:
            task = registry.find("task", words[words.index("--task") + 1])
            known |= {f"task.{name}" for name in _parameters(task)}
        given = {word.partition("=")[0] for word in words if re.match(r"[a-z_.]+=", word)}
        assert given <= known


def _parameters(entry: Entry) -> set[str]:
    return {parameter.name for parameter in entry.parameters}
