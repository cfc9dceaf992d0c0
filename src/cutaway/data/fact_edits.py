"""Which facts of the project can be rewritten, and what is asked about each? The fact set as a set of edits.

Every subject of `cutaway.data.tasks.facts` with a new answer, that of another subject of its relation. Its other wordings
are the paraphrases, also behind an unrelated sentence; neighbours are subjects with the same true answer where there are
such, and otherwise others of the relation, with their own answers; references are what the fact set says of subjects for
which the new answer is true. A prompt from elsewhere gets an unrelated sentence before it as a paraphrase, and facts of
the set as neighbours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cutaway.data import corpora
from cutaway.data.edit_requests import EditRequest
from cutaway.data.sampling import choose, pick, pick_several
from cutaway.data.tasks.facts import RELATIONS, Relation
from cutaway.data.templates import fill

NEIGHBOURS = 5
BEGINNINGS = ("{subject} is", "What is known of {subject} is that", "When people speak of {subject}, they")


def fact_edits(n: int, seed: int, relation: str = "all") -> tuple[EditRequest, ...]:
    """`n` facts of the set, each with a new answer and with what is asked about it.

    Args:
        n: how many.
        seed: with which facts and new answers are drawn.
        relation: one of `RELATIONS`, or all.

    Raises:
        TaskError: there are not so many.
    """
    rng = np.random.default_rng(seed)
    names = list(RELATIONS) if relation == "all" else [relation]
    options = [(name, subject) for name in names for subject in RELATIONS[name].answers]
    return tuple(completed(_made(rng, *one), seed) for one in choose("counterfacts", n, rng, options))


def completed(request: EditRequest, seed: int) -> EditRequest:
    """The request with paraphrases, neighbours, beginnings and references where it has none."""
    rng = np.random.default_rng(seed)
    name, relation = _relation_of(request)
    others = tuple(template for template in relation.templates if _wording(request) != template) if relation else ()
    sentence = _sentence(rng)
    worded = [fill(template, {"subject": request.subject}).text for template in others]
    paraphrases = (*worded, *(f"{sentence} {text}" for text in (*worded, request.prompt)))
    beginnings = tuple(fill(text, {"subject": request.subject}).text for text in BEGINNINGS)
    return replace(
        request,
        paraphrases=request.paraphrases or paraphrases,
        neighbours=request.neighbours or _neighbours(rng, request, relation),
        beginnings=request.beginnings or (beginnings if request.before or request.after else ()),
        references=request.references or _references(request, relation),
        relation=request.relation or name,
    )


def _made(rng: np.random.Generator, name: str, subject: str) -> EditRequest:
    relation = RELATIONS[name]
    true = relation.answers[subject]
    other = pick(rng, [answers for answers in relation.answers.values() if not set(answers) & set(true)])
    before, after = relation.templates[0].split("{subject}")
    return EditRequest(before, subject, after, f" {other[0]}", f" {true[0]}", relation=name)


def _wording(request: EditRequest) -> str:
    return f"{request.before}{{subject}}{request.after}"


def _relation_of(request: EditRequest) -> tuple[str, Relation | None]:
    for name, relation in RELATIONS.items():
        if _wording(request) in relation.templates:
            return name, relation
    return "", None


def _sentence(rng: np.random.Generator) -> str:
    """A short sentence of plain text."""
    found = [text.split(". ")[0].rstrip(".") + "." for text in corpora.paragraphs()]
    return pick(rng, [text for text in found if 30 <= len(text) <= 80] or ["It was a long day."])


def _neighbours(
    rng: np.random.Generator, request: EditRequest, relation: Relation | None
) -> tuple[tuple[str, str], ...]:
    asked = relation or RELATIONS["capital"]
    new, true = request.target.strip(), request.true.strip()
    free = {
        subject: answers
        for subject, answers in asked.answers.items()
        if subject != request.subject and new not in answers and subject not in request.prompt
    }
    alike = [subject for subject, answers in free.items() if true in answers]
    rest = [subject for subject in free if subject not in alike]
    chosen = (pick_several(rng, alike, NEIGHBOURS) + pick_several(rng, rest, NEIGHBOURS))[:NEIGHBOURS]
    template = asked.templates[0]
    return tuple((fill(template, {"subject": one}).text, f" {free[one][0]}") for one in chosen)


def _references(request: EditRequest, relation: Relation | None) -> tuple[str, ...]:
    if relation is None:
        return ()
    new = request.target.strip()
    subjects = [
        subject for subject, answers in relation.answers.items() if new in answers and subject != request.subject
    ]
    return tuple(f"{fill(form, {'subject': one}).text} {new}." for one in subjects for form in relation.templates)
