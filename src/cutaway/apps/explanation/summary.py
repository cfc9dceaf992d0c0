"""What may be said in a sentence? Only what the checks support; what they do not is said as such."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cutaway.core.result import Check
from cutaway.drawing.words import number
from cutaway.methods import labels

if TYPE_CHECKING:
    from cutaway.apps.explanation.question import Question
    from cutaway.apps.explanation.sections import Section
    from cutaway.models.model import Model


def sentences(question: Question, sections: Sequence[Section]) -> tuple[str, ...]:
    """The summary: one sentence a section, each with its measured figure and its control."""
    return tuple(section.summary for section in sections if section.summary)


def against(check: Check) -> str:
    """The figure of a check beside its control, in words."""
    low, high = check.interval
    unit = f" {check.unit}" if check.unit else ""
    return f"{number(check.measured)}{unit}; random control {number(check.control)}, 95 % in [{number(low)}, {number(high)}]"


def quoted(tokens: Sequence[str]) -> str:
    """Tokens as a list in a sentence."""
    shown = [labels.quoted(token) for token in tokens]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def command(model: Model, question: Question, answer: str | None) -> str:
    """The command that repeats the explanation."""
    said = ["cutaway", "explain", question.prompt]
    said += ["--instead", question.contrast] if question.contrast else []
    said += ["--answer", answer] if answer else []
    said += ["--model", model.name] if model.name != "smollm2" else []
    return shlex.join(said)


def deeper(model: Model, question: Question) -> tuple[str, ...]:
    """Three commands to look deeper."""
    asked = [
        "--model",
        model.name,
        "--prompt",
        question.prompt,
        "--answer",
        question.answer,
        "--wrong",
        question.wrong,
    ]
    contrast = ["--contrast", question.contrast] if question.contrast else []
    methods = (
        ["patching", *asked, *contrast, "sites=z[*].head[*]@*"]
        if contrast
        else ["ablate", *asked, "sites=z[*].head[*]"],
        ["attention", *asked],
        ["logit_lens", *asked, "top=10"],
    )
    return tuple(shlex.join(["cutaway", "run", *asking]) for asking in methods)
