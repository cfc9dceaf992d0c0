"""An explanation as a reader sees it: in the terminal, and as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from cutaway.apps.explanation.summary import quoted
from cutaway.drawing import html as pages
from cutaway.drawing import terminal
from cutaway.drawing.words import visible_text
from cutaway.store.atomic import write_bytes

if TYPE_CHECKING:
    from cutaway.apps.explanation.explanation import Explanation
    from cutaway.apps.explanation.sections import Section


def show(explanation: Explanation, console: Console | None = None) -> None:
    """Print an explanation."""
    (console or Console(highlight=False, soft_wrap=False)).print(drawn(explanation))


def drawn(explanation: Explanation) -> RenderableType:
    """An explanation for any rich console: the summary first, then each question."""
    parts: list[RenderableType] = [_heading(explanation), Text()]
    parts += [Padding(Text(f"• {visible_text(line)}"), (0, 0, 0, 2)) for line in explanation.summary]
    for number, section in enumerate(explanation.sections, 1):
        parts += [Text(), *_section(number, section)]
    notes = (*explanation.question.notes,)
    parts += [Text(), *(Text(f"Note: {visible_text(note)}") for note in notes)]
    parts += [
        Rule("Look deeper", align="left", style="dim"),
        *(Text(f"  {line}") for line in explanation.commands),
    ]
    return Group(*parts, Text(f"\n{_origin(explanation)}", style="dim"))


def _heading(explanation: Explanation) -> Text:
    q = explanation.question
    text = Text("Why does ", style="bold")
    text.append(str(explanation.provenance.get("model", {}).get("name", "the model")), style="bold")
    text.append(f" continue {visible_text(f'“{q.prompt}” with {quoted([q.answer])}?')}", style="bold")
    return text


def _section(number: int, section: Section) -> Iterator[RenderableType]:
    yield Rule(f"{number}. {section.title}", align="left")
    for line in section.says:
        yield Text(visible_text(line))
    yield Text()
    for index in section.brief or section.shown:
        yield terminal.renderable(section.result, section.result.views[index])
        yield Text()
    for check in section.result.checks:
        yield terminal.check(check)
        yield Text()


def _origin(explanation: Explanation) -> str:
    p = explanation.provenance
    model = p.get("model", {})
    versions = ", ".join(f"{name} {version}" for name, version in dict(p.get("versions", {})).items())
    parts = [
        f"{model.get('name')} ({model.get('source') or 'source unknown'})",
        f"{model.get('dtype')} on {model.get('device')}, {model.get('attention')} attention",
        f"seed {p.get('seed')}, {p.get('controls')} random controls",
        f"{p.get('seconds')} s",
        versions,
    ]
    return " · ".join(str(part) for part in parts if part)


# --- HTML --------------------------------------------------------------------------------------------------------


def html(explanation: Explanation) -> str:
    """One page."""
    q = explanation.question
    name = explanation.provenance.get("model", {}).get("name", "the model")
    return pages.page(f"Why does {name} say {quoted([q.answer])}?", [fragments(explanation)])


def fragments(explanation: Explanation) -> str:
    """The page's content, also for notebooks."""
    q, text = explanation.question, pages.text
    parts = [f"<p>Prompt: <q>{text(q.prompt)}</q></p>"]
    if q.contrast:
        parts.append(f"<p>Instead: <q>{text(q.contrast)}</q></p>")
    parts.append("<ul>" + "".join(f"<li>{text(line)}</li>" for line in explanation.summary) + "</ul>")
    for number, section in enumerate(explanation.sections, 1):
        parts.append(f'<section id="{section.name}"><h2>{number}. {text(section.title)}</h2>')
        parts += [f"<p>{text(line)}</p>" for line in section.says]
        parts += [pages.fragment(section.result, index, with_checks=False) for index in section.shown]
        parts += [pages.checks(section.result.checks), pages.notes(section.result), "</section>"]
    parts += [f'<p class="note">Note: {text(note)}</p>' for note in q.notes]
    commands = "".join(f"<li><code>{text(line)}</code></li>" for line in explanation.commands)
    parts.append(f"<h2>Look deeper</h2><ul>{commands}</ul><footer><p>{text(_origin(explanation))}</p></footer>")
    return "\n".join(parts)


def write(path: Path, content: str) -> Path:
    """Write a text whole or not at all."""
    write_bytes(path, content.encode())
    return path
