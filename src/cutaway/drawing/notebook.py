"""How does a result look in a notebook? As a widget where there can be one, as HTML and as text everywhere.

A notebook keeps all of them: one that is opened without the widget's package shows the HTML, and a front end that shows
no HTML, such as a console or a diff, takes the text.
Limits: a notebook that is not trusted runs no scripts and shows no SVG elements, so pictures are images there, in the
colours of light paper; only the widget can be pointed at.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from cutaway.core.method import renderer
from cutaway.core.result import Result
from cutaway.drawing.html import checks, ended, figures, fragment, notes, style
from cutaway.drawing.terminal import whole
from cutaway.drawing.widget import interactive, wanted, widget


@renderer("notebook", asks="What does the result look like in a notebook?")
def notebook(result: Result, view: int | None = None) -> dict[str, Any]:
    """What a notebook shows: a widget in a running one, HTML, and plain text for front ends without either.

    Args:
        result: what to show.
        view: index of the one view to show; all when None.
    """
    shown = range(len(result.views)) if view is None else [view]
    parts = [fragment(result, index, with_checks=False) for index in shown]
    parts += [figures(result), checks(result.checks), notes(result), ended(result)]
    inside = _SVG.sub(_image, "".join(parts))
    return {
        "text/html": f'<style>{style()}</style><div class="cutaway">{inside}</div>',
        "text/plain": plain(result, view),
        **interactive(result, view),
    }


_SVG = re.compile(r"<svg\b.*?</svg>", re.DOTALL)
_LABEL = re.compile(r'aria-label="([^"]*)"')


def _image(found: re.Match[str]) -> str:
    """An SVG element as an image that holds it."""
    drawn = found[0]
    label = _LABEL.search(drawn)
    data = base64.b64encode(drawn.encode()).decode()
    alt = label[1] if label else "picture"
    return f'<img alt="{alt}" style="background:#ffffff" src="data:image/svg+xml;base64,{data}">'


@dataclass(frozen=True)
class Html:
    """A piece of HTML that a notebook shows."""

    text: str

    def _repr_html_(self) -> str:
        return self.text


@renderer("marimo", asks="What does the result look like in a marimo notebook?")
def marimo(result: Result, view: int | None = None) -> Any:
    """What marimo shows, which takes an object: the widget where there can be one, and HTML otherwise.

    Args:
        result: what to show.
        view: index of the one view to show; all when None.
    """
    return widget(result, view) if wanted() else Html(str(notebook(result, view)["text/html"]))


def plain(result: Result, view: int | None = None, *, width: int = 100) -> str:
    """The result as plain text, as a terminal without colours shows it."""
    # inside a notebook, rich would show what it prints, whatever the file
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(whole(result, view))
    return captured.get()
