"""Why did the model say that? One command, five questions, each answer beside the intervention that tests it.

What does it predict? When does it decide (lens)? Which words matter (attribution, tested by hiding words)? Which heads
and MLPs write the answer (direct attribution, tested by taking them out)? With a contrast: where does the difference
live (patching)? The summary is made of sentences whose checks passed; what did not pass is said as such.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.apps.explanation import question as asking
from cutaway.apps.explanation import record, report, sections, summary
from cutaway.apps.explanation.sections import Section
from cutaway.core.errors import StoreError
from cutaway.core.progress import track
from cutaway.core.provenance import record_of_model, record_of_task, versions

if TYPE_CHECKING:
    from cutaway.apps.explanation.question import Question
    from cutaway.models.model import Model


@dataclass(frozen=True, eq=False)
class Explanation:
    """One prediction explained.

    Attributes:
        question: what was asked: the prompt, the answer, what it is held against.
        sections: one answered question each, with its Result.
        summary: sentences that the checks support.
        commands: how to look deeper.
        provenance: model, versions, seed, time taken.
    """

    question: Question
    sections: tuple[Section, ...]
    summary: tuple[str, ...]
    commands: tuple[str, ...]
    provenance: Mapping[str, Any]

    def show(self) -> None:
        """Print it in the terminal; in a notebook it shows by itself."""
        report.show(self)

    def record(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return record.of(self)

    def html(self) -> str:
        """All of it as one page that needs no network."""
        return report.html(self)

    def save(self, path: str | Path) -> Path:
        """Write `.html` or `.json`, whole or not at all."""
        path = Path(path)
        writers: dict[str, Callable[[], str]] = {".html": self.html, ".json": lambda: record.text(self)}
        if path.suffix not in writers:
            raise StoreError(
                f"{path.name!r} ends in {path.suffix!r}.",
                "An explanation is kept as .html or .json,",
                f"for example {path.stem}.html.",
            )
        return report.write(path, writers[path.suffix]())

    def _repr_html_(self) -> str:
        return report.fragments(self)

    def __repr__(self) -> str:
        return f"Explanation({self.question.prompt!r} → {self.question.answer!r}: {' '.join(self.summary)})"


def explain(
    model: Model,
    prompt: str,
    *,
    instead: str | None = None,
    answer: str | None = None,
    seed: int = 0,
    controls: int = 20,
    limit: int = asking.LONGEST,
) -> Explanation:
    """Explain one prediction, and test the explanation.

    Args:
        model: a causal language model.
        prompt: the text whose next token is explained.
        instead: a contrast: the prompt with one thing changed, as many tokens long.
        answer: the token to explain; the model's own prediction by default. Of a longer answer the first token counts.
        seed: draws the random controls.
        controls: random sets that each claim is held against.
        limit: tokens that a prompt may have.

    Raises:
        TaskError: an empty or too long prompt, or a contrast that does not align; it says where.
        ModelError: a model that does not predict a next word.
    """
    started, begun = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    question = asking.ask(model, prompt, instead, answer, limit)
    makers = [sections.predicts, sections.decides, sections.words, sections.writes]
    if question.contrast:
        makers += [sections.differs, sections.differs_by_head]
    found = tuple(make(model, question, seed=seed, controls=controls) for make in track(makers, "explaining"))
    provenance = {
        "model": record_of_model(model),
        "versions": dict(versions()),
        "seed": seed,
        "controls": controls,
        "seconds": round(time.perf_counter() - started, 2),
        "command": summary.command(model, question, answer),
    }
    done = tuple(_with_origin(section, question, provenance, begun) for section in found)
    return Explanation(question, done, summary.sentences(question, done), summary.deeper(model, question), provenance)


def _with_origin(section: Section, question: Question, provenance: Mapping[str, Any], begun: str) -> Section:
    """A section whose Result no method made says that it comes from here."""
    if "method" in section.result.provenance:
        return section
    parameters = {name: provenance[name] for name in ("seed", "controls")}
    origin = {
        **{name: provenance[name] for name in ("model", "versions", "seconds", "command")},
        "method": "explain",
        "parameters": parameters,
        "task": record_of_task(question.task),
        "started": begun,
    }
    return replace(section, result=replace(section.result, provenance=origin))
