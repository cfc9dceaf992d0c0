"""How is a result sent to somebody? As one page that holds everything and needs no network.

Pictures are SVG inside the page; words, tables and texts are plain elements that can be read aloud, copied
and broken into lines. The page is light or dark as the reader's system is. Pointing at a mark shows its
values. All text goes in escaped, and the page forbids itself to load anything or to run any script but its
own.
A sentence that stands at one of several places (an explained token) has them all, with a slider.
Limits: the values under the pointer need the page's script; without it the browser's own hints show them,
slower. The slider needs it too; without it the sentences stand below each other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files

from cutaway.core.method import renderer
from cutaway.core.result import Check, Result, view_at
from cutaway.core.roles import index_of
from cutaway.core.view import View
from cutaway.drawing.framing import panel
from cutaway.drawing.palette import (
    CLASSES,
    MISSING,
    Rgb,
    ScaleName,
    class_colour,
    hexadecimal,
    ink_on,
    steps,
)
from cutaway.drawing.panels import Panel, Strip, Table, Texts
from cutaway.drawing.shapes.marks import clean, fill_of, legend
from cutaway.drawing.shapes.ruler import ruler
from cutaway.drawing.svg import bare, shape
from cutaway.drawing.words import (
    controlled,
    figure,
    label,
    measured,
    named,
    number,
    origin,
    placed,
    readable,
    standing,
    verdict,
    visible_text,
)

MOST_ROWS = 500
MOST_WORDS = 4000
MOST_STEPS, MOST_STEPPED_WORDS = 200, 8000  # of a sentence that can be moved: about 200 bytes a word


@renderer("html", asks="How do I send a result to somebody?")
def html(result: Result, view: int | None = None) -> str:
    """All pictures of a result, or one of them, with its figures, checks and notes, as one page.

    Args:
        result: what to show.
        view: index of the one view to show; all when None.
    """
    shown = range(len(result.views)) if view is None else [view]
    parts = [fragment(result, index, with_checks=False, stepped=True) for index in shown]
    parts += [figures(result)] if view is None else []
    parts += [checks(result.checks), notes(result), ended(result)]
    return page(str(result.provenance.get("method", "result")).replace("_", " "), parts)


def page(title: str, fragments: Iterable[str]) -> str:
    """A whole page from pieces of HTML that this module made.

    Args:
        title: the heading of the page, as text.
        fragments: what follows it, as HTML.
    """
    script = _script()
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{sha}'; img-src data:"
    heading = text(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{heading}</title>\n<style>{_OF_A_PAGE}{style()}</style>\n</head>\n<body>\n"
        f'<main class="cutaway">\n<h1>{heading}</h1>\n{"".join(fragments)}\n</main>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def fragment(result: Result, view_index: int, *, with_checks: bool = True, stepped: bool = False) -> str:
    """One picture with its caption and the checks of the result, as a piece of HTML.

    Args:
        result: what to show.
        view_index: which of its views.
        with_checks: whether the checks stand under the picture.
        stepped: whether a coloured sentence can be moved along the last dimension that it stands in, by the page's
            script.

    Raises:
        ParameterError: there is no such view.
    """
    view = view_at(result, view_index)
    steps = _steps(result, view) if stepped else None
    where = standing(view if steps is None else replace(view, at=dict(list(view.at.items())[:-1])), result.data)
    caption = f"<strong>{text(view.title)}</strong>" + (f" <span>{text(where)}</span>" if where else "")
    note = f'<p class="note">{text(view.note)}</p>' if view.note else ""
    body = picture(panel(result, view), view.title) if steps is None else steps
    under = checks(result.checks) if with_checks else ""
    return f'<figure class="{view.kind}"><figcaption>{caption}</figcaption>{body}{note}</figure>\n{under}'


def picture(content: Panel, title: str) -> str:
    """The panel as HTML: words, tables and texts as such, all else as SVG."""
    match content:
        case Strip():
            return _strip(content)
        case Table():
            return _table(content)
        case Texts():
            return _texts(content)
    return f'<div class="picture">{bare(shape(content), title)}</div>'


def checks(tested: Sequence[Check]) -> str:
    """The checks with their figures, their controls and their outcomes in words."""
    return "".join(_check(check) for check in tested)


def figures(result: Result) -> str:
    """The metrics of a result as a list."""
    rows = "".join(f"<dt>{text(name)}</dt><dd>{text(_said(value))}</dd>" for name, value in result.metrics.items())
    return f'<dl class="figures">{rows}</dl>\n' if rows else ""


def notes(result: Result) -> str:
    """What a reader must know."""
    return "".join(f'<p class="note">Note: {text(note)}</p>\n' for note in result.notes)


def ended(result: Result) -> str:
    """Where the result comes from, and the command that repeats it."""
    command = result.provenance.get("command")
    again = f"<p>Again: <code>{text(command)}</code></p>" if isinstance(command, str) and command else ""
    return f"<footer>{again}<p>{text(origin(result))}</p></footer>\n"


def text(words: str) -> str:
    """Words as HTML: escaped, on one line, with every character to be seen."""
    return escape(clean(visible_text(words)))


# What only a page of our own may say: a notebook's page is not ours.
_OF_A_PAGE = (
    ":root{color-scheme:light dark}body{margin:0;background:#ffffff}"
    "@media (prefers-color-scheme: dark){body{background:#15181c}}"
)


def style() -> str:
    """The style sheet: our rules, and the colours of both themes."""
    dark = "".join(f"{selector}{{{rule}}}" for selector, rule in _colours())
    return f"{_file('page.css')}@media (prefers-color-scheme: dark){{{dark}}}"


def _colours() -> Iterable[tuple[str, str]]:
    """What dark colours the classes have that the shapes and words carry."""
    names: tuple[ScaleName, ...] = ("diverging", "sequential")
    for name in names:
        for step, rgb in enumerate(steps(name, "dark")):
            yield from _filled(f"{name[0]}{step}", rgb)
            yield f".cutaway .{name[0]}{step}-line", f"stroke:{hexadecimal(rgb)}"
    for index in range(len(CLASSES["dark"])):
        chosen = hexadecimal(class_colour(index, "dark"))
        yield f".cutaway .k{index}", f"fill:{chosen}"
        yield f".cutaway .k{index}-line", f"stroke:{chosen}"
    yield from _filled("none", MISSING["dark"])


def _filled(name: str, rgb: Rgb) -> Iterable[tuple[str, str]]:
    ground, ink = hexadecimal(rgb), hexadecimal(ink_on(rgb))
    yield f".cutaway .{name}", f"fill:{ground}"
    yield f".cutaway .on-{name}", f"fill:{ink}"
    yield f".cutaway .word .{name}", f"background:{ground};color:{ink}"


def _steps(result: Result, view: View) -> str | None:
    """The sentence at every place of the last dimension that it stands in; None where there is one, or too much."""
    data = result.data
    dim = list(view.at)[-1] if view.kind == "tokens" and view.at else ""
    count = data.sizes.get(dim, 0)
    sentence = panel(result, view) if 1 < count <= MOST_STEPS else None
    if not isinstance(sentence, Strip) or count * len(sentence.words) > MOST_STEPPED_WORDS:
        return None
    counted = dim in data.variables and data[dim].dtype.kind not in "OUTb"
    places = data[dim].values.tolist() if counted else range(count)
    pieces = []
    for index, place in enumerate(places):
        here = replace(view, at={**view.at, dim: place})
        shown = panel(result, here)
        name = f"{index + 1} of {count}{_word_at(result, here, dim)}"
        first = " data-first" if index == index_of(data, dim, view.at[dim], view) else ""
        pieces.append(
            f'<div class="step" data-name="{_attribute(name)}"{first}><h3>{text(name)}</h3>'
            f"{picture(shown, view.title)}</div>"
        )
    called = named(data[dim]) if dim in data.variables else dim
    return f'<div class="steps" data-name="{_attribute(called)}">{"".join(pieces)}</div>'


def _word_at(result: Result, view: View, dim: str) -> str:
    """What stands at the place that the view is at, where a coordinate of words says so."""
    for array in result.data.coords.values():
        if array.dtype.kind in "OUT" and dim in array.dims and set(array.dims) <= set(view.at):
            where = {str(each): index_of(result.data, str(each), view.at[str(each)]) for each in array.dims}
            return f": {label(str(array.isel(where).item()))}"
    return ""


def _strip(content: Strip) -> str:
    pieces = []
    for word, value in list(zip(content.words, content.values.tolist()))[:MOST_WORDS]:
        rgb, name = fill_of(content.scale, value)
        said = figure(value, signs=content.scale.name == "diverging")
        colours = f"--fill:{hexadecimal(rgb)};--ink-on:{hexadecimal(ink_on(rgb))}"
        hint = _attribute(f"{word} {said}")
        shown = f'<b class="{name}" style="{colours}" data-hint="{hint}">{escape(clean(word))}</b>'
        pieces.append(f'<span class="word">{shown}<i>{said}</i></span>')
    missing = any(value != value for value in content.values.tolist())
    key = bare(legend(content.scale, content.value_name, missing=missing), content.value_name)
    cut = f'<p class="note">{MOST_WORDS} of {len(content.words)} words are shown.</p>'
    words = f'<p class="words">{"".join(pieces) or "no words"}</p>'
    return (
        words
        + (f'<div class="picture">{key}</div>' if pieces else "")
        + (cut if len(content.words) > MOST_WORDS else "")
    )


def _table(content: Table) -> str:
    height = len(content.columns[0])
    sides = ["number" if numeric else "text" for numeric in content.numeric]
    head = "".join(f'<th class="{side}">{text(name)}</th>' for side, name in zip(sides, content.names))
    rows = (
        "".join(f'<td class="{side}">{escape(clean(column[row]))}</td>' for side, column in zip(sides, content.columns))
        for row in range(min(height, MOST_ROWS))
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    cut = f'<p class="note">{MOST_ROWS} of {height} rows are shown.</p>' if height > MOST_ROWS else ""
    empty = '<p class="note">no rows</p>' if not height else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="picture">{table}</div>{cut}{empty}'


def _texts(content: Texts) -> str:
    pieces = []
    for name, said in zip(content.labels, content.texts):
        head = f"<h3>{text(name)}</h3>" if name else ""
        pieces.append(f"{head}<pre>{escape(clean(readable(said)))}</pre>")
    return "".join(pieces) or '<p class="note">no texts</p>'


def _check(check: Check) -> str:
    drawn = ruler(check)
    line = f'<div class="picture">{bare(drawn, check.claim)}</div>' if drawn else ""
    figure = f"Measured <b>{text(measured(check))}</b>; control {text(controlled(check))}; {text(placed(check))}."
    return (
        f'<section class="check {"holds" if check.passed else "fails"}">'
        f'<p><strong class="verdict">{verdict(check)}</strong> {text(check.claim)}</p>'
        f"<p>{text(check.how)}</p>{line}<p>{figure}</p></section>\n"
    )


def _said(value: float | int | str) -> str:
    return value if isinstance(value, str) else number(value)


def _attribute(words: str) -> str:
    return escape(clean(readable(words)), quote=True)


def _file(name: str) -> str:
    return (files("cutaway.drawing") / name).read_text(encoding="utf-8")


def _script() -> str:
    return _file("page.js")
