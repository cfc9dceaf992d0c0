"""How do I put a map of words into a LaTeX paper? Coloured boxes behind tokens, with nothing to install but xcolor.

    \\usepackage[table]{xcolor}

Each `tokens` view of a result becomes a line of boxes: red raises, blue lowers, as strongly as the value is large.
Special characters are escaped, and the values stand in a comment.
Limits: views of other kinds are left out; use SVG for them.
"""

from __future__ import annotations

from cutaway.core.errors import ParameterError
from cutaway.core.method import renderer
from cutaway.core.result import Result
from cutaway.core.roles import resolve

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\n": r"$\hookleftarrow$",
    "\t": r"\quad{}",
}


@renderer("latex", asks="How do I put a map of words into a LaTeX paper?")
def latex(result: Result) -> str:
    """LaTeX of every view of tokens."""
    drawn = [_line(result, number) for number, view in enumerate(result.views) if view.kind == "tokens"]
    if not drawn:
        kinds = ", ".join(dict.fromkeys(view.kind for view in result.views)) or "none"
        raise ParameterError(
            f"the result has no view of tokens (its views: {kinds});",
            "LaTeX is written of coloured tokens only.",
            "Save it as .svg.",
        )
    return "% \\usepackage[table]{xcolor}\n" + "\n\n".join(drawn) + "\n"


def _line(result: Result, number: int) -> str:
    view = result.views[number]
    parts = resolve(view, result.data)
    values = [float(value) for value in parts["value"].values.ravel()]
    tokens = [str(token) for token in parts["token"].values.ravel()]
    largest = max((abs(value) for value in values if value == value), default=0.0) or 1.0
    boxes = [_box(token, value / largest) for token, value in zip(tokens, values) if token]
    said = " ".join(f"{value:.4g}" for value in values if value == value)
    return f"% {_escaped(view.title)}: {said}\n" + "\n".join(boxes)


def _box(token: str, part: float) -> str:
    """A token on its colour: 0 to 60 % of red or blue; the space that it begins with stands before the box."""
    gap, word = (r"\ ", token[1:]) if token.startswith(" ") else ("", token)
    strength = 0 if part != part else round(60 * abs(part))
    colour = "blue" if part < 0 else "red"
    return rf"{gap}\colorbox{{{colour}!{strength}}}{{\strut {_escaped(word)}}}%"


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in text)
